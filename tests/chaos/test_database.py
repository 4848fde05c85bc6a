"""PostgreSQL: stopped in the middle of everything, its backends killed, its answers lost, its links cut and stalled."""

import time

import psycopg
import pytest
from django.db import connections

from tests.chaos.world import ChaosWorld

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

CHAIN = (
    {"id": "one", "type": "effect", "config": {"pace": 0.05}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.1}},
    {"id": "three", "type": "effect", "depends_on": ["two"], "config": {"pace": 0.05}},
    {"id": "four", "type": "effect", "depends_on": ["three"]},
)


def test_postgresql_is_stopped_at_once(world: ChaosWorld):
    _stop_immediately(world, times=2)


@pytest.mark.chaos
def test_postgresql_is_stopped_at_once_many_times(world: ChaosWorld):
    _stop_immediately(world, times=15)


def _stop_immediately(world: ChaosWorld, times: int) -> None:
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(times):
        world.start(version, 4)
        time.sleep(world.chance.uniform(0, 0.6))
        world.stop_postgres()
        time.sleep(world.chance.uniform(0, 2))
        world.site.postgres.start()
    world.settle(90)
    world.verify()


def test_answers_to_commit_are_lost(world: ChaosWorld):
    """The client cannot know whether it is committed: it has to look."""
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(4):
        world.start(version, 3)
        world.site.database.lose_commits(world.chance.randint(1, 4))
        time.sleep(world.chance.uniform(0, 0.4))
    world.settle(90)
    world.verify()
    assert world.site.database.lost > 0


@pytest.mark.chaos
def test_backends_are_killed(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    with psycopg.connect(world.site.url, autocommit=True) as connection:
        for _ in range(15):
            world.start(version, 2)
            time.sleep(world.chance.uniform(0, 0.4))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND random() < 0.5"
            )
            connections["default"].close()  # the test's own
    world.settle(90)
    world.verify()


@pytest.mark.chaos
def test_connections_to_postgresql_are_reset_half_closed_and_slow(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    for hurt in (
        world.site.database.reset,
        world.site.database.half_close,
        lambda: world.site.database.delay(0.05),
    ) * 3:
        world.start(version, 3)
        time.sleep(world.chance.uniform(0, 0.4))
        hurt()
        time.sleep(1)
        world.site.database.heal()
    world.settle(90)
    world.verify()


@pytest.mark.chaos
def test_links_to_postgresql_stall(world: ChaosWorld):
    """Longer than a lease: whoever was cut off finds, afterwards, that its runs may be others'."""
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(3):
        world.start(version, 4)
        time.sleep(world.chance.uniform(0, 0.4))
        world.site.database.stall()
        time.sleep(world.chance.uniform(4, 8))
        world.site.database.flow()
        time.sleep(1)
    world.settle(90)
    world.verify()
