"""`wait`, `signal` and `approval`: in a run that goes on, in one that is parked, and when nothing comes."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from pyflow.core.errors import NonRetryableError
from pyflow.core.events import posix
from pyflow.core.ports import MemorySink
from pyflow.core.result import RunResult
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import Signal, Suspension
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.execution import Execution
from pyflow.nodes.approval import ApprovalNode, DecisionError, check_decision, may_decide
from pyflow.nodes.signal import SignalNode
from pyflow.nodes.wait import WaitNode, parse_time
from pyflow.testing import ManualClock
from pyflow_sdk.node import NodeContext
from pyflow_sdk.testing import run_node
from tests.support.factories import stage
from tests.unit.nodes.web import workflow

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAY = 86400.0
FORM = {
    "type": "object",
    "required": ["carrier"],
    "properties": {"carrier": {"enum": ["dhl", "ups"]}},
    "additionalProperties": False,
}


def start(
    type_: str, config: Mapping[str, Any], clock: ManualClock | None = None, **options: Any
) -> tuple[Execution, ManualClock, MemorySink]:
    clock, sink = clock or ManualClock(), MemorySink()
    definition = workflow({"id": "n", "type": type_, "config": dict(config)}, inputs={"x": "string"})
    engine = WorkflowEngine(clock=clock, sink=sink)
    return stage.start(engine, definition, input={"x": "1d"}, **options), clock, sink


async def finished(task: "asyncio.Task[RunResult]") -> RunResult:
    return await asyncio.wait_for(task, 60)


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


# --- wait


async def test_a_duration_passes():
    execution, clock, sink = start("wait", {"duration": "2d"})
    task = asyncio.create_task(execution.wait())
    await clock.advance(2 * DAY - 1)
    assert not task.done()
    await clock.advance(1)
    result = await finished(task)
    assert result.nodes["n"].output == {"waited_until": "2026-01-03T00:00:00.000000Z"}
    waiting = [event for event in sink.events if event.type == "node.waiting"]
    assert posix(waiting[0].data["until"]) == START + 2 * DAY
    assert waiting[0].data["details"] == {"kind": "wait"}


async def test_a_time_comes_whatever_its_offset():
    execution, clock, _ = start("wait", {"until": "2026-01-01T09:30:00+01:00"})
    task = asyncio.create_task(execution.wait())
    await clock.advance(8.5 * 3600)
    assert (await finished(task)).nodes["n"].output == {"waited_until": "2026-01-01T08:30:00.000000Z"}


async def test_a_time_that_has_passed_is_no_wait():
    execution, _, _ = start("wait", {"until": "2020-01-01T00:00:00Z"})
    assert (await finished(asyncio.create_task(execution.wait()))).state is RunState.SUCCEEDED


async def test_a_template_may_give_the_duration():
    execution, clock, _ = start("wait", {"duration": "{{ input.x }}"})
    task = asyncio.create_task(execution.wait())
    await clock.advance(DAY)
    assert (await finished(task)).nodes["n"].output == {"waited_until": "2026-01-02T00:00:00.000000Z"}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"duration": "1s", "until": "2026-01-01T00:00:00Z"},
        {"until": "2026-01-01T00:00:00"},
        {"until": "2026-01-01"},
        {"until": "20260101T000000Z"},
        {"until": "2026-13-01T00:00:00Z"},
        {"until": "tomorrow"},
        {"duration": "soon"},
        {"duration": -1},
    ],
)
def test_what_is_no_wait_is_found_beforehand(config: dict[str, Any]):
    with pytest.raises(ValidationError):
        WaitNode.Config.model_validate(config)


async def test_a_template_that_gives_no_time_fails_the_node():
    execution, _, _ = start("wait", {"until": "{{ input.x }}"})
    result = await finished(asyncio.create_task(execution.wait()))
    assert result.nodes["n"].state is NodeState.FAILED


def test_times_are_read_as_rfc_3339_says():
    assert parse_time("2026-01-01t00:00:00.5z") == START + 0.5
    assert parse_time("2026-01-01 01:00:00-01:00") == START + 7200


async def test_a_parked_wait_says_when_to_come_back_and_another_execution_goes_on():
    execution, clock, _ = start("wait", {"duration": "2d"}, park=True)
    parked = await execution.wait()
    assert (parked.state, parked.wake_at) == (RunState.WAITING, START + 2 * DAY)
    early = await start("wait", {"duration": "2d"}, clock, park=True, recorded=parked.nodes)[0].wait()
    assert (early.state, early.wake_at) == (RunState.WAITING, START + 2 * DAY)
    await clock.advance(2 * DAY)
    late = await start("wait", {"duration": "2d"}, clock, park=True, recorded=early.nodes)[0].wait()
    assert late.state is RunState.SUCCEEDED
    assert late.nodes["n"].output == {"waited_until": "2026-01-03T00:00:00.000000Z"}


@pytest.mark.parametrize(
    ("node", "config"), [(WaitNode, {"duration": 1}), (SignalNode, {"name": "a"}), (ApprovalNode, {"assignees": ["a"]})]
)
async def test_nobody_but_an_engine_can_wait(node: Any, config: dict[str, Any]):
    with pytest.raises(NonRetryableError, match="engine"):
        await run_node(node, config)


# --- signal


async def test_a_signal_arrives():
    execution, _, _ = start("signal", {"name": "paid"})
    task = asyncio.create_task(execution.wait())
    await settle()
    assert execution.signal("other", 1)
    assert execution.signal("paid", {"amount": 5})
    assert (await finished(task)).nodes["n"].output == {"amount": 5}


async def test_signals_that_come_early_are_kept_the_oldest_first():
    early = [Signal("paid", 1, "a"), Signal("paid", 2, "b")]
    execution, _, _ = start("signal", {"name": "paid"}, signals=early)
    assert (await finished(asyncio.create_task(execution.wait()))).nodes["n"].output == 1


async def test_a_signal_counts_once():
    nodes = [
        {"id": "a", "type": "signal", "config": {"name": "s"}},
        {"id": "b", "type": "signal", "config": {"name": "s"}, "depends_on": ["a"]},
    ]
    clock = ManualClock()
    execution = stage.start(
        WorkflowEngine(clock=clock), workflow(*nodes), signals=[Signal("s", 1, "x"), Signal("s", 1, "x")]
    )
    task = asyncio.create_task(execution.wait())
    await settle()
    assert not execution.signal("s", 1, "x")
    await settle()
    assert not task.done()
    assert execution.signal("s", 2, "y")
    result = await finished(task)
    assert (result.nodes["a"].output, result.nodes["b"].output) == (1, 2)


async def test_a_signal_that_does_not_come_times_out():
    execution, clock, _ = start("signal", {"name": "paid", "timeout": "2d"})
    task = asyncio.create_task(execution.wait())
    await clock.advance(2 * DAY)
    result = await finished(task)
    assert result.nodes["n"].state is NodeState.TIMED_OUT
    assert result.nodes["n"].error is not None
    assert result.nodes["n"].error.code == "node_timeout"
    assert "172800 s" in result.nodes["n"].error.message


async def test_a_timeout_may_be_an_answer():
    execution, clock, _ = start("signal", {"name": "paid", "timeout": "2d", "on_timeout": "continue"})
    task = asyncio.create_task(execution.wait())
    await clock.advance(2 * DAY)
    result = await finished(task)
    assert result.nodes["n"].state is NodeState.SUCCEEDED
    assert result.nodes["n"].output is None


async def test_a_parked_signal_goes_on_when_it_has_arrived():
    config = {"name": "paid", "timeout": "2d"}
    execution, clock, _ = start("signal", config, park=True)
    parked = await execution.wait()
    assert (parked.state, parked.wake_at) == (RunState.WAITING, START + 2 * DAY)
    assert parked.nodes["n"].wait == Suspension(START + 2 * DAY, "paid", {"kind": "signal", "on_timeout": "fail"})
    later, _, _ = start("signal", config, clock, park=True, recorded=parked.nodes, signals=[Signal("paid", "yes")])
    assert (await later.wait()).nodes["n"].output == "yes"


# --- approval

APPROVAL = {"assignees": ["role:admin"], "message": "Ship?", "form": FORM, "timeout": "2d"}


async def decide(config: Mapping[str, Any], payload: Any) -> RunResult:
    execution, _, _ = start("approval", config)
    task = asyncio.create_task(execution.wait())
    await settle()
    execution.signal("approval:n", payload)
    return await finished(task)


async def test_the_details_are_what_a_form_needs():
    execution, _, _ = start("approval", APPROVAL, park=True)
    wait = (await execution.wait()).nodes["n"].wait
    assert wait == Suspension(
        START + 2 * DAY,
        "approval:n",
        {
            "kind": "approval",
            "assignees": ["role:admin"],
            "message": "Ship?",
            "form": FORM,
            "on_timeout": "fail",
        },
    )


async def test_a_yes_carries_what_was_entered():
    result = await decide(APPROVAL, {"approved": True, "by": "ada", "comment": "go", "data": {"carrier": "ups"}})
    assert result.nodes["n"].output == {
        "approved": True,
        "by": "ada",
        "on_behalf_of": None,
        "comment": "go",
        "data": {"carrier": "ups"},
        "timed_out": False,
    }


async def test_a_no_fails_the_node_and_says_whose_it_was():
    result = await decide(APPROVAL, {"approved": False, "by": "ada", "comment": "too dear"})
    error = result.nodes["n"].error
    assert error is not None
    assert (error.code, error.message) == ("approval_rejected", "rejected by ada: too dear")


async def test_a_no_may_be_an_answer():
    result = await decide({**APPROVAL, "on_reject": "continue"}, {"approved": False})
    assert result.nodes["n"].output["approved"] is False
    assert result.nodes["n"].output["timed_out"] is False


@pytest.mark.parametrize(
    ("options", "state", "approved"),
    [
        ({}, NodeState.TIMED_OUT, None),
        ({"on_timeout": "approve"}, NodeState.SUCCEEDED, True),
        ({"on_timeout": "reject"}, NodeState.FAILED, None),
        ({"on_timeout": "reject", "on_reject": "continue"}, NodeState.SUCCEEDED, False),
    ],
)
async def test_what_a_timeout_means(options: dict[str, Any], state: NodeState, approved: bool | None):
    execution, clock, _ = start("approval", APPROVAL | options)
    task = asyncio.create_task(execution.wait())
    await clock.advance(2 * DAY)
    run = (await finished(task)).nodes["n"]
    assert run.state is state
    if approved is not None:
        assert run.output == {
            **dict.fromkeys(("by", "on_behalf_of", "comment", "data")),
            "approved": approved,
            "timed_out": True,
        }


async def test_a_decision_that_arrived_before_anybody_asked_counts():
    early = [Signal("approval:n", {"approved": True, "data": {"carrier": "dhl"}}, "d1")]
    execution, _, _ = start("approval", APPROVAL, signals=early)
    assert (await finished(asyncio.create_task(execution.wait()))).nodes["n"].output["approved"] is True


async def test_a_parked_approval_is_answered_by_another_execution():
    execution, clock, _ = start("approval", APPROVAL, park=True)
    parked = await execution.wait()
    decision = Signal("approval:n", {"approved": True, "by": "bo", "data": {"carrier": "dhl"}}, "d1")
    later, _, _ = start("approval", APPROVAL, clock, park=True, recorded=parked.nodes, signals=[decision, decision])
    result = await later.wait()
    assert result.state is RunState.SUCCEEDED
    assert result.nodes["n"].output["by"] == "bo"


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ("yes", "mapping"),
        (None, "mapping"),
        ({}, "/approved"),
        ({"approved": "yes"}, "/approved"),
        ({"approved": 1}, "/approved"),
        ({"approved": True, "data": {"carrier": "fedex"}}, "/data/carrier"),
        ({"approved": True}, "/data"),
        ({"approved": False, "data": {"carrier": 1}}, "/data/carrier"),
        ({"approved": True, "data": [1]}, "/data"),
        ({"approved": True, "data": {"carrier": "ups"}, "by": 5}, "/by"),
        ({"approved": True, "data": {"carrier": "ups"}, "comment": "x" * 10_001}, "/comment"),
        ({"approved": True, "data": {"carrier": "ups"}, "reason": "x"}, "/reason"),
    ],
)
async def test_a_decision_of_another_shape_is_refused_by_name(payload: Any, named: str):
    with pytest.raises(DecisionError, match=named) as caught:
        check_decision({"form": FORM}, payload)
    assert caught.value.problems
    error = (await decide(APPROVAL, payload)).nodes["n"].error
    assert error is not None
    assert error.code == "decision_invalid"
    assert named in error.message


def test_everything_that_is_wrong_is_named_at_once():
    with pytest.raises(DecisionError) as caught:
        check_decision({"form": FORM}, {"approved": "x", "by": 1, "extra": 1})
    assert {problem.pointer for problem in caught.value.problems} == {"/approved", "/by", "/extra"}


def test_a_decision_without_a_form_may_say_anything():
    decision = check_decision({}, {"approved": True, "data": {"any": 1}})
    assert decision == {
        "approved": True,
        "by": None,
        "on_behalf_of": None,
        "comment": None,
        "data": {"any": 1},
    }


NOT_ALLOWED = {
    "another sender": ({"approved": True, "data": {"carrier": "dhl"}}, {"user:eve", "role:editor"}, "assignees"),
    "another shape": ({"approved": "yes"}, {"role:admin"}, "/approved"),
}


@pytest.mark.parametrize("case", NOT_ALLOWED)
@pytest.mark.parametrize("early", [True, False])
async def test_a_decision_that_is_not_allowed_is_dropped_and_the_node_keeps_waiting(case: str, early: bool):
    payload, sender, reason = NOT_ALLOWED[case]
    refused = Signal("approval:n", payload, "x", frozenset(sender))
    execution, _, sink = start("approval", APPROVAL, signals=[refused] if early else ())
    task = asyncio.create_task(execution.wait())
    await settle()
    if not early:
        execution.deliver(refused)
        await settle()
    assert not task.done()
    [event] = [event for event in sink.events if event.type == "node.signal_refused"]
    assert (event.node_id, event.data["name"], event.data["signal"]) == ("n", "approval:n", "x")
    assert reason in event.data["reason"]
    allowed = {"approved": True, "by": "user:ada", "data": {"carrier": "ups"}}
    execution.deliver(Signal("approval:n", allowed, "y", frozenset({"role:admin", "role:editor"})))
    assert (await finished(task)).nodes["n"].output["by"] == "user:ada"


async def test_an_early_decision_that_is_not_allowed_leaves_the_next_one_to_the_node():
    editor = Signal("approval:n", {"approved": False}, "x", frozenset({"role:editor"}))
    admin = Signal("approval:n", {"approved": True, "data": {"carrier": "ups"}}, "y", frozenset({"role:admin"}))
    execution, _, sink = start("approval", APPROVAL, signals=[editor, admin])
    result = await finished(asyncio.create_task(execution.wait()))
    assert result.nodes["n"].output["approved"] is True
    assert [event.data.get("signal") for event in sink.events if "signal_refused" in event.type] == ["x"]


@pytest.mark.parametrize(
    ("assignee", "sender", "allowed"),
    [
        ("ada@example.org", "user:ada@example.org", True),
        ("user:Ada@example.org", "user:ada@example.org", True),
        ("ada@example.org", "key:ada@example.org", False),
        ("key:CI", "key:ci", True),
        ("role:editor", "role:editor", True),
        ("role:admin", "role:editor", False),
        ("user:ada", "role:owner", True),
    ],
)
def test_who_may_decide(assignee: str, sender: str, allowed: bool):
    assert may_decide([assignee], {sender}) is allowed


@pytest.mark.parametrize("name", ["role:boss", "group:x", "user:", "key: ", "", " "])
def test_an_assignee_that_nobody_can_be_is_found_beforehand(name: str):
    with pytest.raises(ValidationError, match="an assignee is"):
        ApprovalNode.Config.model_validate({"assignees": ["ada", name]})


@pytest.mark.parametrize("config", [{"assignees": []}, {"assignees": ["a"], "form": {"type": 5}}, {}])
def test_an_approval_that_cannot_be_is_found_beforehand(config: dict[str, Any]):
    with pytest.raises(ValidationError):
        ApprovalNode.Config.model_validate(config)


def test_the_signal_is_named_after_the_node():
    ctx = NodeContext(run_id="r", node_id="ship-it", workflow="w")
    config = ApprovalNode.Config(assignees=["role:admin"])
    assert ApprovalNode().suspend(config, ctx, 0.0).signal == "approval:ship-it"
