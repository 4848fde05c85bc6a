"""`settings.concurrency`: which runs begin, which wait, which end for it, and how."""

import asyncio
from typing import Any

import pytest

from pyflow.execution.engine import WorkflowEngine
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow


def one_at_a_time(id: str, on_limit: str) -> Any:
    return workflow(
        node(id, "held", config={"value": id}),
        settings={"concurrency": {"key": "{{ input.key }}", "on_limit": on_limit}},
    )


@pytest.mark.parametrize(
    ("on_limit", "state", "code"),
    [
        ("skip", "cancelled", "concurrency_skipped"),
        ("fail", "failed", "concurrency_limit"),
        ("cancel_newest", "cancelled", "concurrency_limit"),
    ],
)
async def test_a_run_without_a_slot_ends_before_it_begins_and_says_why(on_limit: str, state: str, code: str):
    held, sink = stage.Held(), stage.Sink()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    result = await stage.execute(engine, one_at_a_time("two", on_limit), input={"key": "k"}, sink=sink)
    assert (result.state, result.error and result.error.code) == (state, code)
    assert stage.states(result) == {"two": "skipped"}
    assert (result.started_at, result.as_dict()["error"]["code"]) == (result.finished_at, code)
    assert sink.trail() == [f"run.{state}"]
    assert (sink.events[0].data["state"], sink.events[0].data["error"]["code"]) == (state, code)
    held.leave.set()
    assert (await first).succeeded


async def test_a_key_that_cannot_be_rendered_fails_the_run():
    sink = stage.Sink()
    result = await stage.run(one_at_a_time("one", "queue"), {"held": stage.Held()}, input={}, sink=sink)
    assert (result.state, result.error and result.error.code) == ("failed", "template_undefined")
    assert sink.trail() == ["run.failed"]


@pytest.mark.parametrize("on_limit", ["skip", "fail", "cancel_newest", "cancel_oldest"])
async def test_a_run_that_has_begun_once_waits_for_its_slot_whatever_on_limit_says(on_limit: str):
    held = stage.Held()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    again = asyncio.create_task(
        stage.start(engine, one_at_a_time("two", on_limit), input={"key": "k"}, begun_at=1.0).wait()
    )
    for _ in range(20):
        await asyncio.sleep(0)
    assert held.inside == ["one"]
    held.leave.set()
    assert [(await first).succeeded, (await again).succeeded] == [True, True]


def tidy(id: str, on_limit: str = "cancel_oldest") -> Any:
    """Something to undo, then a node that stays inside; and a node at the end."""
    return workflow(
        node("effect", compensate={"type": "echo"}),
        node("stays", "held", "effect", config={"value": id}),
        settings={"concurrency": {"key": "{{ input.key }}", "on_limit": on_limit}},
        finally_=[node("bye", "held", config={"value": f"{id} cleans up"})],
    )


async def test_the_run_that_makes_room_is_cancelled_as_a_whole_before_the_newer_one_begins():
    held, sink = stage.Held(), stage.Sink()
    engine = WorkflowEngine(stage.registry(held=held), sink=sink)
    first = asyncio.create_task(engine.execute(tidy("one"), input={"key": "k"}, run_id="first"))
    await held.until("one")
    second = asyncio.create_task(engine.execute(tidy("two"), input={"key": "k"}, run_id="second"))
    await held.until("one cleans up")
    assert [event.run_id for event in sink.events if event.run_id == "second"] == []
    held.leave.set()
    one, two = await first, await second
    assert two.succeeded
    assert (one.state, one.error and one.error.code) == ("cancelled", "concurrency_limit")
    assert one.compensation == "succeeded"
    assert (one.nodes["stays"].state, one.nodes["bye"].state) == ("cancelled", "succeeded")
    ends = [(event.run_id, str(event.type)) for event in sink.events if event.node_id is None]
    assert ends == [
        ("first", "run.started"),
        ("first", "run.cancelled"),
        ("second", "run.started"),
        ("second", "run.succeeded"),
    ]


async def test_of_many_that_make_room_for_each_other_only_the_newest_does_its_work():
    held = stage.Held()
    engine = WorkflowEngine(stage.registry(held=held))
    runs = [asyncio.create_task(engine.execute(tidy("a"), input={"key": "k"}))]
    await held.until("a")
    runs += [asyncio.create_task(engine.execute(tidy(id), input={"key": "k"})) for id in "bcd"]
    await held.until("a cleans up", "b cleans up", "c cleans up")
    held.leave.set()
    results = [await run for run in runs]
    assert [str(result.state) for result in results] == ["cancelled"] * 3 + ["succeeded"]


async def test_a_run_that_only_finishes_ends_as_it_would_have_and_the_newer_one_waits():
    held = stage.Held()
    engine = WorkflowEngine(stage.registry(held=held))
    ending = workflow(
        node("a"),
        settings={"concurrency": {"key": "k", "on_limit": "cancel_oldest"}},
        finally_=[node("bye", "held", config={"value": "bye"})],
    )
    first = asyncio.create_task(engine.execute(ending))
    await held.until("bye")
    second = asyncio.create_task(engine.execute(ending))
    for _ in range(20):
        await asyncio.sleep(0)
    assert held.inside == ["bye"]
    held.leave.set()
    assert [(await first).succeeded, (await second).succeeded] == [True, True]


async def test_a_run_that_is_cancelled_while_it_waits_for_its_slot_ends_at_once():
    held = stage.Held()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    execution = stage.start(engine, one_at_a_time("two", "queue"), input={"key": "k"})
    second = asyncio.create_task(execution.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    execution.cancel()
    result = await second
    assert (result.state, result.error and result.error.code) == ("cancelled", "run_cancelled")
    third = asyncio.create_task(engine.execute(one_at_a_time("three", "queue"), input={"key": "k"}))
    held.leave.set()
    assert [(await first).succeeded, (await third).succeeded] == [True, True]


async def test_a_run_that_is_abandoned_while_it_waits_for_its_slot_sends_no_events():
    held, sink = stage.Held(), stage.Sink()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    execution = stage.start(engine, one_at_a_time("two", "queue"), input={"key": "k"}, sink=sink)
    second = asyncio.create_task(execution.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    execution.cancel()  # too late, and harmless
    assert sink.events == []
    held.leave.set()
    assert (await first).succeeded
