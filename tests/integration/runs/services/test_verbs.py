"""Pause, resume, retry and terminate, with executors at work."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from runs.errors import RunFinishedError, RunStateError, RunUndoneError
from runs.models import NodeItem, NodeRun, Run
from runs.services.cancel import cancel_run
from runs.services.pause import pause_run, resume_run
from runs.services.reruns import rerun
from runs.services.retry import retry_run
from runs.services.terminate import terminate_run
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_workflow
from tests.support.invariants import written_by_hand
from tests.support.processes.running import ended, nodes, operator, seqs, state_of, types

pytestmark = pytest.mark.database
#: As often executors look for what is due, in these tests.
SWEEP = timedelta(seconds=0.1)


def do(verb, run: Run) -> Run:
    return verb(by=operator(run), run_id=run.pk)


class Gate:
    """A node type whose nodes count their calls, and wait until the gate is opened."""

    def __init__(self, registry) -> None:
        self.open = threading.Event()
        self.calls: list[str] = []
        register(registry, "gate", self._pass)

    def _pass(self, ctx) -> str:
        self.calls.append(ctx.node_id)
        assert self.open.wait(20)
        return ctx.node_id


class Fails:
    """A node type that fails until it is mended, and counts its calls by node or item."""

    def __init__(self, registry) -> None:
        self.mended = False
        self.calls: list[str] = []
        register(registry, "try", self._run)

    def _run(self, ctx, config) -> str:
        name = str(getattr(config, "name", ctx.node_id))
        self.calls.append(name)
        if getattr(config, "bad", False) and not self.mended:
            raise ValueError("not yet")
        return name


CHAIN = ("{id: a, type: gate}", "{id: b, type: gate, depends_on: [a]}")


def test_a_paused_run_ends_what_runs_and_starts_nothing_until_it_is_resumed(
    tenant, registry, executor, finished, heard
):
    gate = Gate(registry)
    run = make_run(tenant, workflow(*CHAIN))
    waiting.until(lambda: gate.calls, what="first node")
    assert do(pause_run, run).state == "running"
    assert heard.wait(10)
    gate.open.set()
    waiting.until(lambda: state_of(run) == "paused", what="paused run")
    assert (gate.calls, nodes(run)) == (["a"], {"a": "succeeded"})
    assert (run.owner, run.lease_until, run.wake_at) == ("", None, None)
    assert do(resume_run, run).state == "queued"
    finished(run)
    assert (run.state, gate.calls, nodes(run)) == ("succeeded", ["a", "b"], {"a": "succeeded", "b": "succeeded"})
    assert seqs(run) == list(range(1, run.event_seq + 1))
    assert (types(run)["run.paused"], types(run)["run.resumed"]) == (1, 1)


def test_a_queued_run_that_is_paused_is_claimed_by_nobody(tenant, drain):
    run = make_run(tenant)
    assert do(pause_run, run).state == "paused"
    drain()
    assert (state_of(run), run.claims) == ("paused", 0)
    do(resume_run, run)
    drain()
    assert state_of(run) == "succeeded"


def test_a_pause_survives_the_loss_of_the_executor(tenant, drain):
    run = make_run(tenant)
    Run.objects.across_tenants().update(state="running", owner="lost", lease_until="2026-01-01T00:00:00Z", epoch=1)
    do(pause_run, run)
    drain()
    assert (state_of(run), nodes(run)) == ("paused", {})


def test_timers_that_come_due_while_paused_wait(tenant, executor, finished):
    run = make_run(tenant, workflow("{id: a, type: wait, config: {duration: 300ms}}"))
    waiting.until(lambda: state_of(run) == "waiting", what="waiting run")
    assert do(pause_run, run).state == "paused"
    due = NodeRun.objects.for_tenant(tenant).get().wake_at + 3 * SWEEP
    waiting.until(lambda: timezone.now() > due, what="due timer")
    assert (state_of(run), nodes(run)) == ("paused", {"a": "waiting"})
    do(resume_run, run)
    assert finished(run).state == "succeeded"


def test_a_fan_out_is_paused_between_its_items(tenant, registry, executor, finished, heard):
    gate = Gate(registry)
    run = make_run(tenant, workflow("{id: a, type: gate, for_each: '{{ [1, 2, 3, 4] }}', max_parallel: 1}"))
    waiting.until(lambda: gate.calls, what="first item")
    do(pause_run, run)
    assert heard.wait(10)
    gate.open.set()
    waiting.until(lambda: state_of(run) == "paused", what="paused run")
    assert NodeItem.objects.for_tenant(tenant).count() == len(gate.calls) == 1
    do(resume_run, run)
    assert finished(run).state == "succeeded"
    assert len(gate.calls) == 4


def test_a_pause_that_is_taken_back_at_once_stops_nothing(tenant, registry, executor, finished):
    gate = Gate(registry)
    run = make_run(tenant, workflow(*CHAIN))
    waiting.until(lambda: gate.calls, what="first node")
    do(pause_run, run)
    assert do(resume_run, run).state == "running"
    gate.open.set()
    assert finished(run).state == "succeeded"


def test_a_paused_run_can_be_cancelled(tenant, drain):
    run = make_run(tenant)
    do(pause_run, run)
    do(cancel_run, run)
    drain()
    assert state_of(run) == "cancelled"
    with pytest.raises(RunFinishedError, match=r"as cancelled\. Possible now: retry, rerun"):
        do(pause_run, run)


def test_a_run_that_is_not_paused_is_not_resumed(tenant):
    run = make_run(tenant)
    with pytest.raises(RunStateError, match=r"not paused: it is queued\. Possible now: cancel, terminate, pause"):
        do(resume_run, run)


def test_a_run_that_was_asked_to_stop_is_not_paused(tenant):
    run = make_run(tenant)
    do(cancel_run, run)
    with pytest.raises(RunStateError, match="being cancelled"):
        do(pause_run, run)


def test_retry_does_what_failed_and_what_was_not_reached(tenant, registry, drain):
    fails = Fails(registry)
    run = make_run(
        tenant,
        workflow(
            "{id: a, type: try}",
            "{id: b, type: try, depends_on: [a], config: {bad: true}}",
            "{id: c, type: try, depends_on: [b]}",
            "{id: d, type: try, depends_on: [a]}",
        ),
    )
    drain()
    assert (state_of(run), nodes(run)["c"]) == ("failed", "skipped")
    fails.mended = True
    retried = do(retry_run, run)
    assert (retried.state, retried.error, retried.finished_at, retried.retries) == ("queued", None, None, 1)
    drain()
    assert (state_of(run), set(nodes(run).values())) == ("succeeded", {"succeeded"})
    assert sorted(fails.calls) == ["a", "b", "b", "c", "d"]
    assert seqs(run) == list(range(1, run.event_seq + 1))
    assert (types(run)["run.failed"], types(run)["run.succeeded"], types(run)["run.queued"]) == (1, 1, 2)


def test_completed_items_stay_and_failed_ones_are_tried_again(tenant, registry, drain):
    fails = Fails(registry)
    source = workflow(
        "{id: a, type: try, for_each: '{{ [0, 1, 2, 3, 4] }}', config: {name: '{{ item }}', bad: '{{ item == 3 }}'},"
        " max_parallel: 1}"
    )
    run = make_run(tenant, source)
    drain()
    assert (state_of(run), fails.calls) == ("failed", ["0", "1", "2", "3"])
    fails.mended = True
    do(retry_run, run)
    drain()
    assert (state_of(run), fails.calls) == ("succeeded", ["0", "1", "2", "3", "3", "4"])
    assert NodeRun.objects.for_tenant(tenant).get().output == ["0", "1", "2", "3", "4"]


def test_what_finishes_a_run_is_done_again_at_its_new_end(tenant, registry, drain):
    fails = Fails(registry)
    source = workflow("{id: a, type: try, config: {bad: true}}", finally_="[{id: z, type: try}]").replace(
        "finally_", "finally"
    )
    run = make_run(tenant, source)
    drain()
    fails.mended = True
    do(retry_run, run)
    drain()
    assert (state_of(run), fails.calls) == ("succeeded", ["a", "z", "a", "z"])


def test_a_timeout_counts_anew_after_a_retry(tenant, registry, drain):
    fails = Fails(registry)
    run = make_run(tenant, workflow("{id: a, type: try, config: {bad: true}}", settings="{timeout: 1h}"))
    drain()
    Run.objects.across_tenants().update(started_at="2026-01-01T00:00:00Z")
    fails.mended = True
    do(retry_run, run)
    drain()
    assert state_of(run) == "succeeded"
    assert run.started_at.year > 2025
    assert run.started_at <= run.finished_at


def test_a_run_that_was_compensated_is_not_retried(tenant, registry, drain):
    Fails(registry)
    run = make_run(
        tenant,
        workflow(
            "{id: a, type: try, compensate: {type: try}}", "{id: b, type: try, depends_on: [a], config: {bad: true}}"
        ),
    )
    drain()
    with pytest.raises(RunUndoneError, match=r"has been undone.*Possible now: rerun"):
        do(retry_run, run)
    assert state_of(run) == "failed"


@written_by_hand
@pytest.mark.parametrize("state", ["queued", "running", "waiting", "paused", "succeeded"])
def test_only_a_run_that_did_not_succeed_is_retried(tenant, state: str):
    run = make_run(tenant)
    Run.objects.across_tenants().update(state=state)
    with pytest.raises(RunStateError, match="Only a run that did not succeed"):
        do(retry_run, run)


def test_a_failed_child_run_is_retried_with_its_parent(tenant, registry, drain):
    fails = Fails(registry)
    make_workflow(
        tenant,
        workflow("{id: x, type: try}", "{id: y, type: try, depends_on: [x], config: {bad: true}}", name="child"),
    )
    run = make_run(tenant, workflow("{id: a, type: workflow, config: {workflow: child}}"))
    drain()
    assert state_of(run) == "failed"
    fails.mended = True
    do(retry_run, run)
    drain()
    assert (state_of(run), fails.calls) == ("succeeded", ["x", "y", "y"])
    assert Run.objects.for_tenant(tenant).get(parent=run).retries == 1


def test_terminate_ends_a_run_without_clean_up(tenant, registry, executor):
    gate = Gate(registry)
    source = workflow("{id: a, type: gate}", finally_="[{id: z, type: log, config: {message: x}}]").replace(
        "finally_", "finally"
    )
    run = make_run(tenant, source)
    waiting.until(lambda: nodes(run) == {"a": "running"}, what="first node on record")
    assert do(terminate_run, run).state == "cancelled"
    gate.open.set()
    ended(run, "cancelled")
    assert nodes(run) == {"a": "cancelled"}
    assert run.error["message"] == "the run was terminated"
    assert seqs(run) == list(range(1, run.event_seq + 1))
    with pytest.raises(RunFinishedError):
        do(terminate_run, run)


def race(*calls) -> list[object]:
    """Do all at the same time; what each gave, or the error that it raised."""
    barrier = threading.Barrier(len(calls))

    def one(call):
        barrier.wait()
        try:
            return call()
        except (RunStateError, RunFinishedError) as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


RACES = 20


def test_verbs_that_race_with_the_end_leave_one_end(tenant, executor):
    for number in range(RACES):
        run = make_run(tenant)
        verb = (cancel_run, terminate_run)[number % 2]
        race(lambda run=run, verb=verb: do(verb, run))
        waiting.until(lambda run=run: state_of(run) in {"succeeded", "cancelled"}, what="end")
        ends = [type for type in types(run) if type in {"run.succeeded", "run.cancelled", "run.failed"}]
        assert (len(ends), types(run)[ends[0]]) == (1, 1)
        assert ends == [f"run.{run.state}"]
        assert seqs(run) == list(range(1, run.event_seq + 1))


def test_of_many_retries_at_once_one_counts(tenant, registry, drain, executor):
    fails = Fails(registry)
    for _ in range(RACES // 4):
        fails.mended = False
        run = make_run(tenant, workflow("{id: a, type: try, config: {bad: true}}"))
        ended(run, "failed")
        fails.mended = True
        outcomes = race(*[lambda run=run: do(retry_run, run)] * 4)
        assert sum(isinstance(outcome, Run) for outcome in outcomes) == 1
        ended(run, "succeeded")
        assert (types(run)["run.failed"], types(run)["run.succeeded"]) == (1, 1)


def test_a_rerun_executes_from_its_node_on_and_undoes_only_its_own(tenant, registry, drain):
    fails = Fails(registry)
    fails.mended = True
    source = workflow(
        "{id: a, type: try, compensate: {type: try}}",
        "{id: b, type: try, depends_on: [a], compensate: {type: try}}",
        "{id: c, type: try, depends_on: [b], config: {bad: true}}",
    )
    run = make_run(tenant, source)
    drain()
    assert state_of(run) == "succeeded"
    fails.mended = False
    repeated = rerun(by=operator(run), run_id=run.pk, start_from="b", version="original")
    drain()
    assert (state_of(repeated), state_of(run)) == ("failed", "succeeded")
    assert fails.calls == ["a", "b", "c", "b", "c", "b:compensate"]
    assert seqs(repeated) == list(range(1, repeated.event_seq + 1))


def test_a_run_is_started_once_and_resumed_afterwards(tenant, drain):
    run = make_run(
        tenant, workflow("{id: a, type: wait, config: {duration: 200ms}}", "{id: b, type: fail, depends_on: [a]}")
    )
    waiting.until(lambda: (drain(), state_of(run) == "failed")[1], what="end of the run")
    assert (types(run)["run.started"], types(run)["run.resumed"]) == (1, 1)
    do(retry_run, run)
    drain()
    assert (types(run)["run.started"], types(run)["run.resumed"]) == (1, 2)
