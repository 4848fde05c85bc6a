"""Counters of quotas say what rows say, whatever a process believes of a limit, and are repaired if they do not."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F

from runs import tasks
from runs.errors import RunNotFoundError
from runs.models import Run
from runs.services import reruns
from runs.services.end import TERMINATED, end_run
from runs.services.reruns import rerun
from runs.storage import counters
from runs.storage.counters import Repair, repair_counters
from runs.storage.removal import remove_runs
from runs.storage.retention import prune
from secrets_vault.services import create_secret
from tenants import quotas
from tenants.errors import QuotaExceededError
from tenants.models import AuditEntry, Tenant, UsageCounter
from tenants.plans import Quota
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import a_test, make_run, make_tenant, make_workflow
from tests.support.processes.running import ended

pytestmark = pytest.mark.database
SECRET = "a-key-of-thirty-two-characters-!"


def give(tenant: Tenant, **limits: int | None) -> None:
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides=limits, by=a_test(tenant))


def believe(tenant: Tenant, **limits: int | None) -> None:
    """Have this process believe what a tenant's limits are, as one does that has not learned of a change."""
    quotas.remember(tenant.pk, "enterprise", limits)


def says(tenant: Tenant, quota: Quota = Quota.STORED_BYTES) -> int:
    return quotas.counter(tenant_id=tenant.pk, quota=quota)


def spoil(tenant: Tenant, amount: int, quota: Quota = Quota.STORED_BYTES) -> None:
    row = UsageCounter.objects.for_tenant(tenant).filter(name=quota.value).order_by("pk")[0]
    UsageCounter.objects.for_tenant(tenant).filter(pk=row.pk).update(count=F("count") + amount)


def test_bytes_that_are_given_back_are_those_that_were_counted_under_another_plan(tenant):
    runs = [make_run(tenant) for _ in range(3)]  # without a limit: in a shard
    give(tenant, stored_bytes=10**6)
    believe(tenant)  # not yet here
    runs.append(make_run(tenant))
    believe(tenant, stored_bytes=10**6)
    Run.objects.for_tenant(tenant).update(state="cancelled")
    with transaction.atomic():
        remove_runs(tenant_id=tenant.pk, run_ids=[run.pk for run in runs])
    assert says(tenant) == counters.counted(tenant.pk)[Quota.STORED_BYTES]


@pytest.mark.parametrize("quota", [Quota.RUNS_PER_DAY, Quota.STORED_BYTES])
def test_a_limit_counts_what_others_count_who_do_not_know_of_it_yet(tenant, quota):
    make_workflow(tenant)
    size = len('{"who":"Ada"}') if quota is Quota.STORED_BYTES else 1
    limit = says(tenant, quota) + 3 * size
    give(tenant, **{quota.value: limit})
    believe(tenant)
    make_run(tenant)
    make_run(tenant)
    believe(tenant, **{quota.value: limit})
    make_run(tenant)
    with pytest.raises(QuotaExceededError):
        make_run(tenant)
    assert says(tenant, quota) == limit


def test_an_input_that_is_masked_at_the_end_counts_as_what_it_is_then(tenant, registry, drain):
    create_secret(by=a_test(tenant), name="KEY", value=SECRET)
    register(registry, "act", lambda ctx, config: config.key and 1)
    source = workflow("{id: a, type: act, config: {key: '{{ secrets.KEY }}'}}", inputs="{text: string}")
    run = make_run(tenant, source, {"text": f"with {SECRET} in it"})
    before = says(tenant)
    drain()
    run = ended(run, "succeeded")
    assert SECRET not in json.dumps(run.input)
    assert says(tenant) == counters.counted(tenant.pk)[Quota.STORED_BYTES] != before


@pytest.mark.parametrize("limit", [None, 10**6])
def test_what_differs_is_repaired_once_and_said(tenant, limit, caplog):
    make_run(tenant)
    whole = make_tenant()
    make_run(whole)
    if limit is not None:
        give(tenant, stored_bytes=limit)
    right = says(tenant)
    spoil(tenant, 1000)
    spoil(tenant, -1, Quota.RUNS_PER_DAY)
    assert repair_counters() == [
        Repair(tenant.slug, Quota.RUNS_PER_DAY, 0, 1),
        Repair(tenant.slug, Quota.STORED_BYTES, right + 1000, right),
    ]
    assert says(tenant) == right
    [entry] = AuditEntry.objects.across_tenants().filter(action=counters.REPAIRED)
    record = json.loads(entry.record)
    assert (record["before"], record["after"]) == (
        {"runs_per_day": 0, "stored_bytes": right + 1000},
        {"runs_per_day": 1, "stored_bytes": right},
    )
    assert f"the counter of stored_bytes of tenant {tenant.slug} said {right + 1000}" in caplog.text
    assert repair_counters() == []


def test_runs_that_were_removed_stay_counted_for_their_day(tenant):
    end_run(run_id=make_run(tenant).pk, ending=TERMINATED)
    prune(tenant=tenant, older_than=timedelta(0))
    make_run(tenant)
    assert repair_counters() == []
    assert says(tenant, Quota.RUNS_PER_DAY) == 2


@pytest.mark.parametrize("limit", [None, 10**6])
def test_nothing_is_lost_of_what_is_counted_during_a_repair(tenant, limit, monkeypatch):
    make_workflow(tenant)
    give(tenant, stored_bytes=limit)
    spoil(tenant, 777)
    compare = counters.counted
    over = threading.Event()

    def start(_: int) -> int:
        count = 0
        try:
            while not over.is_set() or not count:
                make_run(tenant)
                count += 1
        finally:
            connection.close()
        return count

    def slowly(tenant_id):
        found = compare(tenant_id)
        time.sleep(0.2)  # others start runs between the comparison and the repair
        return found

    monkeypatch.setattr(counters, "counted", slowly)

    def repair(_: int) -> int:
        try:
            return len(repair_counters(tenant))
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as threads:
        starting = [threads.submit(start, number) for number in range(3)]
        repairs = list(threads.map(repair, range(2)))  # two at once: the difference is added once
        over.set()
        started = sum(future.result() for future in starting)
    assert started > 0
    assert sum(repairs) == 1
    assert says(tenant) == compare(tenant.pk)[Quota.STORED_BYTES]
    assert says(tenant, Quota.RUNS_PER_DAY) == started == Run.objects.for_tenant(tenant).count()


def test_the_clock_and_the_command_repair(tenant, capsys):
    other = make_tenant()
    for each in (tenant, other):
        make_run(each)
        spoil(each, 5)
    right = says(tenant) - 5
    call_command("repaircounters", "--tenant", tenant.slug)
    assert capsys.readouterr().out == f"{tenant.slug}: stored_bytes said {right + 5:,}, and is {right:,} now\n"
    tasks.repair_counters()
    assert says(other) == counters.counted(other.pk)[Quota.STORED_BYTES]
    call_command("repaircounters")
    assert capsys.readouterr().out == "Every counter says what its rows say.\n"
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("repaircounters", "--tenant", "nobody")


def test_a_rerun_and_pruning_take_turns_over_the_source(tenant, registry, drain, monkeypatch):
    register(registry, "act", lambda ctx: "x" * 100_000)
    source = ended_by(drain, make_run(tenant, workflow("{id: a, type: act}", "{id: b, type: act, depends_on: [a]}")))
    copying, copied = threading.Event(), threading.Event()
    take_over = reruns._take_over

    def slowly(*args):
        copying.set()
        assert copied.wait(1) or connection.vendor == "postgresql"
        take_over(*args)

    monkeypatch.setattr(reruns, "_take_over", slowly)

    def repeat() -> Run:
        try:
            return rerun(by=a_test(tenant), run_id=source.pk, start_from="b", version="original")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        repeating = threads.submit(repeat)
        assert copying.wait(30)
        if connection.vendor == "sqlite":
            copied.set()  # there is one writer at a time: pruning waits
        prune(tenant=tenant, older_than=timedelta(0))
        copied.set()
        again = repeating.result(30)
    drain()
    assert ended(again, "succeeded").source_run_id in (source.pk, None)
    assert says(tenant) == counters.counted(tenant.pk)[Quota.STORED_BYTES]


def test_a_rerun_of_what_was_pruned_is_refused(tenant, registry, drain):
    register(registry, "act", lambda ctx: 1)
    source = ended_by(drain, make_run(tenant, workflow("{id: a, type: act}")))
    prune(tenant=tenant, older_than=timedelta(0))
    with pytest.raises(RunNotFoundError):
        rerun(by=a_test(tenant), run_id=source.pk, start_from="a", version="original")


def ended_by(drain, run: Run) -> Run:
    drain()
    return ended(run, "succeeded")
