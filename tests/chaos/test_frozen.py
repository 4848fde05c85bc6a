"""Workers that are frozen, and wake up when others have their runs; machines that vanish without a word."""

import signal
import time
from collections import Counter
from contextlib import suppress

import pytest
from django.db.models import Count

from runs.errors import RunFinishedError
from runs.models import Run
from runs.services.terminate import terminate_run
from tests.chaos.world import ChaosWorld
from tests.support.factories.rows import a_test

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

CHAIN = (
    {"id": "one", "type": "effect", "config": {"pace": 0.2}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.2}},
    {"id": "three", "type": "effect", "depends_on": ["two"], "config": {"pace": 0.2}},
)


def test_a_frozen_worker_that_wakes_up_writes_nothing(world: ChaosWorld):
    _freeze(world, times=1)


@pytest.mark.chaos
def test_workers_are_frozen_at_random(world: ChaosWorld):
    _freeze(world, times=10)


def _freeze(world: ChaosWorld, times: int) -> None:
    version = world.workflow(*CHAIN)
    workers = world.workers(2)
    thawed: set[int] = set()
    for _ in range(times):
        runs = world.start(version, 5)
        world.until(lambda: Run.objects.across_tenants().filter(state="running").exists(), what="claim")
        time.sleep(world.chance.uniform(0, 0.5))
        zombie = world.chance.choice(workers)
        pool = world.pool(zombie)
        world.signal(zombie, signal.SIGSTOP)
        ids = [run.pk for run in runs]
        left = Run.objects.across_tenants().filter(pk__in=ids, finished_at=None)
        world.until(lambda left=left: not left.exists(), what="end of the runs of a frozen worker")
        thawed.update(pool)
        world.signal(zombie, signal.SIGCONT)
        time.sleep(world.chance.uniform(0, 1))
    world.settle()
    world.verify(thawed=thawed)


@pytest.mark.chaos
def test_workers_are_frozen_while_they_execute_families(world: ChaosWorld):
    """Each child is started once, whoever of its parent's executors starts it, and none is left under its parent."""
    world.workflow(*CHAIN[:2], name="child")
    call = {"id": "call", "type": "workflow", "config": {"workflow": "child"}, "for_each": [1, 2, 3]}
    parent = world.workflow(CHAIN[0], {**call, "depends_on": ["one"], "max_parallel": 2}, name="parent")
    workers = world.workers(2)
    thawed: set[int] = set()
    everybody = Run.objects.across_tenants()
    for turn in range(6):
        runs = world.start(parent, 4)
        begun = len(world.effects()) + world.chance.randint(1, 20)
        world.until(lambda begun=begun: len(world.effects()) >= begun or not world.unfinished(), what="progress")
        zombie = world.chance.choice(workers)
        thawed.update(world.pool(zombie))
        world.signal(zombie, signal.SIGSTOP)
        if turn % 2:  # it finds that its parents were ended, and that their children are going to be
            for run in runs[:2]:
                with suppress(RunFinishedError):
                    terminate_run(by=a_test(world.tenant), run_id=run.pk)
        world.until(lambda: not world.unfinished(), 120, "end of the runs of a frozen worker")
        world.signal(zombie, signal.SIGCONT)
        time.sleep(world.chance.uniform(0, 1))
    world.settle()
    world.verify(states=("succeeded", "cancelled"), thawed=thawed)
    families = everybody.filter(parent=None).annotate(n=Count("children")).values_list("state", "n")
    assert len(families) == 24
    assert {n for state, n in families if state == "succeeded"} == {3}
    assert max(n for _, n in families) == 3
    ends = Counter(everybody.filter(parent__state="succeeded").values_list("state", flat=True))
    assert set(ends) == {"succeeded"}
    assert everybody.filter(claims__gt=1, parent__isnull=False).exists(), "children were taken over"


def test_a_worker_vanishes_in_the_middle_of_a_transaction(world: ChaosWorld):
    """Its machine has lost its power: PostgreSQL gets no message, and it has locked the rows of its runs."""
    version = world.workflow(*CHAIN)
    world.add("beat")
    world.add("worker", **world.crash_at("commit.before", 4), supervised=False)
    world.site.database.hide_ends()
    world.start(version, 3)
    world.until(lambda: world.has_crashed("commit.before"), what="crash")
    world.kill(world.members[-1])
    world.add("worker")
    world.settle()
    world.verify()
