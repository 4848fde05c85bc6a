"""Nodes that ruin the process that they are in: they kill it, eat its memory, never give it back, fill its disk."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runs.models import Run
from tests.chaos.world import ChaosWorld
from tests.support.factories import poison
from tests.support.factories.rows import make_tenant, make_workflow

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]


def node(type: str, **config: object) -> dict[str, object]:
    return {"id": "only", "type": type, "config": config}


def test_a_poison_run_fails_and_takes_no_other_with_it(world: ChaosWorld):
    """Runs that share a process with it are lost as often as it is: that alone must not fail them."""
    slow = world.workflow(node("effect", pace=2.5), name="slow")
    poison = world.workflow(node("poison", pace=0.3), name="poison")
    world.workers(1)
    innocent = world.start(slow, 3)
    [guilty] = world.start(poison)
    world.settle(120)
    world.verify(states=("succeeded", "failed"))
    guilty.refresh_from_db()
    assert (guilty.state, guilty.error["code"]) == ("failed", "worker_lost")
    states = Run.objects.across_tenants().filter(pk__in=[run.pk for run in innocent]).values_list("state", flat=True)
    assert set(states) == {"succeeded"}


@pytest.mark.chaos
def test_many_poison_runs_among_many_others(world: ChaosWorld):
    chain = [
        {"id": f"n{i}", "type": "effect", "depends_on": [f"n{i - 1}"] if i else [], "config": {"pace": 0.1}}
        for i in range(5)
    ]
    good = world.workflow(*chain, name="good")
    poison = world.workflow(node("poison", pace=0.2), name="poison")
    world.workers(2)
    guilty: list[Run] = []
    innocent: list[Run] = []
    for _ in range(4):
        innocent += world.start(good, 5)
        guilty += world.start(poison)
    world.settle(240)
    world.verify(states=("succeeded", "failed"))
    for runs, state in ((guilty, "failed"), (innocent, "succeeded")):
        found = Run.objects.across_tenants().filter(pk__in=[run.pk for run in runs]).values_list("state", flat=True)
        assert set(found) == {state}


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("way", "isolated"), [("sleep", True), ("sleep", False), ("c-loop", True), ("c-loop", False), ("deaf", True)]
)
def test_a_node_that_never_returns(way: str, isolated: bool, world: ChaosWorld):
    """Its timeout ends it, whatever it does; if it keeps the interpreter, its process is ended, and it with it."""
    more = {"isolation": "process"} if isolated else {}
    hanging = world.workflow({**node("hang", way=way), "timeout": "1s", **more}, name="hanging")
    good = world.workflow(node("effect", pace=0.2), name="good")
    world.workers(1)
    [guilty] = world.start(hanging)
    innocent = world.start(good, 5)
    world.settle(150)
    world.verify(states=("succeeded", "failed", "timed_out"))
    guilty.refresh_from_db()
    lost = way == "c-loop" and not isolated
    assert guilty.error["code"] == ("worker_lost" if lost else "node_timeout"), guilty.error
    states = Run.objects.across_tenants().filter(pk__in=[run.pk for run in innocent]).values_list("state", flat=True)
    assert set(states) == {"succeeded"}


@pytest.mark.chaos
def test_a_node_that_wants_too_much_memory(world: ChaosWorld):
    hungry = world.workflow(
        {**node("gorge", size=2_000_000_000), "isolation": "process", "memory_limit": "200MB"}, name="hungry"
    )
    good = world.workflow(node("effect", pace=0.2), name="good")
    world.workers(1)
    [guilty] = world.start(hungry)
    world.start(good, 5)
    world.settle(60)
    world.verify(states=("succeeded", "failed"))
    guilty.refresh_from_db()
    assert guilty.error["code"] == "memory_limit", guilty.error


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.chaos
def test_a_full_disk_fails_the_node_that_fills_it(world: ChaosWorld):
    """What the node wrote is lost, and its run says so; the others have nothing to do with it."""
    with small_disk(world.home / "disk") as disk:
        filling = world.workflow(node("fill", path=str(disk / "file"), size=5_000_000), name="filling")
        good = world.workflow(node("effect"), name="good")
        world.workers(1)
        [guilty] = world.start(filling)
        world.start(good, 5)
        world.settle(60)
    world.verify(states=("succeeded", "failed"))
    guilty.refresh_from_db()
    assert guilty.state == "failed"
    assert os.strerror(28) in guilty.error["message"]


#: What ends the process that the node is in: its runs are taken up by others, and in the end it is alone.
FATAL = ("exits_hard", "kills_itself", "never_yields")


@pytest.mark.chaos
@pytest.mark.parametrize("name", [*sorted(poison.POISONS), *FATAL])
def test_a_node_takes_none_of_thirty_runs_of_another_tenant_with_it(name: str, world: ChaosWorld):
    """On a worker, whose main thread executes nodes: a table of how many of the thirty did not succeed."""
    chain = [
        {"id": f"n{i}", "type": "effect", "depends_on": [f"n{i - 1}"] if i else [], "config": {"pace": 0.1}}
        for i in range(3)
    ]
    good = world.workflow(*chain, name="good")
    other = make_workflow(make_tenant(), f"version: 2\nname: poison\nnodes: [{{id: only, type: {name}}}]\n")
    world.workers(1)
    innocent = world.start(good, 15)
    [guilty] = world.start(other)
    innocent += world.start(good, 15)
    world.settle(150)
    world.verify(states=("succeeded", "failed"))
    states = Run.objects.across_tenants().filter(pk__in=[run.pk for run in innocent]).values_list("state", flat=True)
    assert [state for state in states if state != "succeeded"] == []
    guilty.refresh_from_db()
    code = "worker_lost" if name in FATAL else poison.CODES.get(name)
    if name == "sets_signal_handlers":
        code = None  # the main thread may, and they are put back
    found = None if guilty.error is None else guilty.error["code"]
    assert (guilty.state, found) == ("failed" if code else "succeeded", code), guilty.error
