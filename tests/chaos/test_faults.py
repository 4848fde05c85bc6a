"""200 runs of four fsynced nodes, of two tenants on two queues with two workers, under each fault of a process."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from django.db.models import Count

from runs.models import EventRecord, NodeRun, Run
from runs.notify.workers import celery_queue
from runs.services.start import start_version
from tests.chaos.world import ChaosWorld, Member
from tests.support.factories.rows import make_tenant, make_workflow
from tests.support.processes.platform import LEASE_SECONDS

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(900)]

OURS, THEIRS = 160, 40
RUNS = OURS + THEIRS
CHAIN = tuple(
    {"id": f"n{i}", "type": "effect", "depends_on": [f"n{i - 1}"] if i else [], "config": {"pace": 0.1}}
    for i in range(4)
)


def kill(world: ChaosWorld, worker: Member) -> None:
    world.kill(worker)
    world.tend()


def terminate(world: ChaosWorld, worker: Member) -> None:
    world.terminate(worker)
    world.tend()


def freeze(world: ChaosWorld, worker: Member) -> None:
    world.signal(worker, signal.SIGSTOP)
    time.sleep(1.5 * LEASE_SECONDS)
    world.signal(worker, signal.SIGCONT)


def restart_postgresql(world: ChaosWorld, worker: Member) -> None:
    world.stop_postgres()
    time.sleep(world.chance.uniform(0, 2))
    world.site.postgres.start()


def restart_redis(world: ChaosWorld, worker: Member) -> None:
    world.site.redis.end()
    time.sleep(world.chance.uniform(0, 2))
    world.site.redis.start()


def flush_redis(world: ChaosWorld, worker: Member) -> None:
    world.flush_broker()


def cut_the_network(world: ChaosWorld, worker: Member) -> None:
    """From PostgreSQL and from Redis, for longer than a lease."""
    for proxy in (world.site.database, world.site.broker):
        proxy.refuse()
    time.sleep(1.5 * LEASE_SECONDS)
    for proxy in (world.site.database, world.site.broker):
        proxy.heal()


Fault = Callable[[ChaosWorld, Member], None]
#: Executors have nothing to do with these.
BESIDE: tuple[Fault, ...] = (restart_redis, flush_redis)


@pytest.mark.parametrize(
    "fault", [kill, terminate, freeze, restart_postgresql, cut_the_network, *BESIDE], ids=lambda fault: fault.__name__
)
def test_of_two_hundred_runs_each_node_succeeds_once(fault: Fault, world: ChaosWorld):
    ours = world.workflow(*CHAIN)
    source = f"version: 2\nname: second\nsettings: {{queue: second}}\nnodes: {json.dumps(CHAIN)}\n"
    theirs = make_workflow(make_tenant(), source)
    world.add("beat")
    queues = ("--concurrency", "1", "-Q", f"{celery_queue('')},second")
    workers = [world.add("worker", *queues) for _ in range(2)]
    pools = {pid for worker in workers for pid in world.pool(worker)}
    world.accepted += [start_version(version=theirs, input={}) for _ in range(THEIRS)]
    world.start(ours, OURS)
    for part in (0.1, 0.3, 0.5):
        effects = int(part * RUNS * len(CHAIN))
        world.until(lambda effects=effects: len(world.effects()) >= effects, what="progress")
        fault(world, world.chance.choice(workers))
    world.settle(180)
    world.verify(thawed=pools if fault is freeze else ())

    runs = Run.objects.across_tenants()
    per_tenant = Counter(runs.filter(state="succeeded").values_list("tenant", "queue"))
    assert per_tenant == {(world.tenant.pk, ""): OURS, (theirs.tenant_id, "second"): THEIRS}
    successes = EventRecord.objects.across_tenants().filter(type="node.succeeded").values("run", "node_id")
    assert len(successes) == len(successes.distinct()) == RUNS * len(CHAIN)
    assert set(NodeRun.objects.across_tenants().values_list("state", flat=True)) == {"succeeded"}
    effects_of = Counter(effect.key for effect in world.effects())
    assert len(effects_of) == RUNS * len(CHAIN)
    repeated = sum(times - 1 for times in effects_of.values())
    again = runs.filter(claims__gt=1).aggregate(n=Count("pk"))["n"]
    print(f"{fault.__name__}: {repeated} of {RUNS * len(CHAIN)} effects repeated, {again} of {RUNS} runs claimed again")
    if fault in BESIDE:
        assert (repeated, again) == (0, 0), "the broker is not what runs are executed by"
    elif fault is terminate:
        assert not runs.filter(losses__gt=0).exists(), "being replaced is no loss"
    assert fault in BESIDE or again, "the fault has met runs that are executed"
