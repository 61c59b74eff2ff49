"""Log files: times, tails and a bounded size."""

import os

import pytest

from streamforge_local.node.log import MAX_LINE_BYTES, Logs, Tail, timestamp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0.log"


def lines_of(path, *, last=None, fallback_ts=5.0):
    tail = Tail(path, fallback_ts=fallback_ts)
    assert tail.open(last=last)
    found = []
    while (lines := tail.read()) is not None:
        found += lines
    found += tail.rest()
    tail.close()
    return found


def test_a_json_line_has_its_own_time_and_a_plain_one_that_of_the_line_before(path):
    path.write_text(
        'plain\n{"timestamp": 12.5, "event": "a"}\nTraceback\n{"event": "b", "timestamp": "1970-01-01T00:00:20Z"}\n'
    )
    assert [ts for ts, _ in lines_of(path)] == [5.0, 12.5, 12.5, 20.0]


@pytest.mark.parametrize(
    ("line", "ts"),
    [
        (b'{"timestamp":"1970-01-01T00:00:01.5"}', 1.5),
        (b'{"timestamp":"1970-01-01T01:00:00+01:00"}', 0.0),
        (b'{"timestamp":"yesterday"}', None),
        (b'{"time":1}', None),
        (b'say "timestamp": 3', None),
    ],
)
def test_times_are_read_in_every_usual_form_and_never_guessed(line, ts):
    assert timestamp(line) == ts


@pytest.mark.parametrize("last", [0, 1, 2, 3, 5000, 10_000, 20_000])
def test_a_tail_gives_exactly_the_last_lines(path, last):
    everything = [f"line {number} {'x' * (number % 50)}" for number in range(10_000)]
    path.write_text("\n".join(everything) + "\n")
    assert [line for _, line in lines_of(path, last=last)] == everything[len(everything) - min(last, 10_000) :]


def test_a_last_line_without_its_end_is_a_line_too(path):
    path.write_text("a\nb")
    assert [line for _, line in lines_of(path)] == ["a", "b"]
    assert [line for _, line in lines_of(path, last=1)] == ["b"]


def test_an_endless_line_is_cut_and_bytes_that_are_no_text_are_shown(path):
    path.write_bytes(b"x" * (MAX_LINE_BYTES * 10) + b"\xff\n")
    found = lines_of(path)
    assert len(found) > 1
    assert "".join(line for _, line in found) == "x" * (MAX_LINE_BYTES * 10) + "�"


def test_a_reader_goes_on_where_it_was(path):
    path.write_text("a\n")
    tail = Tail(path, fallback_ts=1.0)
    tail.open()
    assert tail.read() == [(1.0, "a")]
    assert tail.read() is None
    with path.open("a") as file:
        file.write("b\n")
    assert tail.read(now=9.0) == [(9.0, "b")]
    tail.close()


def test_a_log_is_trimmed_on_the_disk_while_its_writer_and_its_reader_go_on(tmp_path):
    logs = Logs(tmp_path, keep_bytes=100_000)
    logs.prepare("job")
    path = logs.path("job", 0)
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    text = [f"line {number:06d} of a worker that talks a lot" for number in range(20_000)]
    reader = Tail(path, fallback_ts=0.0)
    followed = []
    for begin in range(0, 20_000, 1000):
        os.write(writer, ("\n".join(text[begin : begin + 1000]) + "\n").encode())
        if not reader.is_open:
            reader.open()
        while (lines := reader.read()) is not None:
            followed += [line for _, line in lines]
        logs.trim("job", 0)
    os.close(writer)
    reader.close()
    assert followed == text
    kept = [line for _, line in lines_of(path)]
    assert kept == text[-len(kept) :]
    assert 100_000 - len(text[0]) <= sum(len(line) + 1 for line in kept) <= 200_000
    assert path.stat().st_blocks * 512 < 300_000 < path.stat().st_size


def test_trimming_what_is_not_there_or_small_does_nothing(tmp_path):
    logs = Logs(tmp_path, keep_bytes=4096)
    assert logs.trim("job", 0) == 0
    logs.prepare("job")
    logs.path("job", 0).write_text("small\n")
    assert logs.trim("job", 0) == 0
    assert logs.jobs() == ["job"]
    logs.remove("job")
    assert logs.jobs() == []


def test_the_end_of_a_life_is_told_without_the_life_before(tmp_path):
    logs = Logs(tmp_path, keep_bytes=4096)
    logs.prepare("job")
    assert logs.size("job", 0) == 0
    logs.path("job", 0).write_bytes(b"of before\n")
    begin = logs.size("job", 0)
    with logs.path("job", 0).open("ab") as file:
        file.write(b"of now\n")
    assert logs.end("job", 0, behind=begin) == "of now\n"
    assert logs.end("job", 0, behind=0) == "of before\nof now\n"
    assert logs.end("job", 0, behind=1000) == ""


def test_the_end_of_a_life_is_bounded_and_never_a_hole_or_a_broken_letter(tmp_path):
    logs = Logs(tmp_path, keep_bytes=4096)
    logs.prepare("job")
    logs.path("job", 0).write_bytes("\u00e9".encode() * 5000 + b"x")
    assert logs.end("job", 0, behind=0) == "\u00e9" * 1023 + "x"
    logs.path("job", 0).write_bytes(bytes(5000) + b"end\n")
    assert logs.end("job", 0, behind=0) == "end\n"
