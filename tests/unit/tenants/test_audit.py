"""What an entry holds, and that the numbers have no holes whoever writes."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from tenants import audit
from tenants.access import Actor
from tenants.models import AuditEntry, AuditHead, Tenant
from tests.support import append_only
from tests.support.factories.rows import make_tenant

pytestmark = [pytest.mark.database, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def beginning(monkeypatch) -> None:
    """The chains of these tests begin with what they write; how real ones do is in `test_audit_genesis.py`."""
    monkeypatch.setattr(audit, "GENESIS", frozenset({"thing.done"}))


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


def write(tenant: Tenant, count: int = 1) -> list[AuditEntry]:
    by = Actor(tenant.pk, "key", "k1", "deploy", "req-1", "192.0.2.1")
    return [audit.record(by=by, action="thing.done", target=f"thing:{n}", after={"n": n}) for n in range(count)]


def entries(tenant: Tenant):
    return AuditEntry.objects.for_tenant(tenant)


def findings(tenant: Tenant) -> list[tuple[int, str]]:
    return [(finding.seq, finding.kind) for finding in audit.verify(tenant_id=tenant.pk)]


def test_an_entry_says_who_did_what_to_what(tenant: Tenant):
    (entry,) = write(tenant)
    record = json.loads(entry.record)
    assert record["actor"] == {"kind": "key", "id": "k1", "name": "deploy"}
    assert (record["action"], record["target"], record["after"]) == ("thing.done", "thing:0", {"n": 0})
    assert (record["request_id"], record["address"], record["seq"]) == ("req-1", "192.0.2.1", 1)


def test_each_entry_holds_the_hash_of_the_one_before(tenant: Tenant):
    first, second, third = write(tenant, 3)
    assert [entry.seq for entry in (first, second, third)] == [1, 2, 3]
    assert (first.previous, second.previous, third.previous) == ("", first.hash, second.hash)
    assert findings(tenant) == []


def test_every_tenant_has_a_chain_of_its_own(tenant: Tenant):
    other = make_tenant()
    write(tenant, 2)
    assert [entry.seq for entry in write(other)] == [1]


def test_what_is_rolled_back_leaves_no_entry_and_no_hole(tenant: Tenant):
    write(tenant)
    with transaction.atomic():
        write(tenant)
        transaction.set_rollback(True)
    assert [entry.seq for entry in write(tenant)] == [2]
    assert findings(tenant) == []


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_leave_no_hole():
    tenant = make_tenant()
    together = threading.Barrier(6)

    def work(_: int) -> None:
        together.wait(10)
        try:
            for _ in range(5):
                with transaction.atomic():
                    write(tenant)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert list(entries(tenant).values_list("seq", flat=True)) == list(range(1, 31))
    assert findings(tenant) == []


def test_a_changed_record_is_found(tenant: Tenant):
    write(tenant, 5)
    with append_only.lifted():
        entry = entries(tenant).get(seq=3)
        entries(tenant).filter(seq=3).update(record=entry.record.replace("thing.done", "thing.seen"))
    assert findings(tenant) == [(3, "changed")]


@pytest.mark.parametrize(
    ("column", "value"), [("action", "x.y"), ("target", "x:1"), ("actor", "me"), ("actor_kind", "user")]
)
def test_a_changed_column_is_found(tenant: Tenant, column: str, value: str):
    write(tenant, 2)
    with append_only.lifted():
        entries(tenant).filter(seq=2).update(**{column: value})
    assert findings(tenant) == [(2, "changed")]


def test_a_changed_record_with_a_new_hash_is_found_by_the_next(tenant: Tenant):
    write(tenant, 3)
    with append_only.lifted():
        entry = entries(tenant).get(seq=2)
        text = entry.record.replace('"n":1', '"n":7')
        entries(tenant).filter(seq=2).update(record=text, hash=audit.chain(entry.previous, text))
    assert findings(tenant) == [(3, "reordered")]


def test_removed_entries_are_found(tenant: Tenant):
    write(tenant, 6)
    with append_only.lifted():
        entries(tenant).filter(seq__in=(1, 3, 4))._raw_delete("default")
    assert findings(tenant) == [(1, "removed"), (3, "removed")]


def test_a_removal_that_was_numbered_over_is_found(tenant: Tenant):
    write(tenant, 3)
    with append_only.lifted():
        entries(tenant).filter(seq=2)._raw_delete("default")
        entries(tenant).filter(seq=3).update(seq=2)
    AuditHead.objects.for_tenant(tenant).update(seq=2)
    assert findings(tenant) == [(2, "reordered"), (2, "changed")]


def test_entries_that_changed_places_are_found(tenant: Tenant):
    write(tenant, 4)
    with append_only.lifted():
        for seq, to in ((2, 99), (3, 2), (99, 3)):
            entries(tenant).filter(seq=seq).update(seq=to)
    found = findings(tenant)
    assert {seq for seq, kind in found if kind == "reordered"} == {2, 3, 4}
    assert {seq for seq, kind in found if kind == "changed"} == {2, 3}


def test_a_cut_end_is_found(tenant: Tenant):
    write(tenant, 5)
    with append_only.lifted():
        entries(tenant).filter(seq__gt=3)._raw_delete("default")
    assert findings(tenant) == [(4, "truncated")]


def test_a_chain_without_any_entry_left_is_found(tenant: Tenant):
    write(tenant, 2)
    with append_only.lifted():
        entries(tenant)._raw_delete("default")
    assert findings(tenant) == [(1, "removed"), (1, "truncated")]


def test_a_wrong_or_missing_head_is_found(tenant: Tenant):
    write(tenant, 3)
    heads = AuditHead.objects.for_tenant(tenant)
    head = heads.get()
    heads.update(hash="0" * 64)
    assert findings(tenant) == [(3, "head")]
    heads.update(hash=head.hash, seq=2)
    assert findings(tenant) == [(2, "head")]
    heads.delete()
    assert findings(tenant) == [(3, "head")]


def test_verification_goes_on_in_batches(tenant: Tenant, monkeypatch, django_assert_num_queries):
    write(tenant, 7)
    monkeypatch.setattr(audit, "BATCH", 3)
    with django_assert_num_queries(4):  # three batches; the head
        assert findings(tenant) == []


def verified(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out, stderr=err)
    except CommandError as error:
        err.write(str(error))
    return out.getvalue(), err.getvalue()


def test_the_command_says_what_to_keep_elsewhere(tenant: Tenant):
    last = write(tenant, 2)[-1]
    (other,) = write(make_tenant("beta"))
    out, err = verified()
    assert out.splitlines() == [
        f"acme: 2 entries, whole, last 2 {last.hash}",
        f"beta: 1 entries, whole, last 1 {other.hash}",
    ]
    assert err == ""


def test_the_command_names_what_is_wrong_and_fails(tenant: Tenant):
    write(tenant, 3)
    write(make_tenant("beta"), 1)
    with append_only.lifted():
        entries(tenant).filter(seq=2)._raw_delete("default")
    out, err = verified()
    assert "acme: entry 2 removed: missing: 2" in err
    assert "1 finding: the audit is not as it was written" in err
    assert "acme: 2 entries, NOT WHOLE" in out
    assert verified("--tenant", "beta")[1] == ""
    assert "no tenant 'gamma'" in verified("--tenant", "gamma")[1]
