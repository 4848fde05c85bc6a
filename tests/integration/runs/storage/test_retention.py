"""Retention: what a plan keeps no longer goes, a few rows at a time, and nothing that is needed goes with it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings as current
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from runs.models import EventRecord, NodeItem, NodeRun, Run, RunSignal, Slot
from runs.storage import log, retention, values
from runs.storage.removal import remove_runs
from runs.storage.retention import prune, prune_values
from runs.storage.values import Owner
from tenants.models import AuditEntry, IdempotentAnswer, RefreshToken, Tenant, UsageCounter
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import a_test, make_run, make_tenant, make_user
from tests.support.invariants import written_by_hand
from tests.support.processes.platform import ROOT, environment
from tests.support.processes.running import ended, executing

pytestmark = [
    pytest.mark.database,
    written_by_hand,
    pytest.mark.breaks_invariant(
        "nobody_waits_for_a_slot_that_is_free",
        "stored_bytes_are_those_of_rows",
        reason="its rows are put into the tables as they are",
    ),
]
DAY = timedelta(days=1)


def keep(tenant: Tenant, days: int | None) -> None:
    set_plan(tenant=tenant, plan="enterprise", overrides={"retention_days": days}, by=a_test(tenant))


def finish(run: Run, days: float, state: str = "succeeded", **changes: object) -> Run:
    """Let a run have ended so many days ago."""
    at = timezone.now() - days * DAY
    rows = Run.objects.across_tenants().filter(pk=run.pk)
    rows.update(state=state, created_at=at - timedelta(minutes=1), finished_at=at, **changes)
    return run


def left(tenant: Tenant) -> set:
    return set(Run.objects.for_tenant(tenant).values_list("pk", flat=True))


def pruned_entries(tenant: Tenant) -> list[dict]:
    entries = AuditEntry.objects.for_tenant(tenant).filter(action="runs.pruned").order_by("seq")
    return [json.loads(entry.record)["after"] for entry in entries]


def test_each_tenant_keeps_its_runs_as_long_as_its_plan_says(tenant):
    long, unlimited = make_tenant(), make_tenant()
    keep(tenant, 7)
    keep(long, 30)
    keep(unlimited, None)
    old = {owner: finish(make_run(owner), 10) for owner in (tenant, long, unlimited)}
    young = finish(make_run(tenant), 6)
    assert prune().runs == {tenant.slug: 1}
    assert left(tenant) == {young.pk}
    assert left(long) == {old[long].pk}
    assert left(unlimited) == {old[unlimited].pk}
    assert [entry["runs"] for entry in pruned_entries(tenant)] == [1]
    assert pruned_entries(long) == []
    assert prune().runs == {}
    assert len(pruned_entries(tenant)) == 1


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "paused"])
def test_what_has_not_ended_stays_however_old_it_is(tenant, state):
    keep(tenant, 1)
    run = finish(make_run(tenant), 100, state)
    assert prune().runs == {}
    assert left(tenant) == {run.pk}


@pytest.mark.parametrize("relation", ["parent", "source_run"])
def test_what_a_run_needs_that_goes_on_stays(tenant, relation):
    keep(tenant, 1)
    needed = finish(make_run(tenant), 10)
    live = make_run(tenant)
    Run.objects.for_tenant(tenant).filter(pk=live.pk).update(**{relation: needed})
    assert prune().runs == {}
    finish(live, 5)
    assert prune().runs == {tenant.slug: 2}


def test_a_finished_child_stays_while_its_parent_goes_on(tenant):
    keep(tenant, 1)
    parent = make_run(tenant)
    child = finish(make_run(tenant), 10, parent=parent)
    assert prune().runs == {}
    finish(parent, 0.5)
    assert prune().runs == {tenant.slug: 1}
    assert left(tenant) == {parent.pk}
    assert child.pk not in left(tenant)


def test_all_that_belongs_to_a_run_goes_and_nothing_else(tenant, settings):
    settings.PYFLOW_LARGE_VALUE_BYTES = 1024
    keep(tenant, 1)
    source = workflow("{id: a, type: log, config: {message: x}}", inputs="{text: string}")
    gone, stays = (make_run(tenant, source, {"text": "x" * 5000}) for _ in range(2))
    for run in (gone, stays):
        NodeRun.objects.create(tenant=tenant, run=run, node_id="a")
        NodeItem.objects.create(
            tenant=tenant, run=run, node_id="a", index=0, key="0", state="succeeded", at=timezone.now()
        )
        RunSignal.objects.create(tenant=tenant, run=run, name="early", dedupe_id="1")
        Slot.objects.create(tenant=tenant, run=run, key="k", lane="l", limit=1, held=False)
    finish(gone, 10)
    before = stored(tenant)
    assert prune().runs == {tenant.slug: 1}
    for model in (NodeRun, NodeItem, RunSignal, Slot, EventRecord):
        rows = model.objects.for_tenant(tenant).filter(run__isnull=False)
        assert {row.run_id for row in rows} == {stays.pk}, model
    assert stored(tenant) == before - gone.stored_bytes
    assert [owner.run_id for owner, _ in values.store().owners()] == [stays.pk]


def stored(tenant: Tenant) -> int:
    rows = UsageCounter.objects.for_tenant(tenant).filter(name=Quota.STORED_BYTES.value)
    return sum(rows.values_list("count", flat=True))


def test_many_are_removed_in_small_transactions_while_others_run(tenant, registry, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 50)
    keep(tenant, 1)
    register(registry, "note", lambda ctx: ctx.node_id)
    first = make_run(tenant, workflow("{id: a, type: note}"))
    long_ago = timezone.now() - 10 * DAY
    Run.objects.bulk_create(
        Run(
            tenant=tenant, workflow_id=first.workflow_id, version_id=first.version_id, state="failed",
            created_at=long_ago, finished_at=long_ago,
        )
        for _ in range(1000)
    )  # fmt: skip
    sizes: list[int] = []

    def counted(**which):
        sizes.append(remove_runs(**which))
        return sizes[-1]

    monkeypatch.setattr(retention, "remove_runs", counted)
    with executing():
        ended(first, "succeeded")
        connection.close()
        thread = threading.Thread(target=lambda: (prune(), connection.close()))
        thread.start()
        fresh = [make_run(tenant, workflow("{id: a, type: note}")) for _ in range(5)]
        for run in fresh:
            ended(run, "succeeded")
        thread.join(60)
        assert not thread.is_alive()
    assert sizes == [50] * 20
    assert left(tenant) == {first.pk, *(run.pk for run in fresh)}
    assert [entry["runs"] for entry in pruned_entries(tenant)] == [50] * 20


def test_a_run_limit_per_call_leaves_the_rest_to_the_next(tenant, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    keep(tenant, 1)
    for _ in range(5):
        finish(make_run(tenant), 10)
    assert [prune(most=2).runs.get(tenant.slug) for _ in range(4)] == [2, 2, 1, None]


def test_a_batch_that_fails_leaves_those_before_it_removed_and_said(tenant, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    keep(tenant, 1)
    for _ in range(4):
        finish(make_run(tenant), 10)
    calls: list[int] = []

    def second_fails(**which):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the machine is going down")
        return remove_runs(**which)

    monkeypatch.setattr(retention, "remove_runs", second_fails)
    with pytest.raises(OSError, match="going down"):
        prune()
    assert len(left(tenant)) == 2
    assert [entry["runs"] for entry in pruned_entries(tenant)] == [2]


@pytest.mark.parametrize("removing", [True, False], ids=["in the middle of a batch", "between batches"])
def test_what_was_removed_is_said_although_the_process_is_killed(tenant, tmp_path, removing):
    keep(tenant, 1)
    for _ in range(5):
        finish(make_run(tenant), 10)
    code = f"""if True:
        import os, signal, django
        django.setup()
        from runs.storage import retention
        retention.BATCH, remove, calls = 2, retention.remove_runs, []

        def killed(**which):
            calls.append({removing} and remove(**which))
            if calls[1:]:
                os.kill(os.getpid(), signal.SIGKILL)
            return calls[0] or remove(**which)

        retention.remove_runs = killed
        retention.prune()
    """
    env = environment(tmp_path, DJANGO_SETTINGS_MODULE="pyflow_site.settings")
    connection.close()
    assert subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT).returncode == -signal.SIGKILL
    assert len(left(tenant)) == 3
    assert [entry["runs"] for entry in pruned_entries(tenant)] == [2]


@pytest.mark.fleet  # on SQLite one transaction writes at a time
def test_what_somebody_has_locked_is_passed_over(tenant):
    keep(tenant, 1)
    locked, free = finish(make_run(tenant), 10), finish(make_run(tenant), 9)
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Run.objects.across_tenants().select_for_update().get(pk=locked.pk)
            holding.set()
            go_on.wait(30)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holding.wait(30)
        assert prune().runs == {tenant.slug: 1}
        assert left(tenant) == {locked.pk}
    finally:
        go_on.set()
        thread.join(30)
    assert free.pk not in left(tenant)


def test_values_that_belong_to_no_run_go_after_a_while(tenant):
    run = make_run(tenant)
    mine, lost, fresh = Owner(tenant.pk, run.pk), Owner(tenant.pk, make_tenant().pk), Owner(tenant.pk, tenant.pk)
    foreign = Owner(make_tenant().pk, run.pk)
    for owner in (mine, lost, fresh, foreign):
        assert values.put(owner, b'"x"') is not None
    for owner in (mine, lost, foreign):
        age(owner)
    assert prune_values(tenant_id=make_tenant().pk) == 0
    assert prune_values(dry_run=True) == 2
    assert prune_values() == 2
    assert {owner for owner, _ in values.store().owners()} == {mine, fresh}


def age(owner: Owner) -> None:
    directories = Path(current.PYFLOW_VALUES_ROOT).rglob(str(owner.run_id))
    [directory] = [path for path in directories if owner_of(path) == owner]
    long_ago = time.time() - retention.GRACE_SECONDS - 60
    os.utime(directory, (long_ago, long_ago))


def owner_of(directory: Path) -> Owner:
    return Owner(UUID(directory.parent.parent.name), UUID(directory.name))


def test_answers_and_tokens_that_are_good_for_nothing_go(tenant):
    now = timezone.now()
    stored = {"principal": "key:1", "route": "r", "fingerprint": "f", "status": 202, "body": "{}", "tenant": tenant}
    IdempotentAnswer.objects.create(key="old", created_at=now - timedelta(hours=25), **stored)
    IdempotentAnswer.objects.create(key="new", created_at=now - timedelta(hours=23), **stored)
    for name, expires in (("old", now - DAY), ("new", now + DAY)):
        RefreshToken.objects.create(
            tenant=tenant, user=make_user(), family=tenant.pk, token_hash=name, expires_at=expires
        )
    assert prune(dry_run=True).others == {"answers": 1, "events": 0, "refresh_tokens": 1, "values": 0}
    assert prune().others == {"answers": 1, "events": 0, "refresh_tokens": 1, "values": 0}
    assert [row.key for row in IdempotentAnswer.objects.for_tenant(tenant)] == ["new"]
    assert [row.token_hash for row in RefreshToken.objects.for_tenant(tenant)] == ["new"]


def test_the_command_rehearses_and_then_does_it(tenant, capsys):
    other = make_tenant()
    runs = {owner: finish(make_run(owner), 10) for owner in (tenant, other)}
    call_command("prune", "--dry-run", "--older-than", "7")
    assert capsys.readouterr().out.splitlines() == [
        *sorted(f"{owner.slug}: 1 runs" for owner in (tenant, other)),
        "Nothing was removed: this was a rehearsal.",
    ]
    assert left(tenant) == {runs[tenant].pk}
    call_command("prune", "--tenant", tenant.slug, "--older-than", "7")
    assert capsys.readouterr().out == f"{tenant.slug}: 1 runs\n"
    assert (left(tenant), left(other)) == (set(), {runs[other].pk})
    call_command("prune")
    assert capsys.readouterr().out == "There is nothing to remove.\n"


@pytest.mark.parametrize("arguments", [["--tenant", "nobody"], ["--older-than", "-1"], ["--older-than", "a week"]])
def test_the_command_refuses_nonsense(tenant, arguments):
    with pytest.raises(CommandError):
        call_command("prune", *arguments)


def test_a_single_node_prunes_by_itself(tenant, monkeypatch):
    monkeypatch.setattr("runs.worker.inprocess.FIRST_PRUNE_SECONDS", 0.0)
    keep(tenant, 1)
    finish(make_run(tenant), 10)
    with executing():
        waiting.until(lambda: not left(tenant), what="pruning")


def test_events_outside_of_runs_go_with_their_age_and_are_remembered(tenant):
    keep(tenant, 30)
    other = make_tenant()
    for owner, days in ((tenant, 40), (tenant, 20), (other, 40)):
        at = timezone.now() - timedelta(days=days)
        log.append_outside(tenant_id=owner.pk, type=f"order.of{days}", at=at, data={})
    [old] = EventRecord.objects.for_tenant(tenant).filter(type="order.of40")
    assert prune(dry_run=True).others["events"] == 1
    assert prune().others["events"] == 1
    left = EventRecord.objects.across_tenants().filter(type__startswith="order.")
    assert sorted(left.values_list("tenant", "type")) == sorted([(tenant.pk, "order.of20"), (other.pk, "order.of40")])
    assert [log.removed_to(tenant.pk), log.removed_to(other.pk)] == [old.position, 0]
