"""The lines of a pod's log out of the pieces of an answer."""

import pytest

from queue_manager.launcher.kubernetes.api import ClusterError
from queue_manager.launcher.kubernetes.podlog import MAX_LINE, Line, _stamped, split, stamp_seconds


async def pieces(*given):
    for piece in given:
        yield piece


async def lines(*given):
    return [line async for line in split(pieces(*given))]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\n", b"\nc"], ["ab", "", "c"]),
        ([b"\xc3", b"\xa4\n"], ["ä"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"a\r\n"], ["a"]),
        ([], []),
    ],
)
async def test_lines_are_put_together(given, wanted):
    assert await lines(*given) == wanted


async def test_a_line_without_end_takes_no_memory_and_says_what_is_missing():
    assert await lines(*[b"x" * 1000] * 1000, b"\nnext\n") == [
        "x" * MAX_LINE + f" [{10**6 - MAX_LINE} bytes more]",
        "next",
    ]


@pytest.mark.parametrize(
    ("stamp", "wanted"),
    [
        ("2024-08-01T00:00:00.000000000Z", 1722470400.0),
        ("2024-08-01T00:00:00.123456789Z", 1722470400.123456789),
        ("2024-08-01T00:00:00Z", 1722470400.0),
    ],
)
def test_stamps_have_nanoseconds(stamp, wanted):
    assert stamp_seconds(stamp) == wanted


async def test_each_line_has_its_time():
    found = [line async for line in _stamped(pieces(b"2024-08-01T00:00:00.5Z a b\n2024-08-01T00:00:01Z \n"))]
    assert found == [Line(1722470400.5, "a b"), Line(1722470401.0, "")]


async def test_what_a_kubelet_says_in_the_logs_place_is_no_line():
    words = b"unable to retrieve container logs for containerd://abc"
    with pytest.raises(ClusterError, match="unable to retrieve") as told:
        _ = [line async for line in _stamped(pieces(words))]
    assert told.value.status == 404
