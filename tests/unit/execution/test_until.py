"""`until`: a node is executed in rounds until an expression about its output holds."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from pyflow.compare.drawing import graph, tree
from pyflow.core.errors import DefinitionError
from pyflow.core.events import EventType
from pyflow.core.ports import MemorySink
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import NodeState, RunState
from pyflow.documents.models import UntilDef
from pyflow.execution.dry_run import dry_run
from pyflow.execution.engine import RunRequest, WorkflowEngine
from pyflow.execution.plan import Plan
from pyflow.execution.rounds import Until
from pyflow.execution.shared import Shared
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow
from tests.support.factories import stage
from tests.support.factories.stage import Counting, node, workflow

DONE = {"when": "output.status == 'done'"}


class Job:
    """A node type that says `done` the ``after``-th time it is asked about a name; `fails`: the calls that fail."""

    def __init__(self, after: int = 3, fails: tuple[int, ...] = ()) -> None:
        self.after = after
        self.fails = fails
        self.asked: dict[Any, int] = {}

    def __call__(self, config: dict[str, Any], _: Any) -> dict[str, Any]:
        name = config.get("name", "job")
        self.asked[name] = asked = self.asked.get(name, 0) + 1
        if asked in self.fails:
            raise RuntimeError(f"call {asked}")
        return {"name": name, "status": "done" if asked >= config.get("after", self.after) else "working"}


def polling(id: str = "poll", *depends_on: str, until: Mapping[str, Any] = {}, **fields: Any) -> dict[str, Any]:
    return node(id, "job", *depends_on, until=DONE | {"every": "5s"} | dict(until), **fields)


async def run_job(job: Job, *nodes: dict[str, Any], **fields: Any) -> RunResult:
    fields.setdefault("clock", stage.Clock())
    return await stage.run(workflow(*nodes), {"job": job}, **fields)


async def test_a_node_is_executed_until_the_expression_holds():
    job, clock, sink = Job(after=3), stage.Clock(), MemorySink()
    after = node("after", "echo", "poll", config={"value": "{{ poll.status }}"})
    result = await run_job(job, polling(), after, clock=clock, sink=sink)
    run = result.nodes["poll"]
    assert (run.state, run.output, run.round, run.attempts) == (
        NodeState.SUCCEEDED,
        {"name": "job", "status": "done"},
        3,
        3,
    )
    assert result.nodes["after"].output == "done"
    assert clock.slept == [5.0, 5.0]
    waits = [event.data for event in sink.events if event.type is EventType.NODE_WAITING]
    assert [wait["details"] for wait in waits] == [{"kind": "round", "round": 2}, {"kind": "round", "round": 3}]
    starts = [event.data for event in sink.events if event.type is EventType.NODE_STARTED and event.node_id == "poll"]
    assert [(start["attempt"], start.get("round"), start.get("round_attempt")) for start in starts] == [
        (1, None, None),
        (2, 2, 1),
        (3, 3, 1),
    ]


async def test_the_first_round_may_be_the_last():
    result = await run_job(Job(after=1), polling())
    assert (result.nodes["poll"].round, "round" in result.nodes["poll"].as_dict()) == (1, False)


@pytest.mark.parametrize(
    ("given", "intervals"),
    [
        ({}, [5, 5, 5, 5]),
        ({"every": "10s", "backoff": 2}, [10, 20, 40, 80]),
        ({"every": 1, "backoff": 3, "max_every": "5s"}, [1, 3, 5, 5]),
        ({"every": "1m", "max_every": "10s"}, [10, 10, 10, 10]),
        ({"every": 0, "backoff": 100}, [0, 0, 0, 0]),
    ],
)
def test_intervals(given: dict[str, Any], intervals: list[float]):
    until = Until(UntilDef.model_validate({"when": "output"} | given))
    assert [until.interval(number) for number in range(1, 5)] == intervals


def test_intervals_have_an_end():
    until = Until(UntilDef.model_validate({"when": "output", "backoff": 100}))
    assert until.interval(1_000_000) == until.interval(900_000)


async def test_the_expression_sees_the_round_and_what_the_node_sees():
    when = "output.status == 'done' or round == vars.most and first == 1 and input.x == 2"
    poll = polling("poll", "first", until={"when": when})
    document = workflow(node("first", config={"value": 1}), poll, vars={"most": 4})
    result = await stage.run(document, {"job": Job(after=99)}, clock=stage.Clock(), input={"x": 2})
    assert result.nodes["poll"].round == 4


async def test_after_the_limit_the_node_fails():
    result = await run_job(Job(after=99), polling(until={"limit": 3}))
    error = result.nodes["poll"].error
    assert error is not None
    assert (result.state, error.code, result.nodes["poll"].attempts) == (RunState.FAILED, "until_limit", 3)
    assert error.message == (
        "`until.when` does not hold after 3 rounds, which is the limit: raise `until.limit`, or wait longer between"
        " rounds (`until.every`)"
    )


async def test_without_a_timeout_there_is_a_limit():
    result = await run_job(Job(after=9999), polling(until={"every": "1ms"}))
    assert result.nodes["poll"].round == 1000
    result = await run_job(Job(after=1100), polling(until={"every": "1ms", "timeout": "1h"}))
    assert (result.state, result.nodes["poll"].round) == (RunState.SUCCEEDED, 1100)


@pytest.mark.parametrize("limits", [{"until": {"timeout": "12s"}}, {"total_timeout": "12s"}])
async def test_no_round_begins_after_the_timeout(limits: dict[str, Any]):
    result = await run_job(Job(after=99), polling(**limits))
    run = result.nodes["poll"]
    assert run.error is not None
    assert (run.state, run.round, run.error.code) == (NodeState.TIMED_OUT, 3, "until_timeout")
    key = "until.timeout" if "until" in limits else "total_timeout"
    assert f"does not hold after 3 rounds, and no other round begins within 12 s (`{key}`)" in run.error.message


async def test_neither_end_is_retried():
    retry = {"max_attempts": 5, "initial_interval": "1s"}
    for until in ({"limit": 2}, {"timeout": "6s"}):
        job = Job(after=99)
        await run_job(job, polling(until=until, retry=retry))
        assert job.asked == {"job": 2}


async def test_attempts_are_retried_within_a_round():
    job = Job(after=6, fails=(1, 3, 4))
    retry = {"max_attempts": 3, "initial_interval": "1s", "backoff_coefficient": 1}
    sink = MemorySink()
    result = await run_job(job, polling(retry=retry), sink=sink)
    run = result.nodes["poll"]
    assert (run.state, run.round, run.attempts, run.error) == (NodeState.SUCCEEDED, 3, 6, None)
    retried = [event.data for event in sink.events if event.type is EventType.NODE_RETRYING]
    assert [(data["attempt"], data.get("round"), data.get("round_attempt")) for data in retried] == [
        (1, None, None),
        (3, 2, 1),
        (4, 2, 2),
    ]


async def test_the_attempts_of_one_round_may_be_used_up():
    job = Job(after=9, fails=(2, 3))
    result = await run_job(job, polling(retry={"max_attempts": 2, "initial_interval": "1s"}))
    run = result.nodes["poll"]
    assert run.error is not None
    assert (run.state, run.round, run.attempts, run.error.message) == (NodeState.FAILED, 2, 3, "call 3")


async def test_an_expression_that_cannot_be_evaluated_fails_the_node_at_once():
    job = Job()
    result = await run_job(job, polling(until={"when": "output.missing == 1"}, retry={"max_attempts": 3}))
    error = result.nodes["poll"].error
    assert error is not None
    assert (error.code, job.asked) == ("until_condition", {"job": 1})
    assert error.message.startswith("`until.when` cannot be evaluated after round 1: ")


async def test_each_round_has_an_idempotency_key_of_its_own():
    when = "round == 3"
    poll = node("poll", "told", config={"count": 1}, until={"when": when, "every": 1})
    each = node("each", "told", "poll", for_each=["x"], config={"count": 1}, until={"when": when, "every": 1})
    result = await stage.run(workflow(poll, each), {}, clock=stage.Clock(), run_id="r")
    assert result.nodes["poll"].output == {"text": "x", "attempt": 1, "key": "r:poll:3"}
    assert result.nodes["each"].output == [{"text": "x", "attempt": 1, "key": "r:each:0:3"}]


async def test_nobody_sleeps_on_while_all_that_is_left_can_wait():
    """The worker of the last item ends, and so do workers that slept until the round of another item."""
    clock, job = stage.StandingClock(), Job()
    config = {"name": "{{ item }}", "after": "{{ item }}"}
    engine = WorkflowEngine(stage.registry(job=job), clock=clock)
    execution = engine.start(RunRequest(workflow(polling(for_each=[2, 1], config=config)), park=True))
    assert (await execution.wait()).state is RunState.WAITING


async def test_each_item_has_its_own_loop():
    job, clock = Job(), stage.Clock()
    config = {"name": "{{ item.name }}", "after": "{{ item.after }}"}
    items = [{"name": "a", "after": 1}, {"name": "b", "after": 3}, {"name": "c", "after": 2}]
    until = {"when": "output.status == 'done' and output.name == item.name"}
    result = await run_job(job, polling(for_each=items, config=config, until=until), clock=clock)
    run = result.nodes["poll"]
    assert [output["name"] for output in run.output] == ["a", "b", "c"]
    assert run.items is not None
    assert [(item.round, item.attempts) for item in run.items.values()] == [(1, 1), (2, 2), (3, 3)]
    assert job.asked == {"a": 1, "b": 3, "c": 2}


async def test_an_item_that_reaches_the_limit_fails_like_any_other():
    config = {"name": "{{ item }}", "after": "{{ item }}"}
    poll = polling(for_each=[1, 5, 2], config=config, until={"limit": 2}, tolerate_failures=1)
    result = await run_job(Job(), poll)
    assert result.succeeded
    assert [output and output["name"] for output in result.nodes["poll"].output] == [1, None, 2]


async def test_an_item_between_rounds_leaves_its_place_to_others():
    job = Job()
    config = {"name": "{{ item }}", "after": 2}
    order: list[Any] = []
    clock = stage.Clock()

    def watched(config: dict[str, Any], context: Any) -> Any:
        order.append(config["name"])
        return job(config, context)

    document = workflow(polling(for_each=["a", "b", "c"], max_parallel=1, config=config))
    await stage.run(document, {"job": watched}, clock=clock)
    assert order == ["a", "b", "c", "a", "b", "c"]


async def test_no_slot_is_held_between_rounds():
    job = Job(after=2)
    slots = {"key": "k", "limit": 1, "on_limit": "fail"}
    result = await run_job(
        job,
        polling("a", concurrency=slots, config={"name": "a"}),
        polling("b", concurrency=slots, config={"name": "b"}, until={"every": "7s"}),
    )
    assert result.succeeded


async def test_only_the_last_output_is_cached_and_only_the_first_round_looks_there():
    job, clock = Job(after=2), stage.Clock()
    engine = WorkflowEngine(stage.registry(job=job), clock=clock, shared=Shared())
    document = workflow(polling(cache={"key": "k", "ttl": "1h"}))
    for _ in range(2):
        assert (await engine.execute(document)).nodes["poll"].output["status"] == "done"
    assert job.asked == {"job": 2}
    other = workflow(polling(cache={"key": "k", "ttl": "1h"}, until={"when": "round == 3"}))
    assert (await engine.execute(other)).nodes["poll"].round == 3
    assert job.asked == {"job": 4}


async def test_the_final_output_is_undone_once():
    job = Job(after=3)
    undone: list[Any] = []
    poll = polling(compensate={"type": "undo", "config": {"value": "{{ output.status }}"}})
    document = workflow(poll, node("bad", "fail", "poll"))
    await stage.run(
        document, {"job": job, "undo": lambda config, _: undone.append(config["value"])}, clock=stage.Clock()
    )
    assert undone == ["done"]


async def test_every_round_has_to_fit_the_size():
    result = await run_job(Job(), polling(max_output_size=10))
    error = result.nodes["poll"].error
    assert error is not None
    assert error.code == "output_too_large"


async def test_secrets_are_masked_before_the_expression_sees_them():
    """The expression sees what the nodes that follow see."""
    poll = node(
        "poll", config={"value": "{{ secrets.K }}"}, until={"when": "round == 2 and output == '***'", "limit": 2}
    )
    result = await stage.run(workflow(poll), {}, secrets={"K": "hush-hush"}, clock=stage.Clock())
    assert result.nodes["poll"].state is NodeState.SUCCEEDED


async def test_a_run_is_parked_between_rounds_and_goes_on_at_the_right_one():
    job, clock = Job(after=4), stage.StandingClock()
    engine = WorkflowEngine(stage.registry(job=job), clock=clock)
    document = workflow(
        polling(until={"backoff": 2}),
        node("each", "job", for_each=["x"], until=DONE | {"every": "9s"}, config={"name": "{{ item }}", "after": 2}),
    )
    recorded: dict[str, Any] = {}
    parked = []
    while True:
        execution = engine.start(RunRequest(document, run_id="r", recorded=recorded, park=True, begun_at=clock.now))
        result = await execution.wait()
        recorded = {id: run for id, run in result.nodes.items() if run.state is not NodeState.PENDING}
        if result.state is not RunState.WAITING:
            break
        assert result.wake_at is not None
        parked.append(result.wake_at - clock.now)
        clock.now = result.wake_at
    assert result.succeeded
    assert parked == [5, 4, 6, 20]
    assert (result.nodes["poll"].round, result.nodes["poll"].attempts, job.asked) == (4, 4, {"job": 4, "x": 2})


async def test_a_round_that_was_under_way_is_made_again():
    """As after the loss of a worker: the round stays, the attempt is a new one."""
    job = Job(after=1)
    recorded = stage_recorded(round=3, attempts=5, earlier_attempts=4)
    result = await run_job(job, polling(retry={"max_attempts": 2}), recorded={"poll": recorded})
    run = result.nodes["poll"]
    assert (run.round, run.attempts, run.earlier_attempts) == (3, 6, 4)


def stage_recorded(**fields: Any) -> NodeRun:
    run = NodeRun("poll", NodeState.RUNNING)
    for name, value in fields.items():
        setattr(run, name, value)
    run.started_at = 1_000_000.0
    return run


async def test_cancelling_between_rounds_ends_the_node_and_its_items():
    job, clock, sink = Job(after=99), stage.StandingClock(), Counting(3)
    engine = WorkflowEngine(stage.registry(job=job), clock=clock, sink=sink)
    document = workflow(polling(), polling("each", for_each=["x"], config={"name": "{{ item }}"}))
    execution = engine.start(RunRequest(document))
    ended = asyncio.ensure_future(execution.wait())
    await sink.waiting.wait()
    execution.cancel()
    result = await ended
    assert result.state is RunState.CANCELLED
    assert result.nodes["poll"].state is NodeState.CANCELLED
    items = result.nodes["each"].items
    assert items is not None
    assert items[0].state is NodeState.CANCELLED


@pytest.mark.parametrize(
    ("until", "pointer", "words"),
    [
        ({"when": "output.x", "evry": 1}, "/nodes/0/until/evry", "unknown key 'evry'"),
        ({"when": "{{ output.x }}"}, "/nodes/0/until/when", "not a template"),
        ({"when": "outptu.x"}, "/nodes/0/until/when", "'outptu', which does not exist"),
        ({"when": "item == 1"}, "/nodes/0/until/when", "only a node with `for_each` has that"),
        ({"when": "output ="}, "/nodes/0/until/when", "not an expression"),
    ],
)
def test_mistakes_are_found_when_the_file_is_checked(until: dict[str, Any], pointer: str, words: str):
    with pytest.raises(DefinitionError) as refused:
        Plan(workflow(node("poll", "job", until=until)), stage.registry(job=Job()))
    (problem,) = refused.value.problems
    assert problem.pointer == pointer
    assert words in str(problem)


def test_a_name_of_the_round_is_near():
    with pytest.raises(DefinitionError, match="did you mean 'output'"):
        Plan(workflow(node("poll", "job", until={"when": "outputs.x"})), stage.registry(job=Job()))


@pytest.mark.parametrize(("when", "words"), [("1 == 1", "is executed once"), ("False", "never succeeds")])
def test_lint_finds_a_constant(when: str, words: str):
    registry = stage.registry(job=Job())
    [warning] = [
        each for each in lint_workflow(workflow(polling(until={"when": when})), registry) if "until" in each.code
    ]
    assert (warning.code, warning.pointer) == ("constant_until", "/nodes/0/until/when")
    assert words in warning.message


def test_a_reference_in_the_expression_is_a_use():
    poll = polling("poll", "first", until={"when": "output == first"})
    document = workflow(node("first"), poll, outputs={"x": "{{ poll }}"})
    assert [each.code for each in lint_workflow(document, stage.registry(job=Job()))] == []


def test_a_dry_run_and_a_drawing_show_it():
    document, registry = workflow(polling(until={"limit": 3})), stage.registry(job=Job())
    [preview] = dry_run(document, registry).as_dict()["nodes"]
    assert preview["until"] == {"when": "output.status == 'done'", "every": 5.0, "backoff": 1.0, "limit": 3}
    plan = Plan(document, registry)
    assert "poll (job) [until output.status == 'done']" in "\n".join(tree(plan))
    assert graph(plan)["nodes"][0]["until"] == "output.status == 'done'"


@pytest.mark.parametrize("key", ["repeat", "poll", "while"])
def test_words_of_other_systems_name_it(key: str):
    [problem] = check_workflow(workflow(node("a") | {key: {}}), stage.registry())
    assert (problem.code, problem.suggestion) == ("unknown_key", "until")
