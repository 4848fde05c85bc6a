"""Documents of versions for reading: numbered, and compared line by line."""

from pyflow.compare import text_diff
from tests.support.work import lines_run
from workflows import comparison
from workflows.comparison import Line, compared, numbered


def test_lines_count_from_one():
    assert numbered("a\nb\n") == [(1, "a"), (2, "b"), (3, "")]


def test_documents_that_are_alike_differ_in_nothing():
    assert compared("a\nb\n", "a\nb\n") == []


def test_a_change_stands_between_the_lines_around_it():
    old = "".join(f"{n}\n" for n in range(1, 21))
    assert compared(old, old.replace("10\n", "ten\nand a bit\n")) == [
        Line("place", None, None, "lines 7–13 are 7–14"),
        Line("same", 7, 7, "7"),
        Line("same", 8, 8, "8"),
        Line("same", 9, 9, "9"),
        Line("removed", 10, None, "10"),
        Line("added", None, 10, "ten"),
        Line("added", None, 11, "and a bit"),
        Line("same", 11, 12, "11"),
        Line("same", 12, 13, "12"),
        Line("same", 13, 14, "13"),
    ]


def test_changes_far_from_each_other_are_two_places():
    old = "".join(f"{n}\n" for n in range(40))
    lines = compared(old, old.replace("5\n", "five\n", 1).replace("\n30\n", "\n"))
    assert [line.text for line in lines if line.kind == "place"] == ["lines 3–9 are 3–9", "lines 28–34 are 28–33"]
    assert [(line.kind, line.text) for line in lines if line.kind in {"added", "removed"}] == [
        ("removed", "5"),
        ("added", "five"),
        ("removed", "30"),
    ]


def test_documents_are_cut_at_so_many_lines(monkeypatch):
    monkeypatch.setattr(comparison, "MOST_LINES", 3)
    assert numbered("a\nb\nc\nd") == [(1, "a"), (2, "b"), (3, "c")]
    assert compared("a\nb\nc\nd", "a\nb\nc\ne") == []
    assert [line.text for line in compared("a\nb", "a\nc\nd\ne") if line.kind == "added"] == ["c", "d"]


def test_lines_that_are_repeated_on_purpose_take_no_more_work_than_others(monkeypatch):
    """A hundred lines sixteen times, backwards: difflib does eighty times the work for them."""
    monkeypatch.setattr(text_diff, "MAX_EDITS", 100)
    repeated, others = ([f"line {n % kinds}" for n in range(1600)] for kinds in (100, 1600))

    def work(lines: list[str]) -> int:
        return lines_run(lambda: compared("\n".join(lines), "\n".join(lines[::-1])))

    assert work(repeated) < 2 * work(others)
