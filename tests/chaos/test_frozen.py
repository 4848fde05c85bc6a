"""Workers that are frozen, and wake up when others have their runs; machines that vanish without a word."""

import signal
import time

import pytest

from runs.models import Run
from tests.chaos.world import World

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

CHAIN = (
    {"id": "one", "type": "effect", "config": {"pace": 0.2}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.2}},
    {"id": "three", "type": "effect", "depends_on": ["two"], "config": {"pace": 0.2}},
)


def test_a_frozen_worker_that_wakes_up_writes_nothing(world: World):
    _freeze(world, times=1)


@pytest.mark.chaos
def test_workers_are_frozen_at_random(world: World):
    _freeze(world, times=10)


def _freeze(world: World, times: int) -> None:
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


def test_a_worker_vanishes_in_the_middle_of_a_transaction(world: World):
    """Its machine has lost its power: PostgreSQL is told nothing, and it has locked the rows of its runs."""
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
