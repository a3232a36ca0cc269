"""What is told of the errors of other libraries."""

from dfshield.errors import one_line


def test_a_message_without_spaces_is_cut_not_lost():
    told = one_line(OSError("x" * 10_000))
    assert told.startswith("xxx")
    assert len(told) < 1000
    assert one_line(OSError()) == "OSError"
    assert one_line(OSError("a\n  b")) == "a b"
