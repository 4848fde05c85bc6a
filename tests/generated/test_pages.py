"""Every list: its pages stay in place while rows are inserted, and it takes no parameter that it does not know."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.api import assert_problem, read
from tests.support.factories.worlds import FullTenant, grow
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations

pytestmark = [
    pytest.mark.api,
    pytest.mark.vendor("each vendor compares what is in a cursor in its own way"),
    made_of_rows,
]
LISTS = {id: operation for id, operation in operations().items() if operation.is_list}
PAGED = {id: operation for id, operation in LISTS.items() if operation.has_pages}
NAMES = ("id", "seq", "number", "index", "name")
ROWS = 4


@pytest.fixture(scope="module")
def module_worlds(module_worlds: tuple[FullTenant, FullTenant]) -> tuple[FullTenant, FullTenant]:
    """With more than a page of everything."""
    for world in module_worlds:
        grow(world, ROWS)
    return module_worlds


def name_of(row: dict[str, Any]) -> Any:
    """The key that distinguishes a row from the others of its list."""
    return next(row[name] for name in NAMES if name in row)


def pages(world: FullTenant, address: str, between: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
    """A list page by page."""
    link: str | None = address
    while link is not None:
        page = read(world.api.get(link))
        yield page
        between()
        link = page["next"]


def names(world: FullTenant, address: str, between: Callable[[], None] = lambda: None) -> list[Any]:
    """The rows of a list, page by page."""
    return [name_of(row) for page in pages(world, address, between) for row in page["results"]]


def orders(operation: Operation) -> list[str]:
    """The addresses of a list in each of its orders, to which a limit can be added."""
    choices = [item["schema"]["enum"] for item in operation.parameters("query") if item["name"] == "ordering"]
    return [f"?ordering={order}&" for order in choices[0]] if choices else ["?"]


def test_every_list_has_pages_or_a_reason():
    # What the installation has, and the grants of one workflow: few. Events go by `after`. Slots to come have no end:
    # `n` says how many.
    assert LISTS.keys() - PAGED.keys() == {
        *("nodes_list", "plugins_list", "grants_list", "runs_events", "events_list", "event_types_list"),
        "schedules_preview",
    }


@pytest.mark.parametrize("operation", PAGED.values(), ids=PAGED)
def test_no_row_is_missed_or_seen_twice_while_rows_are_inserted(ours: FullTenant, operation: Operation):
    for order in orders(operation):
        address = ours.path(operation) + order
        there = names(ours, f"{address}limit=200")
        assert len(there) == len(set(there)), order
        assert len(there) > ROWS or "finished" in order, order
        seen = names(ours, f"{address}limit=2", lambda: grow(ours, 1) if ours.grown < 3 * ROWS else None)
        assert len(seen) == len(set(seen)), order
        assert [name for name in seen if name in there] == there, order


@pytest.mark.parametrize("operation", PAGED.values(), ids=PAGED)
def test_the_way_back_is_the_way_there(ours: FullTenant, operation: Operation):
    for order in orders(operation):
        there = list(pages(ours, f"{ours.path(operation)}{order}limit=2"))
        assert there[0]["previous"] is None
        link, back = there[-1]["previous"], [there[-1]["results"]]
        while link is not None:
            page = read(ours.api.get(link))
            back.insert(0, page["results"])
            link = page["previous"]
        assert json.dumps(back) == json.dumps([page["results"] for page in there]), order


@pytest.mark.parametrize("operation", LISTS.values(), ids=LISTS)
def test_what_a_list_does_not_know_is_refused(ours: FullTenant, operation: Operation):
    address = ours.path(operation)
    assert_problem(ours.api.get(f"{address}?unknown_filter=1"), 422, "input_invalid")
    if operation.has_pages:
        assert len(read(ours.api.get(f"{address}?limit=1"))["results"]) == 1
        for limit in ("0", "-1", "201", "x", "1.5", "", "9" * 30):
            assert_problem(ours.api.get(f"{address}?limit={limit}"), 422, "input_invalid")


@pytest.mark.parametrize("operation", PAGED.values(), ids=PAGED)
def test_a_cursor_that_was_changed_or_is_anothers_is_refused(
    ours: FullTenant, theirs: FullTenant, operation: Operation
):
    address = ours.path(operation)
    [cursor] = parse_qs(urlsplit(read(ours.api.get(f"{address}?limit=1"))["next"]).query)["cursor"]
    [foreign] = parse_qs(urlsplit(read(theirs.api.get(f"{theirs.path(operation)}?limit=1"))["next"]).query)["cursor"]
    other = PAGED["api_keys_list" if operation.id == "members_list" else "members_list"]
    [elsewhere] = parse_qs(urlsplit(read(ours.api.get(f"{ours.path(other)}?limit=1"))["next"]).query)["cursor"]
    middle = len(cursor) // 2
    tampered = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    for wrong in (foreign, elsewhere, tampered, cursor[:-1], "x", "." * 3, "a:b:c"):
        assert_problem(ours.api.get(f"{address}?limit=1&cursor={wrong}"), 400, "cursor_invalid")
