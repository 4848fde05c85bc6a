"""`GET /api/v1/audit`."""

import hashlib
import json
import tracemalloc
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient
from django.utils.dateparse import parse_datetime

from tenants import audit
from tenants.access import Actor
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import a_test, make_api_key, make_tenant

OPERATION = "audit_list"
PATH = "/api/v1/audit"
NDJSON = "application/x-ndjson"
pytestmark = pytest.mark.api


def write(tenant, count: int = 1, action: str = "thing.done", target: str = "thing:1"):
    return [audit.record(by=a_test(tenant), action=action, target=target, after={"n": n}) for n in range(count)]


def lines(response) -> list[dict]:
    return [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]


def test_it_shows_the_newest_first(api: Api, tenant):
    write(tenant, 3)
    response = read(api.get(PATH))
    assert [item["seq"] for item in response["results"]] == [3, 2, 1]
    newest = response["results"][0]
    assert (newest["actor"]["kind"], newest["action"], newest["after"]) == ("system", "thing.done", {"n": 2})
    assert newest.keys() == {
        "id", "tenant", "seq", "at", "actor", "action", "target", "request_id", "address", "before", "after",
        "previous", "hash",
    }  # fmt: skip


def test_it_pages_through_everything_once_while_it_grows(api: Api, tenant):
    write(tenant, 5)
    seen, path = [], f"{PATH}?limit=2"
    while path is not None:
        page = read(api.get(path))
        seen += [item["seq"] for item in page["results"]]
        path = page["next"]
        write(tenant)
    assert seen == [5, 4, 3, 2, 1]


def test_it_is_narrowed_by_what_whom_and_when(api: Api, tenant):
    write(tenant, 2)
    write(tenant, 1, "other.done", "other:7")
    by = Actor(tenant.pk, "user", "42", "ada")
    last = audit.record(by=by, action="thing.done", target="thing:1")

    def seqs(query: str) -> list[int]:
        return [item["seq"] for item in read(api.get(f"{PATH}?{query}"))["results"]]

    assert seqs("action=other.done") == [3]
    assert seqs("target=other:7") == [3]
    assert seqs("actor=42") == [4]
    assert seqs("action=thing.done&actor=42") == [4]
    at = last.at.isoformat().replace("+00:00", "Z")
    assert seqs(f"since={at}") == [4]
    assert seqs(f"until={at}") == [3, 2, 1]
    later = (last.at + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert seqs(f"since={later}") == []


@pytest.mark.parametrize("query", ["since=yesterday", "until=", "who=me", "limit=1000", "action=" + "x" * 65])
def test_a_query_that_means_nothing_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


def test_as_lines_it_is_all_of_it_and_can_be_verified(api: Api, tenant, monkeypatch):
    monkeypatch.setattr(audit, "BATCH", 2)
    monkeypatch.setattr("tenants.api.audit.BATCH", 2)
    write(tenant, 5)
    response = api.get(PATH, accept=NDJSON)
    assert response.headers["Content-Type"] == NDJSON
    entries = lines(response)
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5]
    previous = ""
    for entry in entries:
        record = {name: value for name, value in entry.items() if name not in {"previous", "hash"}}
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert entry["previous"] == previous
        previous = entry["hash"]
        assert previous == hashlib.sha256(f"{entry['previous']}\n{text}".encode()).hexdigest()


def test_lines_are_narrowed_alike(api: Api, tenant):
    write(tenant, 2)
    write(tenant, 1, "other.done")
    assert [entry["seq"] for entry in lines(api.get(f"{PATH}?action=other.done", accept=NDJSON))] == [3]
    assert lines(api.get(f"{PATH}?action=nothing", accept=NDJSON)) == []


def test_a_problem_is_a_problem_document_whatever_is_accepted(api: Api):
    response = api.get(f"{PATH}?limit=x", accept=NDJSON)
    assert_problem(response, 422, "input_invalid")


def test_an_export_takes_no_memory_for_what_is_sent_already(api: Api, tenant, monkeypatch):
    monkeypatch.setattr(audit, "BATCH", 10)
    monkeypatch.setattr("tenants.api.audit.BATCH", 10)
    for _ in range(100):
        audit.record(by=a_test(tenant), action="thing.done", target="thing:1", after={"text": "x" * 20_000})
    list(api.get(PATH, accept=NDJSON).streaming_content)
    tracemalloc.start()
    try:
        size = sum(len(part) for part in api.get(PATH, accept=NDJSON).streaming_content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 2_000_000
    assert peak < size / 1.5


@pytest.mark.django_db(transaction=True)
async def test_over_asgi_it_comes_piece_by_piece(monkeypatch):
    monkeypatch.setattr(audit, "BATCH", 2)
    monkeypatch.setattr("tenants.api.audit.BATCH", 2)

    def prepare() -> str:
        tenant = make_tenant()
        write(tenant, 5)
        return make_api_key(tenant)[1]

    key = await sync_to_async(prepare)()
    response = await AsyncClient().get(PATH, headers={"Authorization": f"Bearer {key}", "Accept": NDJSON})
    assert response.is_async
    pieces = [piece async for piece in response.streaming_content]
    await sync_to_async(connections.close_all)()  # of the thread that the queries were made in
    assert [len(piece.splitlines()) for piece in pieces] == [2, 2, 1]


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("editor", 403), ("admin", 200), ("owner", 200)])
def test_it_is_for_admins(tenant, role: str, status: int):
    api = Api(make_api_key(tenant, role=role)[1])
    assert api.get(PATH).status_code == status
    assert api.get(PATH, accept=NDJSON).status_code == status


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    write(tenant, 2)
    assert read(other_api.get(PATH))["results"] == []
    assert lines(other_api.get(PATH, accept=NDJSON)) == []
    cursor = read(api.get(f"{PATH}?limit=1"))["next"]
    assert_problem(other_api.get(cursor), 400, "cursor_invalid")


def test_its_queries_do_not_grow_with_what_there_is(api: Api, tenant, django_assert_num_queries):
    write(tenant, 5)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(read(api.get(PATH))["results"]) == 5
    with django_assert_num_queries(1):
        assert len(lines(api.get(PATH, accept=NDJSON))) == 5


def test_times_are_as_they_were_hashed(api: Api, tenant):
    (entry,) = write(tenant)
    assert parse_datetime(read(api.get(PATH))["results"][0]["at"]) == entry.at
