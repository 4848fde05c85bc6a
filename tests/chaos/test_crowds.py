"""Thousands of runs of one tenant come due together, or wait for one slot, while another starts runs now and then."""

import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection, models

from runs.models import EventRecord, NodeRun, Run
from runs.services.start import start_version
from tenants import quotas
from tenants.models import Tenant
from tests.chaos.world import ChaosWorld
from tests.support import waiting
from tests.support.api import Api
from tests.support.at_once import at_once
from tests.support.factories.rows import a_test, make_api_key, make_tenant, make_workflow
from tests.support.processes.running import state_of

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.e2e,
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.breaks_invariant(
        "runs_per_day_are_those_of_rows",
        "stored_bytes_are_those_of_rows",
        "a_run_is_queued_first_and_again_by_each_retry",
        reason="no request has made, counted or announced the runs of the crowd",
    ),
]

TIMERS = 5_000
BACKLOG = 3_000
BULK_ROUNDS = 8
BULK = {"runs": [{}] * 200}
WORKERS = 2
DELAY = "30s"
QUIET = "version: 2\nname: quiet\nnodes:\n  - {id: a, type: effect}\n"


def copies(run: Run, count: int) -> None:
    """Add copies of a run with its nodes and events."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE copy AS SELECT gen_random_uuid() id FROM generate_series(1, %s)", [count]
        )
        for model, key in ((Run, "id"), (NodeRun, "run_id"), (EventRecord, "run_id")):
            columns = [field.column for field in model._meta.concrete_fields]
            changed = {"id": "gen_random_uuid()", key: "copy.id"}
            values = ", ".join(changed.get(column, f'given."{column}"') for column in columns)
            names = ", ".join(f'"{column}"' for column in columns)
            table = model._meta.db_table
            rows = f"SELECT {values} FROM {table} given, copy WHERE given.{key} = %s"
            cursor.execute(f"INSERT INTO {table} ({names}) {rows}", [run.pk])
        cursor.execute("DROP TABLE copy")


def report(what: str, delays: list[float]) -> None:
    """Print how long runs waited to be started: `pytest -s` shows it."""
    delays.sort()
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    print(f"starts {what}: {len(delays)}, p50 {p50:.3f} s, p99 {p99:.3f} s, last {delays[-1]:.3f} s")


def overtaken_by(crowd: Tenant, runs: Iterable[Run]) -> list[int]:
    """For each run, how many of the crowd were begun or gone on with between its acceptance and its start."""
    begun = EventRecord.objects.for_tenant(crowd).filter(type__in=["run.started", "run.resumed"])
    return [begun.filter(at__range=(run.created_at, run.started_at)).count() for run in runs]


def assert_fair(what: str, crowd: Tenant, runs: Sequence[Run]) -> None:
    """A run waits for the claims that had begun when it came, and for no round after those.

    Each worker has a claim under way and, by the time its runs have begun, the next one: so the crowd is ahead by what
    two claims of each may take, however many it is.
    """
    report(what, [(run.started_at - run.created_at).total_seconds() for run in runs])
    slowest = sorted(runs, key=lambda run: run.started_at - run.created_at)[-100:]
    before = overtaken_by(crowd, slowest)
    print(f"begun before one of them that came later: at most {max(before)}, of {begun_by(crowd)} in all")
    assert max(before) <= WORKERS * 2 * settings.PYFLOW_CONCURRENT_RUNS < begun_by(crowd) / 2


def begun_by(crowd: Tenant) -> int:
    """How often runs of the crowd were begun or gone on with."""
    return EventRecord.objects.for_tenant(crowd).filter(type__in=["run.started", "run.resumed"]).count()


def test_thousands_of_timers_that_come_due_together_delay_no_other_tenant(world: ChaosWorld):
    version = world.workflow(
        {"id": "nap", "type": "wait", "config": {"duration": DELAY}},
        {"id": "b", "type": "effect", "depends_on": ["nap"]},
    )
    quiet = make_workflow(make_tenant(), QUIET)
    world.workers(WORKERS)
    [run] = world.start(version)
    waiting.until(lambda: state_of(run) == "waiting", 30, "waiting run")
    copies(run, TIMERS - 1)
    due = run.wake_at
    assert datetime.now(UTC) < due - timedelta(seconds=1)
    ours = Run.objects.for_tenant(world.tenant)
    started = []
    while ours.filter(finished_at=None).exists():
        started.append(start_version(version=quiet, input={}))
        world.tend()
        time.sleep(0.1)
    world.accepted += started
    world.settle()
    last = ours.aggregate(last=models.Max("finished_at"))["last"]
    print(f"timers: {TIMERS}, drained in {(last - due).total_seconds():.1f} s")
    theirs = Run.objects.for_tenant(quiet.tenant_id).order_by("created_at")
    during = theirs.filter(created_at__range=(due, last))
    assert_fair("of another tenant meanwhile", world.tenant, list(during))
    world.verify()
    assert {run.claims for run in theirs} == {1}
    assert {run.claims for run in ours} == {2}, "one before the timer, one after it"


def test_bulk_clients_delay_no_other_tenant(world: ChaosWorld):
    """Four clients of one tenant start runs in batches and act on all that wait, as fast as they are answered."""
    version = world.workflow({"id": "a", "type": "effect", "config": {"pace": 0.05}}, name="busy")
    limits = {"runs_per_day": 1_000_000, "stored_bytes": 10**10}
    quotas.set_plan(tenant=world.tenant, plan="enterprise", overrides=limits, by=a_test(world.tenant))
    quiet = make_workflow(make_tenant(), QUIET)
    key = make_api_key(world.tenant)[1]
    world.workers(WORKERS)
    answers: list[int] = []
    done = threading.Event()

    def bulk() -> None:
        api = Api(key)
        stop = {"action": "terminate", "filter": {"state": ["queued"]}, "limit": 100}
        for _ in range(BULK_ROUNDS):
            answers.append(api.post(f"/api/v1/workflows/{version.workflow.name}/runs/batch", BULK).status_code)
            answers.append(api.post("/api/v1/runs/actions", stop).status_code)

    def crowd() -> None:
        at_once(*[bulk] * 4)
        done.set()

    clients = threading.Thread(target=crowd)
    clients.start()
    started = []
    while not done.is_set():
        started.append(start_version(version=quiet, input={}))
        world.tend()
        time.sleep(0.1)
    clients.join()
    theirs = Run.objects.for_tenant(quiet.tenant_id).order_by("created_at")
    world.until(lambda: not theirs.filter(finished_at=None).exists(), what="end of the other tenant's runs")
    world.until(lambda: not Run.objects.across_tenants().filter(finished_at=None).exists(), 300, "end of all runs")
    assert set(answers) == {200, 202}
    assert_fair("beside bulk clients", world.tenant, list(theirs))
    assert {(run.state, run.claims) for run in theirs} == {("succeeded", 1)}


def test_a_backlog_of_runs_that_wait_for_a_slot_delays_no_other_tenant(world: ChaosWorld):
    version = world.workflow(
        {"id": "a", "type": "effect", "config": {"pace": 0.2}},
        settings={"concurrency": {"key": "one", "limit": 1, "on_limit": "queue"}},
    )
    quiet = make_workflow(make_tenant(), QUIET)
    world.workers(WORKERS)
    world.start(version)
    Run.objects.bulk_create(
        [
            Run(tenant=world.tenant, workflow_id=version.workflow_id, version=version, input={})
            for _ in range(BACKLOG - 1)
        ]
    )
    untouched = Run.objects.for_tenant(world.tenant).filter(claims=0)
    started = []
    while untouched.exists():
        started.append(start_version(version=quiet, input={}))
        world.tend()
        time.sleep(0.1)
    theirs = Run.objects.for_tenant(quiet.tenant_id)
    world.until(lambda: not theirs.filter(finished_at=None).exists(), what="end of the other tenant's runs")
    assert len(started) == theirs.count()
    report("beside runs that are parked", [(run.started_at - run.created_at).total_seconds() for run in theirs])
    assert {run.state for run in theirs} == {"succeeded"}
    assert {run.claims for run in theirs} == {1}
