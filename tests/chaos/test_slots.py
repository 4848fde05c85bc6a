"""Slots of nodes that are tried again, of two tenants and under two clocks, while workers are killed."""

import json

import pytest

from runs.models import NodeRun, Slot
from runs.services.start import start_version
from tests.chaos.world import ChaosWorld
from tests.support.factories.rows import make_tenant, make_workflow

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

#: Its first attempt fails, and each attempt holds a slot of a key that two may hold.
NODE = {
    "type": "flaky",
    "config": {"pace": 0.05},
    "retry": {"max_attempts": 3, "initial_interval": "100ms"},
    "concurrency": {"key": "shared", "limit": 2},
}
GRAPH = ({"id": "one", **NODE}, {"id": "two", **NODE}, {"id": "three", **NODE, "depends_on": ["one", "two"]})


@pytest.mark.chaos
def test_slots_come_back_from_workers_that_are_killed_between_two_attempts(world: ChaosWorld):
    version = world.workflow(*GRAPH)
    other = make_workflow(make_tenant(), f"version: 2\nname: other\nnodes: {json.dumps(GRAPH)}\n")
    world.add("beat")
    workers = world.workers(2)
    clocks = [member for member in world.members if member.do == "beat"]
    began = [member.pid for member in clocks]
    assert len(clocks) == 2
    for _ in range(6):
        world.start(version, 4)
        world.accepted.append(start_version(version=other, input={}))
        effects = len(world.effects()) + world.chance.randint(1, 6)
        world.until(lambda effects=effects: len(world.effects()) >= effects or not world.unfinished(), what="progress")
        world.kill(world.chance.choice(workers))
        world.tend()
    world.settle(120)
    world.verify()
    attempts = NodeRun.objects.across_tenants().values_list("attempts", flat=True)
    assert min(attempts) >= 2, "each was tried again"
    assert [member.pid for member in clocks] == began, "both clocks go on"
    assert not Slot.objects.across_tenants().exists()
