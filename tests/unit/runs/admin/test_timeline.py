"""The timeline of a run as SVG."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from pyflow.compare.drawing import COLOURS
from runs.admin import timeline
from runs.admin.timeline import Bar, duration, svg

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def bar(name: str, start: float, end: float | None, state: str = "succeeded") -> Bar:
    return Bar(name, state, at(start), None if end is None else at(end))


def drawn(*bars: Bar, now: float = 100.0) -> ElementTree.Element:
    return ElementTree.fromstring(svg(bars, now=at(now)))


def rectangles(picture: ElementTree.Element) -> list[tuple[float, float]]:
    """Where each bar begins and how wide it is."""
    return [(float(r.get("x", "")), float(r.get("width", ""))) for r in picture.iterfind(f"{SVG}g/{SVG}rect")]


def titles(picture: ElementTree.Element) -> list[str | None]:
    return [title.text for title in picture.iterfind(f"{SVG}g/{SVG}title")]


def test_without_nodes_there_is_no_picture():
    assert svg([], now=BEGAN) == ""


def test_bars_stand_in_the_order_of_their_start_and_are_as_wide_as_they_took():
    picture = drawn(bar("second", 4, 8), bar("first", 0, 4, "failed"))
    assert titles(picture) == ["first: failed, 4 s", "second: succeeded, 4 s"]
    (first, width), (second, same) = rectangles(picture)
    assert width == same
    assert second == pytest.approx(first + width, abs=0.2)


def test_what_has_not_ended_reaches_to_now():
    picture = drawn(bar("ended", 0, 5), bar("goes on", 0, None, "running"), now=10)
    assert titles(picture)[1] == "goes on: running, 10 s …"
    (_, half), (_, whole) = rectangles(picture)
    assert whole == pytest.approx(2 * half, abs=0.2)


def test_the_colour_is_that_of_the_state():
    picture = drawn(bar("a", 0, 1, "failed"), bar("b", 0, 1, "unheard of"))
    fills = [rect.get("fill") for rect in picture.iterfind(f"{SVG}g/{SVG}rect")]
    assert fills == [COLOURS["failed"].fill, "#ffffff"]


def test_a_moment_is_seen_too():
    [(_, width)] = rectangles(drawn(bar("quick", 0, 0)))
    assert width >= 2


def test_an_end_before_its_start_is_no_time_at_all():
    """Clocks of two workers may differ."""
    assert titles(drawn(bar("a", 0, 5), bar("b", 3, 2)))[1] == "b: succeeded, 0 ms"


def test_names_are_escaped_and_long_ones_cut():
    evil = '<script>alert("1")</script>&' + "x" * 40
    picture = drawn(bar(evil, 0, 1))
    assert titles(picture) == [f"{evil}: succeeded, 1 s"]
    [shown, *_] = [text.text for text in picture.iterfind(f"{SVG}g/{SVG}text")]
    assert shown == f"{evil[:27]}…"


def test_the_rest_of_many_is_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timeline, "MOST_BARS", 3)
    picture = drawn(*(bar(f"n{number}", number, number + 1) for number in range(1203)))
    assert len(rectangles(picture)) == 3
    assert [text.text for text in picture.iterfind(f"{SVG}text")][-1] == "… and 1,200 more"


@pytest.mark.parametrize("seconds", [0, 0.003, 0.9, 7, 59, 3599, 86_400, 10_000_000])
def test_the_axis_has_a_few_round_marks_and_none_beyond_the_end(seconds: float):
    picture = drawn(bar("a", 0, seconds))
    places = [float(line.get("x1", "")) for line in picture.iterfind(f"{SVG}line")]
    assert 2 <= len(places) <= timeline._TICKS + 1
    assert places == sorted(places)
    [(start, width)] = rectangles(picture)
    assert places[0] == start
    assert places[-1] <= start + max(width, 600) + 0.1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.34, "340 ms"), (2.5, "2.5 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"),
     (18_720, "5 h 12 min"), (86_399.5, "1 d"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_lengths_of_time_for_people(seconds: float, text: str):
    assert duration(seconds) == text
