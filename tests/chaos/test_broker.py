"""Redis: flushed, restarted, frozen, cut off, and every message received many times or never."""

import time

import pytest
import redis

from pyflow_site.celery import app
from runs.notify.broker import key_prefix
from runs.notify.notifications import queued_topic
from runs.notify.workers import EXECUTE_TASK
from tests.chaos.world import ChaosWorld

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]

CHAIN = (
    {"id": "one", "type": "effect", "config": {"pace": 0.1}},
    {"id": "two", "type": "effect", "depends_on": ["one"], "config": {"pace": 0.1}},
    {"id": "three", "type": "effect", "depends_on": ["two"]},
)


@pytest.mark.chaos
def test_redis_is_flushed_again_and_again(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(5):
        world.start(version, 3)
        time.sleep(world.chance.uniform(0, 0.3))
        world.flush_broker()
    world.settle()
    world.verify()


def test_redis_is_restarted_empty(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(2):
        world.start(version, 3)
        time.sleep(world.chance.uniform(0, 0.3))
        world.site.redis.end()
        world.start(version, 3)
        world.site.redis.start()
    world.settle()
    world.verify()


@pytest.mark.chaos
def test_every_message_is_delivered_five_times(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    with redis.Redis.from_url(f"redis://127.0.0.1:{world.site.broker.port}/0") as client:
        for _ in range(4):
            world.start(version, 3)
            for _ in range(5):
                app.send_task(EXECUTE_TASK, ignore_result=True)
                client.publish(f"{key_prefix('redis://x/0')}{queued_topic('')}", "")
    world.settle()
    world.verify()


@pytest.mark.chaos
def test_no_message_is_delivered(world: ChaosWorld):
    """Runs that are accepted while nothing can be published are found all the same."""
    version = world.workflow(*CHAIN)
    world.workers(2)
    world.site.broker.refuse()
    world.start(version, 10)
    time.sleep(2)
    world.site.broker.heal()
    world.settle()
    world.verify()


@pytest.mark.chaos
def test_redis_is_frozen(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    for _ in range(2):
        world.start(version, 3)
        world.site.broker.stall()
        world.start(version, 3)
        time.sleep(world.chance.uniform(3, 8))
        world.site.broker.flow()
        time.sleep(1)
    world.settle(90)
    world.verify()


@pytest.mark.chaos
def test_redis_is_away_for_a_minute(world: ChaosWorld):
    """Executors that are awake go on; nothing that was accepted meanwhile is forgotten."""
    version = world.workflow(*CHAIN)
    world.workers(2)
    world.start(version, 3)
    world.site.redis.end()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        world.start(version, 1)
        world.tend()
        time.sleep(3)
    world.site.redis.start()
    world.settle(120)
    world.verify()


@pytest.mark.chaos
def test_connections_to_redis_are_reset_half_closed_and_slow(world: ChaosWorld):
    version = world.workflow(*CHAIN)
    world.workers(2)
    for hurt in (world.site.broker.reset, world.site.broker.half_close, lambda: world.site.broker.delay(0.4)) * 2:
        world.start(version, 3)
        time.sleep(world.chance.uniform(0, 0.4))
        hurt()
        time.sleep(1)
    world.settle(90)
    world.verify()
