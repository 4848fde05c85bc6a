"""`pyflow.testing`: running workflows with mocks, secrets and a clock of one's own."""

import asyncio
from pathlib import Path

import pytest

from pyflow.core.errors import DefinitionError
from pyflow.core.states import NodeState, RunState
from pyflow.testing import ManualClock, MemorySink, MockNode, dry_run, run_workflow
from pyflow_sdk import RetryableError

CHARGE = """
version: 2
name: order
inputs: {amount: number}
outputs: {charge: "{{ charge.id }}"}
settings: {timeout: 1d}
nodes:
  - id: charge
    type: payment
    config: {amount: "{{ input.amount }}", key: "{{ secrets.PAY }}"}
    retry: {max_attempts: 3, initial_interval: 2h}
  - {id: note, type: template, depends_on: [charge], config: {template: "paid {{ charge.id }}"}}
"""


async def test_mocks_answer_for_nodes_and_remember_what_they_were_asked():
    charge = MockNode(returns={"id": 7})
    result = await run_workflow(CHARGE, mocks={"charge": charge}, input={"amount": 5}, secrets={"PAY": "sesame-open"})
    assert result.outputs == {"charge": 7}
    assert result.nodes["note"].output == "paid 7"
    assert charge.called
    assert [(call.node_id, call.config, call.attempt) for call in charge.calls] == [
        ("charge", {"amount": 5, "key": "sesame-open"}, 1)
    ]


async def test_retries_that_wait_for_hours_pass_at_once_and_in_time():
    sink = MemorySink()
    charge = MockNode(sequence=[RetryableError("busy"), RetryableError("busy"), {"id": 8}])
    result = await run_workflow(
        CHARGE, mocks={"charge": charge}, input={"amount": 5}, secrets={"PAY": "sesame"}, sink=sink
    )
    assert result.succeeded
    assert [call.attempt for call in charge.calls] == [1, 2, 3]
    # 2 h, then 4 h, but `max_interval` is 1 min.
    assert result.finished_at - result.started_at == 120
    assert [event.type for event in sink.events].count("node.retrying") == 2


async def test_a_runs_timeout_does_not_overtake_a_node_that_is_slow_in_real_time():
    async def slow(config: object) -> dict[str, int]:
        await asyncio.sleep(0.05)
        return {"id": 1}

    result = await run_workflow(
        CHARGE, mocks={"charge": MockNode(call=slow)}, input={"amount": 1}, secrets={"PAY": "sesame"}
    )
    assert result.succeeded


async def test_a_run_that_waits_longer_than_its_timeout_is_timed_out():
    failing = MockNode(raises=RetryableError("busy", retry_after=2 * 86_400))
    result = await run_workflow(CHARGE, mocks={"charge": failing}, input={"amount": 1}, secrets={"PAY": "sesame"})
    assert result.state is RunState.TIMED_OUT
    assert result.finished_at - result.started_at == 86_400


async def test_a_clock_that_is_advanced_by_hand_wakes_in_order():
    clock = ManualClock(start=1000.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *waits: float) -> None:
        for wait in waits:
            await clock.sleep(wait)
            woken.append((name, clock.time()))

    tasks = [asyncio.create_task(sleeper("late", 10)), asyncio.create_task(sleeper("often", 3, 3, 3))]
    await clock.advance(2)
    assert woken == []
    assert clock.sleeping == 2
    await clock.advance(8)
    assert woken == [("often", 1003.0), ("often", 1006.0), ("often", 1009.0), ("late", 1010.0)]
    assert clock.time() == 1010.0
    await asyncio.gather(*tasks)
    with pytest.raises(ValueError, match="backwards"):
        await clock.advance(-1)


async def test_an_automatic_clock_skips_cancelled_sleepers_and_keeps_the_order():
    clock = ManualClock(start=0.0, auto_advance=True)
    order: list[int] = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep(seconds)
        order.append(seconds)

    cancelled = asyncio.create_task(sleeper(1))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(sleeper(30), sleeper(5), sleeper(0), sleeper(86_400))
    assert order == [0, 5, 30, 86_400]
    assert clock.time() == 86_400


async def test_an_automatic_clock_stands_still_while_it_is_held():
    clock = ManualClock(start=0.0, auto_advance=True)
    with clock.holding():
        sleeping = asyncio.create_task(clock.sleep(60))
        await asyncio.sleep(0.02)
        assert not sleeping.done()
        assert clock.time() == 0.0
    await sleeping
    assert clock.time() == 60


async def test_the_ways_a_mock_answers():
    async def later(config: dict[str, int]) -> int:
        return config["n"] + 1

    assert await MockNode().answer("x", {}) is None
    assert await MockNode(call=lambda config: config["n"]).answer("x", {"n": 1}) == 1
    assert await MockNode(call=later).answer("x", {"n": 1}) == 2
    with pytest.raises(KeyError):
        await MockNode(raises=KeyError).answer("x", {})
    one = MockNode(sequence=[1])
    assert await one.answer("x", {}) == 1
    with pytest.raises(Exception, match="has 1 answers and was called once more"):
        await one.answer("x", {})
    assert one.call_count == 2
    with pytest.raises(ValueError, match="one of"):
        MockNode(returns=1, raises=ValueError)


async def test_a_failing_mock_fails_its_node_as_the_node_would():
    result = await run_workflow(
        CHARGE.replace("retry: {max_attempts: 3, initial_interval: 2h}", ""),
        mocks={"charge": MockNode(raises=RuntimeError("no money"))},
        input={"amount": 5},
        secrets={"PAY": "sesame"},
    )
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.message == "no money"
    assert result.nodes["note"].state is NodeState.SKIPPED


async def test_a_mock_of_a_node_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="did you mean 'charge'"):
        await run_workflow(CHARGE, mocks={"chrage": 1})


async def test_an_unknown_type_that_is_not_mocked_is_refused():
    with pytest.raises(DefinitionError, match="Unknown node type: payment"):
        await run_workflow(CHARGE, input={"amount": 1})


async def test_v1_workflows_run_from_a_file_with_an_unmocked_unknown_type_as_ever(tmp_path: Path):
    path = tmp_path / "flow.yaml"
    path.write_text(
        "name: old\ntrigger: {type: manual}\nnodes:\n"
        "  - {id: a, type: homemade, config: {x: '{{ trigger.n }}'}}\n"
        "  - {id: b, type: transform, depends_on: [a], config: {input: '{{ a }}', expression: $.n}}\n"
        "  - {id: c, type: unheard_of}\n"
    )
    result = await run_workflow(path, mocks={"a": {"n": 3}}, initial_context={"trigger": {"n": 1}})
    assert result.context.get_result("b") == 3
    assert "Unknown node type: unheard_of" in str(result.context.get_error("c"))


def test_a_dry_run_can_be_had_from_here():
    from pyflow.nodes import default_registry
    from pyflow.validation.loader import parse_workflow

    workflow = parse_workflow(CHARGE.replace("type: payment", "type: log").replace('amount: "{{', 'message: "{{'))
    with pytest.raises(DefinitionError, match="key"):
        dry_run(workflow, default_registry)
