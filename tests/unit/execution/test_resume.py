"""Going on from recorded node runs, as after a crash."""

from typing import Any

import pytest

from pyflow.core.result import ErrorInfo, NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow


class Recorder:
    """A node type that notes that it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(self, config: dict[str, Any], _: Any) -> Any:
        self.ran.append(config["id"])
        return config.get("value")


def noted(id: str, *depends_on: str, value: Any = None, **fields: Any) -> dict[str, Any]:
    return node(id, "noted", *depends_on, config={"id": id, "value": value}, **fields)


def recorded(id: str, state: str, **fields: Any) -> tuple[str, NodeRun]:
    error = ErrorInfo("node_error", "it failed", "RuntimeError", id) if state in ("failed", "timed_out") else None
    return id, NodeRun(id, NodeState(state), error=error, **fields)


async def resume(definition: WorkflowDef, *runs: tuple[str, NodeRun], **fields: Any) -> tuple[RunResult, list[str]]:
    recorder = Recorder()
    result = await stage.run(definition, {"noted": recorder}, recorded=dict(runs), **fields)
    return result, recorder.ran


async def test_what_succeeded_is_not_executed_again_and_its_output_is_there():
    definition = workflow(noted("a"), noted("b", "a", value="{{ a.x }}"))
    result, ran = await resume(definition, recorded("a", "succeeded", output={"x": 7}, attempts=1))
    assert ran == ["b"]
    assert result.nodes["b"].output == 7
    assert result.nodes["a"].output == {"x": 7}
    assert result.succeeded


async def test_resuming_sends_no_event_a_second_time():
    sink = stage.Sink()
    await resume(workflow(noted("a"), noted("b", "a")), recorded("a", "succeeded"), sink=sink)
    assert sink.trail() == ["run.resumed", "node.started b", "node.succeeded b", "run.succeeded"]


async def test_a_run_whose_nodes_are_all_recorded_only_ends():
    result, ran = await resume(
        workflow(noted("a"), noted("b", "a")), recorded("a", "succeeded"), recorded("b", "succeeded")
    )
    assert ran == []
    assert result.succeeded


async def test_a_node_that_was_running_is_started_again_as_the_next_attempt():
    result, ran = await resume(workflow(noted("a")), recorded("a", "running", attempts=1))
    assert ran == ["a"]
    assert result.nodes["a"].attempts == 2


async def test_a_node_that_was_running_is_started_again_although_the_run_has_been_stopped_since():
    definition = workflow(noted("bad"), noted("a"), noted("b", "a"))
    result, ran = await resume(definition, recorded("bad", "failed"), recorded("a", "running", attempts=1))
    assert ran == ["a"]
    assert stage.states(result) == {"bad": "failed", "a": "succeeded", "b": "skipped"}


async def test_a_when_that_let_the_node_run_is_not_asked_again():
    definition = workflow(noted("a", when="input.go"))
    _, ran = await resume(definition, recorded("a", "running", attempts=1), input={"go": False})
    assert ran == ["a"]


async def test_a_retry_that_is_not_due_yet_waits_for_the_rest_of_its_time():
    clock = stage.Clock()
    run = recorded("a", "retrying", attempts=2, wake_at=clock.now + 30)
    result, ran = await resume(workflow(noted("a", retry={"max_attempts": 5}), noted("b", "a")), run, clock=clock)
    assert clock.slept == [30]
    assert ran == ["a", "b"]
    assert result.nodes["a"].attempts == 3


async def test_a_retry_that_is_due_starts_at_once():
    clock = stage.Clock()
    run = recorded("a", "retrying", attempts=1, wake_at=clock.now - 1)
    _, ran = await resume(workflow(noted("a", retry={})), run, clock=clock)
    assert (clock.slept, ran) == ([], ["a"])


async def test_the_attempts_before_the_crash_count():
    clock = stage.Clock()
    definition = workflow(node("a", "fail", retry={"max_attempts": 3}))
    run = recorded("a", "retrying", attempts=2, wake_at=clock.now)
    result, _ = await resume(definition, run, clock=clock)
    assert result.nodes["a"].attempts == 3
    assert clock.slept == []


async def test_a_recorded_failure_stops_what_follows_and_fails_the_run():
    definition = workflow(
        noted("bad"), noted("a"), noted("after", "bad", run_if="any_failed"), on_failure=[noted("page")]
    )
    result, ran = await resume(definition, recorded("bad", "failed"))
    assert result.state == "failed"
    assert ran == ["after", "page"]
    assert result.error is not None
    assert result.error.message == "it failed"


async def test_a_recorded_failure_that_was_tolerated_fails_nothing():
    definition = stage.v1(noted("a"), noted("b", "a"))
    result, ran = await resume(definition, recorded("a", "failed", tolerated=True))
    assert ran == ["b"]
    assert result.succeeded


async def test_a_skip_that_was_not_recorded_any_more_is_made_up_for():
    definition = workflow(noted("a"), noted("b", "a"), noted("c", "b"), noted("d", "c", run_if="all_done"))
    result, ran = await resume(definition, recorded("a", "skipped"))
    assert stage.states(result) == {"a": "skipped", "b": "skipped", "c": "skipped", "d": "succeeded"}
    assert ran == ["d"]


@pytest.mark.parametrize("state", ["failed", "timed_out"])
async def test_resuming_in_on_failure(state: str):
    definition = workflow(
        noted("a"),
        on_failure=[noted("p1"), noted("p2", "p1")],
        **{"finally": [noted("z", value="{{ run.error.message }}")]},
    )
    result, ran = await resume(definition, recorded("a", state), recorded("p1", "succeeded"))
    assert ran == ["p2", "z"]
    assert result.nodes["z"].output == "it failed"


async def test_resuming_in_finally_after_a_success():
    definition = workflow(noted("a"), on_failure=[noted("page")], **{"finally": [noted("z1"), noted("z2")]})
    result, ran = await resume(definition, recorded("a", "succeeded"), recorded("z1", "failed"))
    assert "page" not in ran  # a failure in `finally` says nothing about the graph
    assert result.state == "failed"


async def test_a_failure_in_on_failure_still_stops_it_after_a_crash():
    definition = workflow(noted("a"), on_failure=[noted("p1"), noted("p2"), noted("p3", "p2")])
    result, _ = await resume(
        definition, recorded("a", "failed"), recorded("p1", "failed"), recorded("p2", "running", attempts=1)
    )
    assert stage.states(result) == {"a": "failed", "p1": "failed", "p2": "succeeded", "p3": "skipped"}


async def test_a_record_of_a_node_that_is_gone_is_left_alone():
    result, ran = await resume(workflow(noted("a")), recorded("old", "succeeded", output=1))
    assert ran == ["a"]
    assert set(result.nodes) == {"a"}


async def test_only_the_chosen_nodes_run():
    definition = workflow(noted("a"), noted("b", "a"), noted("c", "b"))
    result, ran = await resume(definition, only=frozenset({"a", "b"}))
    assert ran == ["a", "b"]
    assert result.nodes["c"].reason == "not selected"


async def test_the_output_of_a_recorded_node_can_be_used_by_a_chosen_one():
    definition = workflow(noted("a"), noted("b", "a", value="{{ a }}"))
    result, ran = await resume(definition, recorded("a", "succeeded", output=5), only=frozenset({"b"}))
    assert (ran, result.nodes["b"].output) == (["b"], 5)


async def test_a_plan_can_be_run_many_times():
    engine = WorkflowEngine(stage.registry())
    definition = workflow(node("a", "fail", on_error="continue"), node("b"))
    first, second = await engine.execute(definition), await engine.execute(definition)
    assert stage.states(first) == stage.states(second)


async def test_a_node_whose_worker_was_lost_is_executed_again():
    result, ran = await resume(workflow(noted("a")), recorded("a", "running", attempts=1))
    assert ran == ["a"]
    assert result.nodes["a"].attempts == 2


async def test_a_node_that_may_happen_at_most_once_fails_when_its_worker_was_lost():
    definition = workflow(noted("a", on_lost="fail", retry={"max_attempts": 3}), noted("b", "a"))
    result, ran = await resume(definition, recorded("a", "running", attempts=1))
    assert ran == []
    assert result.nodes["a"].error.code == "worker_lost"
    assert str(result.state) == "failed"


async def test_the_start_of_a_node_that_may_happen_at_most_once_is_durable_before_it_runs():
    durable: list[str] = []

    class Sink(stage.Sink):
        async def commit(self, event: Any) -> None:
            durable.append(f"{event.type} {event.node_id}")
            await super().commit(event)

    definition = workflow(noted("a", on_lost="fail"), noted("b"))
    await resume(definition, sink=Sink())
    assert "node.started a" in durable
    assert "node.started b" not in durable
