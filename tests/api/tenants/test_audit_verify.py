"""`GET /api/v1/audit/verify`."""

import pytest

from tenants import audit
from tenants.api import audit as answers
from tenants.models import AuditEntry
from tests.support import append_only
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import a_test, make_api_key

OPERATION = "audit_verify"
PATH = "/api/v1/audit/verify"
pytestmark = [
    pytest.mark.api,
    pytest.mark.breaks_invariant("the_audit_is_whole", reason="entries are changed, to see that it shows"),
]


@pytest.fixture(autouse=True)
def beginning(monkeypatch) -> None:
    """The chains of these tests begin with what they write."""
    monkeypatch.setattr(audit, "GENESIS", frozenset({"thing.done"}))


def write(tenant, count: int = 1) -> list[AuditEntry]:
    return [audit.record(by=a_test(tenant), action="thing.done", target=f"thing:{n}") for n in range(count)]


def verify(api: Api, path: str = PATH) -> dict:
    response = api.get(path)
    assert response.status_code == 200, response.content
    return read(response)


def test_a_whole_chain_is_said_to_be_whole(api: Api, tenant):
    last = write(tenant, 3)[-1]
    assert verify(api) == {
        "whole": True, "complete": True, "entries": 3, "seq": 3, "hash": last.hash, "findings": [], "more_findings": 0,
        "next": None,
    }  # fmt: skip


def test_each_finding_is_named(api: Api, tenant, monkeypatch):
    write(tenant, 4)
    with append_only.lifted():
        AuditEntry.objects.for_tenant(tenant).filter(seq=2)._raw_delete("default")
        AuditEntry.objects.for_tenant(tenant).filter(seq__gt=2).update(target="another")
    body = verify(api)
    assert not body["whole"]
    assert [(found["seq"], found["kind"]) for found in body["findings"]] == [
        (2, "removed"), (3, "changed"), (4, "changed"),
    ]  # fmt: skip
    monkeypatch.setattr(answers, "MOST_FINDINGS", 1)
    assert (len(verify(api)["findings"]), verify(api)["more_findings"]) == (1, 2)


def test_a_long_chain_is_verified_in_parts(api: Api, tenant, monkeypatch):
    monkeypatch.setattr(audit, "BATCH", 2)
    monkeypatch.setattr(answers, "MOST_VERIFIED", 2)
    write(tenant, 5)
    seen, path = [], PATH
    while path is not None:
        body = verify(api, path)
        seen.append((body["entries"], body["seq"], body["complete"], body["whole"]))
        path = body["next"]
    assert seen == [(2, 2, False, True), (2, 4, False, True), (1, 5, True, True)]


def test_a_hash_that_was_kept_shows_a_chain_that_was_rewritten(api: Api, tenant):
    write(tenant, 3)
    body = verify(api, f"{PATH}?after=2&hash={'0' * 64}")
    assert [found["kind"] for found in body["findings"]] == ["reordered"]
    assert [found["kind"] for found in verify(api, f"{PATH}?after=3&hash={'0' * 64}")["findings"]] == ["head"]
    assert [found["kind"] for found in verify(api, f"{PATH}?after=9&hash={'0' * 64}")["findings"]] == ["head"]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1", f"hash={'0' * 64}", "after=1&hash=xyz", "x=1"])
def test_a_query_that_means_nothing_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("editor", 403), ("admin", 200), ("owner", 200)])
def test_it_is_for_admins(tenant, role: str, status: int):
    assert Api(make_api_key(tenant, role=role)[1]).get(PATH).status_code == status


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    entry = write(tenant, 2)[-1]
    assert verify(other_api)["entries"] == 0
    assert not verify(other_api, f"{PATH}?after={entry.seq}&hash={entry.hash}")["whole"], "it is no entry of theirs"


def test_its_queries_grow_with_batches_only(api: Api, tenant, django_assert_num_queries):
    write(tenant, 5)
    api.get(PATH)
    with django_assert_num_queries(2):  # the entries; the head
        verify(api)
