"""The limits of an attempt in time, on the clock that the engine was given."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from pyflow.core.errors import NodeTimeoutError
from pyflow.core.ports import SystemClock
from pyflow.core.result import RunResult
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.timers import Timers
from pyflow.nodes.workflow import WorkflowNode
from pyflow.testing import ManualClock
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

HOUR = 3600.0


async def run_sleeper(hours: list[float], **fields: Any) -> RunResult:
    """Run a node whose attempts sleep for so many hours each, on a clock that skips waits."""
    clock, attempts = ManualClock(auto_advance=True), iter(hours)

    async def sleeper(config: dict[str, Any], _: Any) -> str:
        await clock.sleep(next(attempts) * HOUR)
        return "slept"

    return await stage.run(workflow(node("a", "sleeper", **fields)), {"sleeper": sleeper}, clock=clock)


@pytest.mark.parametrize(("hours", "state"), [(1.9, "succeeded"), (2.1, "timed_out")])
async def test_a_timeout_of_two_hours_passes_at_once_on_a_clock_that_skips(hours: float, state: str):
    result = await run_sleeper([hours], timeout="2h")
    run = result.nodes["a"]
    assert run.state == state
    assert result.finished_at - result.started_at == pytest.approx(min(hours, 2) * HOUR)
    if state == "timed_out":
        assert run.error is not None
        assert (run.error.code, run.error.message) == ("node_timeout", "no result within 7200 s")


async def test_each_attempt_has_the_time_of_one_and_all_together_the_total():
    retry = {"max_attempts": 5, "initial_interval": "1h", "max_interval": "1h", "backoff_coefficient": 1}
    result = await run_sleeper([9, 1], timeout="2h", total_timeout="1d", retry=retry)
    assert (result.nodes["a"].attempts, result.nodes["a"].output) == (2, "slept")
    assert result.finished_at - result.started_at == pytest.approx(4 * HOUR)
    result = await run_sleeper([9, 9, 9], timeout="2h", total_timeout="4h", retry=retry)
    assert (result.nodes["a"].attempts, str(result.nodes["a"].state)) == (2, "timed_out")
    assert result.finished_at - result.started_at == pytest.approx(4 * HOUR)


async def test_a_node_that_hangs_is_timed_out_when_the_clock_is_moved_by_hand():
    clock, inside, left = ManualClock(), asyncio.Event(), []

    async def hangs(config: dict[str, Any], _: Any) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(clock.time())

    definition = workflow(node("a", "hangs", timeout="2h"))
    began = clock.time()
    running = asyncio.create_task(stage.run(definition, {"hangs": hangs}, clock=clock))
    await inside.wait()
    await clock.advance(2 * HOUR - 1)
    assert left == []
    await clock.advance(1)
    result = await running
    assert (result.nodes["a"].state, left) == ("timed_out", [began + 2 * HOUR])
    assert clock.sleeping == 0


async def test_a_timer_is_gone_with_the_work_that_it_limits():
    clock = ManualClock()
    result = await stage.run(workflow(node("a", timeout="2h"), node("b", "echo", "a", timeout="1h")), clock=clock)
    await asyncio.sleep(0)
    assert (result.state, clock.sleeping) == ("succeeded", 0)


class Rounds(BaseNodeV2["Rounds.Config"]):
    """Reports progress, then sleeps, for each of `hours`."""

    node_type = "rounds"
    clock: ManualClock

    class Config(BaseModel):
        hours: list[float]

    async def run(self, config: Config, ctx: NodeContext) -> str:
        for done, hours in enumerate(config.hours):
            ctx.progress(done / len(config.hours), "on it")
            await self.clock.sleep(hours * HOUR)
        return "done"


@pytest.mark.parametrize(
    ("hours", "state", "taken"), [([1, 1.9, 1.9], "succeeded", 4.8), ([1, 2.1, 1], "timed_out", 3)]
)
async def test_each_report_of_progress_winds_up_the_heartbeat_timeout(hours: list[float], state: str, taken: float):
    clock, registry = ManualClock(auto_advance=True), stage.registry()
    registry.register(type("Rounds", (Rounds,), {"clock": clock}))
    definition = workflow(node("a", "rounds", config={"hours": hours}, heartbeat_timeout="2h"))
    result = await WorkflowEngine(registry, clock=clock).execute(definition)
    assert result.nodes["a"].state == state
    assert result.finished_at - result.started_at == pytest.approx(taken * HOUR)


async def test_a_clock_that_skips_stands_still_while_a_node_really_works():
    clock = ManualClock(auto_advance=True)

    async def slow(config: dict[str, Any], _: Any) -> float:
        await asyncio.to_thread(sum, range(1_000_000))
        return clock.time()

    limits = {"timeout": "1s", "total_timeout": "1s"}
    definition = workflow(node("a", "slow", **limits), settings={"timeout": "1s"})
    began = clock.time()
    result = await stage.run(definition, {"slow": slow}, clock=clock)
    assert (result.state, result.nodes["a"].output) == ("succeeded", began)


async def test_it_skips_for_a_node_that_sleeps_only_when_no_other_one_works():
    clock, order = ManualClock(auto_advance=True), []
    may_end = asyncio.Event()

    async def sleeps(config: dict[str, Any], _: Any) -> None:
        asyncio.get_running_loop().call_later(0.02, may_end.set)
        await clock.sleep(HOUR)
        order.append("sleeps")

    async def works(config: dict[str, Any], _: Any) -> None:
        await may_end.wait()
        order.append("works")

    definition = workflow(node("a", "sleeps"), node("b", "works", timeout="1m"))
    result = await stage.run(definition, {"sleeps": sleeps, "works": works}, clock=clock)
    assert (result.state, order) == ("succeeded", ["works", "sleeps"])


async def test_the_parts_of_a_node_may_sleep_together():
    clock = ManualClock(auto_advance=True)

    async def parts(config: dict[str, Any], _: Any) -> None:
        await asyncio.gather(clock.sleep(HOUR), clock.sleep(2 * HOUR))

    began = clock.time()
    result = await stage.run(workflow(node("a", "parts", timeout="3h")), {"parts": parts}, clock=clock)
    assert (result.state, clock.time() - began) == ("succeeded", 2 * HOUR)


async def test_the_waits_of_a_child_run_are_skipped_and_its_work_is_not():
    clock = ManualClock(auto_advance=True)

    async def flaky(config: dict[str, Any], _: Any) -> str:
        await asyncio.to_thread(sum, range(100_000))
        if clock.time() - began < HOUR:
            raise RuntimeError("not yet")
        return "late"

    class Workflows:
        def get(self, name: str) -> Any:
            retry = {"max_attempts": 2, "initial_interval": "1h", "max_interval": "1h"}
            return workflow(node("b", "flaky", retry=retry, timeout="1s"), name=name)

    registry = stage.registry(flaky=flaky)
    registry.register(WorkflowNode)
    began = clock.time()
    engine = WorkflowEngine(registry, clock=clock, workflows=Workflows())
    definition = workflow(node("a", "workflow", config={"workflow": "child"}, timeout="2h"))
    result = await engine.execute(definition)
    assert (result.nodes["a"].output, clock.time() - began) == ({"b": "late"}, HOUR)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock(auto_advance=True)])
async def test_only_its_own_end_of_time_is_a_timeout_of_the_node(clock: Any):
    async def raises() -> None:
        raise TimeoutError("of its own")

    timers = Timers(clock)
    with pytest.raises(TimeoutError, match="of its own") as caught:
        await timers.within(60, raises())
    assert not isinstance(caught.value, NodeTimeoutError)
    with pytest.raises(NodeTimeoutError, match=r"no result within 0\.01 s"):
        await timers.within(0.01, asyncio.Event().wait())


async def test_the_machines_clock_needs_no_task_for_a_limit():
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    before = await tasks()
    assert await Timers(SystemClock()).within(60, tasks()) == before
