"""The executor and the database: what is durable when, and what becomes of a run."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from plugins import discovery
from pyflow.nodes import default_registry
from runs.models import EventRecord, NodeRun, Run
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import HELLO, make_run, make_tenant
from tests.support.histories import assert_is_whole

pytestmark = pytest.mark.database


def events(run: Run) -> list[str]:
    return [str(event) for event in EventRecord.objects.across_tenants().filter(run=run)]


def test_a_run_is_executed_to_its_end(tenant, drain):
    run = make_run(tenant)
    drain()
    assert_is_whole(run, ["greet"])
    assert events(run) == [
        "1 run.queued", "2 run.started", "3 node.started greet", "4 node.succeeded greet", "5 run.succeeded",
    ]  # fmt: skip
    assert run.outputs == {"greeting": "Hello Ada"}
    assert run.created_at <= run.started_at <= run.finished_at
    node = NodeRun.objects.for_tenant(tenant).get()
    assert (node.output, node.attempts, node.error) == ("Hello Ada", 1, None)
    assert node.started_at <= node.finished_at


def test_many_runs_of_many_tenants_are_executed_together(tenant, drain):
    runs = [make_run(owner) for owner in (tenant, make_tenant(), make_tenant()) for _ in range(20)]
    drain()
    for run in runs:
        assert_is_whole(run, ["greet"])
    assert {event.tenant_id for event in EventRecord.objects.across_tenants().filter(run=runs[0])} == {tenant.pk}


def test_a_run_of_version_1_sees_its_input_as_trigger(tenant, drain):
    source = (
        "name: old\ntrigger: {type: manual}\nnodes:\n"
        "  - {id: a, type: transform, config: {input: '{{ trigger.who }}', expression: $}}\n"
    )
    run = make_run(tenant, source, {"who": "Ada"})
    drain()
    assert_is_whole(run, ["a"])
    assert NodeRun.objects.for_tenant(tenant).get().output == "Ada"


def test_a_failed_node_fails_its_run_with_the_error(tenant, drain):
    nodes = (
        "{id: a, type: fail, config: {message: no price}}",
        "{id: b, type: log, depends_on: [a], config: {message: x}}",
    )
    run = make_run(tenant, workflow(*nodes))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert (run.error["message"], run.error["node_id"]) == ("no price", "a")
    states = {node.node_id: (node.state, node.reason != "") for node in NodeRun.objects.for_tenant(tenant)}
    assert states == {"a": ("failed", False), "b": ("skipped", True)}
    assert [event.seq for event in EventRecord.objects.for_tenant(tenant).filter(run__isnull=False)] == list(
        range(1, run.event_seq + 1)
    )


def test_a_result_is_committed_before_what_depends_on_it_starts(tenant, drain, registry):
    seen = {}

    def look(ctx) -> str:
        rows = NodeRun.objects.across_tenants().filter(run=ctx.run_id)
        seen[ctx.node_id] = {row.node_id: row.state for row in rows}
        connection.close()
        return ctx.node_id

    register(registry, "look", look)
    run = make_run(
        tenant,
        workflow(
            "{id: a, type: look}",
            "{id: b, type: look, depends_on: [a]}",
            "{id: c, type: look, depends_on: [a]}",
            "{id: d, type: look, depends_on: [b, c]}",
        ),
    )
    drain()
    assert_is_whole(run, "abcd")
    assert seen["a"].get("a") in {None, "running"}
    assert seen["b"]["a"] == seen["c"]["a"] == "succeeded"
    assert {seen["d"][node] for node in "abc"} == {"succeeded"}


def test_a_started_node_is_seen_while_it_runs(tenant, executor, finished, registry):
    go = threading.Event()
    register(registry, "hold", lambda ctx: go.wait(10))
    run = make_run(tenant, workflow("{id: a, type: hold}"))
    try:
        node = waiting.until(lambda: NodeRun.objects.for_tenant(tenant).filter(node_id="a").first())
        assert (node.state, node.attempts) == ("running", 1)
        assert "3 node.started a" in events(run)
    finally:
        go.set()
    assert_is_whole(finished(run), "a")


NOT_PLAIN = {
    "NaN": lambda ctx: float("nan"),
    "infinity": lambda ctx: {"x": [float("inf")]},
    "a NUL character": lambda ctx: "a\0b",
    "a NUL character in a key": lambda ctx: {"a\0b": 1},
    "a lone surrogate": lambda ctx: "\ud800",
    "an object": lambda ctx: {"x": object()},
    "bytes": lambda ctx: b"\xff",
    "a number of 100,000 digits": lambda ctx: 10**100_000,
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_a_result_that_is_not_json_fails_its_node(tenant, drain, registry, case: str):
    register(registry, "odd", NOT_PLAIN[case])
    run = make_run(tenant, workflow("{id: a, type: odd, retry: {max_attempts: 3, initial_interval: 1h}}"))
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"], run.error["node_id"]) == ("failed", "output_not_json", "a")
    assert run.error["message"].startswith("the result")


PLAIN = {
    "a tuple": (lambda ctx: (1, 2), [1, 2]),
    "a time": (lambda ctx: timezone.now().replace(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006+00:00"),
    "a number beyond 64 bits": (lambda ctx: 2**200, 2**200),
    "keys that are numbers": (lambda ctx: {1: "a"}, {"1": "a"}),
    "another script": (lambda ctx: "Ада 🎉", "Ада 🎉"),
    "nothing": (lambda ctx: None, None),
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_result_is_the_same_before_and_after_it_was_stored(tenant, drain, registry, case: str):
    make, expected = PLAIN[case]
    register(registry, "some", make)
    run = make_run(tenant, workflow("{id: a, type: some}", outputs="{a: '{{ a }}'}"))
    drain()
    assert_is_whole(run, "a")
    assert NodeRun.objects.for_tenant(tenant).get().output == run.outputs["a"] == expected


def test_an_error_whose_text_cannot_be_stored_ends_its_run_all_the_same(tenant, drain, registry):
    def fail(ctx) -> None:
        raise ValueError("a\0b \ud800 c")

    register(registry, "odd", fail)
    run = make_run(tenant, workflow("{id: a, type: odd}"))
    drain()
    run.refresh_from_db()
    assert (run.state, run.claims) == ("failed", 1)
    assert run.error["message"].startswith("a")


@pytest.mark.parametrize("template", ["{{ range(3) }}", '{{ "a\\\\0b" }}', "{{ [1.0e308 * 10] }}"])
def test_outputs_that_cannot_be_stored_fail_their_run(tenant, drain, template: str):
    run = make_run(tenant, workflow("{id: a, type: log, config: {message: x}}", outputs=f"{{x: '{template}'}}"))
    drain()
    run.refresh_from_db()
    assert (run.state, run.claims) == ("failed", 1) or run.outputs is not None
    assert run.finished_at is not None


def test_a_node_type_that_was_uninstalled_fails_the_run_and_says_so(tenant, drain, registry):
    register(registry, "gone", lambda ctx: 1)
    run = make_run(tenant, workflow("{id: a, type: gone}"))
    with discovery.using(discovery.Discovered(default_registry.copy(), ())):
        drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "gone" in run.error["message"]
    assert events(run)[-1].endswith("run.failed")


def test_a_failing_write_harms_only_its_own_run(tenant, executor, finished, monkeypatch):
    """The batch that it was part of is stored again, each write alone."""
    from runs.storage import batch_sql

    bad = make_run(make_tenant())
    store = batch_sql.store

    def refuse(rows):
        if any(row["id"] == bad.pk for row in rows.runs):
            raise ValueError("the disk has a grudge against this run")
        return store(rows)

    monkeypatch.setattr(batch_sql, "store", refuse)
    good = [make_run(tenant) for _ in range(10)]
    for run in good:
        assert_is_whole(finished(run), ["greet"])
    assert events(bad) == ["1 run.queued"]

    monkeypatch.undo()  # nothing was lost: it goes on when its lease has ended
    assert_is_whole(finished(bad), ["greet"])


def test_a_retry_waits_on_record(tenant, executor, finished, registry):
    attempts = []

    def flaky(ctx) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "done"

    register(registry, "flaky", flaky)
    run = make_run(tenant, workflow("{id: a, type: flaky, retry: {max_attempts: 3, initial_interval: 50ms}}"))
    assert_is_whole(finished(run), "a")
    assert attempts == [1, 2, 3]
    kinds = [event.type for event in EventRecord.objects.for_tenant(tenant).filter(run__isnull=False)]
    assert kinds.count("node.retrying") == 2
    assert kinds.count("node.started") == 3
    node = NodeRun.objects.for_tenant(tenant).get()
    assert (node.attempts, node.output, node.wake_at, node.error) == (3, "done", None, None)


@pytest.mark.breaks_invariant("each_claim_starts_a_run_once", reason="its rows are put into the tables as they are")
def test_a_wait_before_a_retry_survives_a_take_over(tenant, executor, finished, registry):
    """The recorded moment counts, not the interval from the beginning."""
    began = []
    register(registry, "flaky", lambda ctx: began.append(timezone.now()))
    due = timezone.now() + timedelta(seconds=0.4)
    with transaction.atomic():
        run = make_run(tenant, workflow("{id: a, type: flaky, retry: {max_attempts: 3, initial_interval: 1h}}"))
        NodeRun.objects.create(tenant=tenant, run=run, node_id="a", state="retrying", attempts=1, wake_at=due)
        Run.objects.across_tenants().filter(pk=run.pk).update(claims=1)
    assert_is_whole(finished(run), "a")
    assert len(began) == 1
    assert began[0] >= due
    assert NodeRun.objects.for_tenant(tenant).get().attempts == 2


def test_a_workflow_that_changes_meanwhile_does_not_change_a_run(tenant, drain):
    run = make_run(tenant)
    make_run(tenant, HELLO.replace("Hello {{", "Good day {{"), {"who": "Bob"})
    drain()
    run.refresh_from_db()
    assert run.outputs == {"greeting": "Hello Ada"}
