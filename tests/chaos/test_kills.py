"""`kill -9`: of whole workers at random moments, and of executors at the worst ones."""

import pytest

from tests.chaos import crashes
from tests.chaos.world import ChaosWorld

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

DIAMOND = (
    {"id": "first", "type": "effect", "config": {"pace": 0.02}},
    {"id": "left", "type": "effect", "depends_on": ["first"], "config": {"pace": 0.02}},
    {"id": "right", "type": "effect", "depends_on": ["first"], "config": {"pace": 0.05}},
    {"id": "join", "type": "effect", "depends_on": ["left", "right"], "config": {"pace": 0.02}},
    {"id": "last", "type": "effect", "depends_on": ["join"]},
)


def test_workers_are_killed_at_random(world: ChaosWorld):
    _kill(world, kills=4)


@pytest.mark.chaos
def test_workers_are_killed_at_random_all_the_time(world: ChaosWorld):
    _kill(world, kills=60)


def _kill(world: ChaosWorld, kills: int) -> None:
    version = world.workflow(*DIAMOND)
    workers = world.workers(2)
    for _ in range(kills):
        world.start(version, 3)
        effects = len(world.effects()) + world.chance.randint(0, 10)
        world.until(lambda effects=effects: len(world.effects()) >= effects or not world.unfinished(), what="progress")
        world.kill(world.chance.choice(workers))
        world.tend()
    world.settle()
    world.verify(states=("succeeded", "failed"))


#: The worst ones: what has happened is not on record, or is and nobody knows.
WORST = {"claim.after", "effect.after", "commit.after"}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[] if place in WORST else pytest.mark.chaos)
        for place in crashes.PLACES
        if not place.startswith("notify")
    ],
)
def test_an_executor_dies_at(place: str, world: ChaosWorld):
    version = world.workflow(*DIAMOND)
    # A claim may take all runs at once: there need not be another one.
    count = 1 if place == "claim.after" else world.chance.randint(1, 5)
    world.workers(2, **world.crash_at(place, count))
    world.start(version, 6)
    world.settle()
    world.verify()
    assert world.has_crashed(place)


@pytest.mark.parametrize("place", ["notify.before", pytest.param("notify.after", marks=pytest.mark.chaos)])
def test_who_accepts_runs_dies_at(place: str, world: ChaosWorld):
    """A run whose acceptance was committed is executed, whether or not a notification was sent."""
    version = world.workflow(*DIAMOND)
    world.workers(1)
    world.add("starter", str(version.pk), "5", supervised=False, **world.crash_at(place, 3))
    world.until(lambda: world.has_crashed(place), what="crash")
    world.settle()
    world.verify()
