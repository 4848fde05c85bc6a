"""What waits costs nothing but its rows: how claims and sweeps find theirs, as SQLite plans it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from runs.models import Run
from runs.queue.leases import claim, unclaimed_queues
from runs.services.end import end_unstarted
from runs.services.stop_children import stop_orphans
from tests.support.factories.rows import make_run


@contextmanager
def explained() -> Iterator[list[str]]:
    """The steps of each query about runs, planned with the parameters that it came with."""
    steps: list[str] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().startswith(("SELECT", "WITH")) and Run._meta.db_table in sql:
            context["cursor"].execute(f"EXPLAIN QUERY PLAN {sql}", params)
            steps.extend(row[-1] for row in context["cursor"].fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield steps


@pytest.mark.parametrize(
    ("look", "index"),
    [
        (end_unstarted, "run_deadlines"),
        (stop_orphans, "run_orphans"),
        (unclaimed_queues, "run_timers"),
        (unclaimed_queues, "run_leases"),
        (unclaimed_queues, "run_queue"),
        (lambda: claim("me", 10), "run_timers"),
        (lambda: claim("me", 10, queues=("",)), "run_queue"),
    ],
)
def test_each_is_found_through_an_index_of_what_is_to_be_done(tenant, look, index):
    make_run(tenant)
    with explained() as steps:
        look()
    assert any(f"INDEX {index} " in f"{step} " for step in steps), steps
    # Neither the whole table nor a whole index of it.
    assert [step for step in steps if step == f"SCAN {Run._meta.db_table}"] == []
