"""Workers are replaced while runs are executed, and everybody asks for something at once."""

import threading
import time

import pytest
from django.db import connections

from runs.errors import RunFinishedError
from runs.models import Run
from runs.queue.slots import reconcile
from runs.services.cancel import cancel_run
from tests.chaos.world import ChaosWorld
from tests.support import waiting
from tests.support.factories.rows import a_test

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

CHAIN = (
    {"id": "one", "type": "effect", "config": {"pace": 0.1}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.3}},
    {"id": "three", "type": "effect", "depends_on": ["two"]},
)
QUICK = (
    {"id": "one", "type": "effect", "config": {"pace": 0.01}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.01}},
)


@pytest.mark.chaos
def test_workers_are_replaced_under_load(world: ChaosWorld):
    """SIGTERM to one after the other: runs are handed over, and being replaced is no loss."""
    version = world.workflow(*CHAIN)
    workers = world.workers(2)
    for worker in workers * 2:
        world.start(version, 4)
        time.sleep(world.chance.uniform(0.1, 0.5))
        world.terminate(worker)
        world.tend()
    world.settle()
    world.verify()
    assert not Run.objects.across_tenants().filter(losses__gt=0).exists()


def test_cancel_races_with_completion(world: ChaosWorld):
    _race(world, races=40)


@pytest.mark.chaos
def test_cancel_races_with_completion_a_thousand_times(world: ChaosWorld):
    _race(world, races=1000)


def _race(world: ChaosWorld, races: int) -> None:
    """Each run ends once, in one way, with one event that says so, and gives its slots back."""
    version = world.workflow(*QUICK, settings={"concurrency": {"key": "race", "limit": 20, "on_limit": "queue"}})
    world.workers(2)
    asked = [0, 0]

    def cancel(run: Run, after: float) -> None:
        time.sleep(after)
        try:
            cancel_run(by=a_test(world.tenant), run_id=run.pk)
            asked[0] += 1
        except RunFinishedError:
            asked[1] += 1
        finally:
            connections.close_all()

    for _ in range(races // 20):
        threads = [
            threading.Thread(target=cancel, args=(run, world.chance.uniform(0, 0.3)))
            for run in world.start(version, 20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.until(lambda: world.unfinished() == 0, what="end of the runs of a race")
    waiting.until(lambda: reconcile() == 0, 10, "free slots")
    world.verify(states=("succeeded", "cancelled"))
    ends = set(Run.objects.across_tenants().values_list("state", flat=True))
    assert ends == {"succeeded", "cancelled"}, f"the race is one-sided: {asked}"
