"""Which lines of a worker's output are shown with its end."""

from queue_manager.launcher.output import last_lines


def test_the_last_ten_lines_are_shown_and_empty_ones_left_out():
    lines = tuple(f"line {number}" for number in range(20))
    assert last_lines("\n\n".join(lines)) == lines[10:]
    assert last_lines("") == ()


def test_they_are_at_most_two_kibibytes():
    (line,) = last_lines("\u00e9" * 5000)
    assert len(line.encode()) == 2048
    assert last_lines("a" + "\u00e9" * 1500) == ("\u00e9" * 1024,)
