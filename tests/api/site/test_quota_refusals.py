"""402 `plan_limit_reached` and 403 `quota_exceeded`: which quota, how much of it, until when; and nothing is done."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse

from runs.models import EventRecord, Run
from tenants.access import Actor
from tenants.models import Tenant, UsageCounter
from tenants.plans import MIB, Quota
from tenants.quotas import PERIODS, set_plan
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.records import record
from tests.support.factories.rows import HELLO, make_draft, make_workflow
from workflows.models import Version, Workflow

WORKFLOWS = "/api/v1/workflows"
RUNS = f"{WORKFLOWS}/hello/runs"
ADA: dict[str, Any] = {"input": {"who": "Ada"}}
ADAS_BYTES = len('{"who":"Ada"}')
pytestmark = pytest.mark.api


def give(tenant: Tenant, plan: str = "enterprise", **limits: int | None) -> None:
    set_plan(tenant=tenant, plan=plan, overrides=limits, by=Actor.system(tenant.pk, "a test"))


def used(tenant: Tenant, quota: Quota) -> int:
    return sum(UsageCounter.objects.for_tenant(tenant).filter(name=quota.value).values_list("count", flat=True))


def use(tenant: Tenant, quota: Quota, count: int) -> None:
    UsageCounter.objects.for_tenant(tenant).filter(name=quota.value).delete()
    UsageCounter.objects.create(tenant=tenant, name=quota.value, period=PERIODS[quota](), count=count)


def named(name: str, nodes: int = 1) -> str:
    listed = "".join(f"  - {{id: n{number}, type: log, config: {{message: x}}}}\n" for number in range(nodes))
    return f"version: 2\nname: {name}\nnodes:\n{listed}"


def post(api: Api, source: str) -> HttpResponse:
    return api.post(WORKFLOWS, source, YAML)


def assert_refused(response: HttpResponse, status: int, quota: Quota, limit: int, used: int) -> dict[str, Any]:
    body = assert_problem(response, status, "plan_limit_reached" if status == 402 else "quota_exceeded")
    assert (body["quota"], body["limit"], body["used"]) == (quota.value, limit, used)
    assert f"`{quota.value}`" in body["detail"]
    assert ("The plan `pro` allows more" in body["detail"]) == (status == 402)
    if quota is Quota.RUNS_PER_DAY:
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        assert body["resets_at"] == f"{tomorrow}T00:00:00+00:00"
        assert 1 <= int(response.headers["Retry-After"]) <= 86_400
    else:
        assert body["resets_at"] is None
        assert "Retry-After" not in response.headers, "waiting does not help"
    return body


def test_a_plan_has_room_for_so_many_workflows(tenant, api: Api):
    give(tenant, "free")
    for number in range(25):
        assert post(api, named(f"w{number}")).status_code == 201
    assert_refused(post(api, named("w25")), 402, Quota.WORKFLOWS, 25, 25)
    assert_refused(api.put(f"{WORKFLOWS}/w25", named("w25"), YAML), 402, Quota.WORKFLOWS, 25, 25)
    assert api.put(f"{WORKFLOWS}/w0", named("w0", 2), YAML).status_code == 200, "the next version of one is none more"
    assert api.send("DELETE", f"{WORKFLOWS}/w0").status_code == 204
    assert post(api, named("w25")).status_code == 201


def test_a_limit_of_the_tenants_own_is_no_matter_of_its_plan(tenant, api: Api):
    give(tenant, "free", workflows=0)
    assert_refused(post(api, named("w")), 403, Quota.WORKFLOWS, 0, 0)
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_a_workflow_has_so_many_nodes(tenant, api: Api):
    give(tenant, "free")
    assert post(api, named("w", 100)).status_code == 201
    assert_refused(post(api, named("v", 101)), 402, Quota.NODES_PER_WORKFLOW, 100, 101)
    give(tenant, nodes_per_workflow=2)
    for method, path in (("PUT", "w"), ("POST", "w/versions")):
        response = api.send(method, f"{WORKFLOWS}/{path}", named("w", 3), YAML)
        assert_refused(response, 403, Quota.NODES_PER_WORKFLOW, 2, 3)
    assert Version.objects.for_tenant(tenant).count() == 1


def test_a_draft_that_is_too_large_by_now_is_not_published(tenant, api: Api):
    post(api, named("w"))
    make_draft(tenant, named("w", 3), "w")
    give(tenant, nodes_per_workflow=2)
    response = api.post(f"{WORKFLOWS}/w/versions/2/publish")
    assert_refused(response, 403, Quota.NODES_PER_WORKFLOW, 2, 3)


@pytest.mark.breaks_invariant("runs_per_day_are_those_of_rows", reason="the counter is set to nearly its limit")
def test_so_many_runs_start_in_a_day(tenant, api: Api):
    make_workflow(tenant)
    give(tenant, "free")
    use(tenant, Quota.RUNS_PER_DAY, 999)
    assert api.post(RUNS, ADA).status_code == 202
    assert_refused(api.post(RUNS, ADA), 402, Quota.RUNS_PER_DAY, 1000, 1000)
    give(tenant, "free", runs_per_day=1000)
    assert_refused(api.post(RUNS, ADA), 403, Quota.RUNS_PER_DAY, 1000, 1000)
    assert Run.objects.for_tenant(tenant).count() == 1
    assert EventRecord.objects.for_tenant(tenant).filter(run__isnull=False).count() == 1


def test_a_run_that_was_there_is_no_start(tenant, api: Api):
    make_workflow(tenant)
    give(tenant, runs_per_day=1)
    first, again = (api.post(RUNS, ADA | {"key": "once"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert used(tenant, Quota.RUNS_PER_DAY) == 1


@pytest.mark.breaks_invariant("stored_bytes_are_those_of_rows", reason="the counter is set to nearly its limit")
def test_so_many_bytes_are_stored(tenant, api: Api):
    make_workflow(tenant)
    give(tenant, "free")
    use(tenant, Quota.STORED_BYTES, 100 * MIB - ADAS_BYTES)
    before = used(tenant, Quota.RUNS_PER_DAY)
    assert_refused(
        api.post(RUNS, {"input": {"who": "Adam"}}), 402, Quota.STORED_BYTES, 100 * MIB, 100 * MIB - ADAS_BYTES
    )
    assert used(tenant, Quota.RUNS_PER_DAY) == before, "the other quota has what it had"
    assert api.post(RUNS, ADA).status_code == 202
    assert_refused(post(api, named("w")), 402, Quota.STORED_BYTES, 100 * MIB, 100 * MIB)
    assert not Workflow.objects.for_tenant(tenant).filter(name="w").exists()


def ways_to_store(tenant: Tenant, api: Api) -> dict[str, Callable[[], HttpResponse]]:
    tag = api.get(f"{WORKFLOWS}/hello/versions/2").headers["ETag"]
    longer = HELLO.replace("Greets", "Greets " + "x" * 100)
    return {
        "put": lambda: api.put(f"{WORKFLOWS}/hello", longer, YAML),
        "draft": lambda: api.post(f"{WORKFLOWS}/hello/versions", longer, YAML),
        "edit": lambda: api.put(f"{WORKFLOWS}/hello/versions/2", longer, YAML, if_match=tag),
        "rollback": lambda: api.post(f"{WORKFLOWS}/hello/versions/1/rollback"),
    }


@pytest.mark.parametrize("way", ["put", "draft", "edit", "rollback"])
def test_every_way_to_store_a_document_counts_its_bytes(tenant, api: Api, way: str):
    make_workflow(tenant)
    make_draft(tenant)
    ways = ways_to_store(tenant, api)
    full = used(tenant, Quota.STORED_BYTES)
    give(tenant, stored_bytes=full)
    assert_refused(ways[way](), 403, Quota.STORED_BYTES, full, full)
    assert Version.objects.for_tenant(tenant).count() == 2
    give(tenant)
    assert ways[way]().status_code in {200, 201}
    sources = Version.objects.for_tenant(tenant).values_list("source", flat=True)
    assert used(tenant, Quota.STORED_BYTES) == sum(len(source.encode()) for source in sources)


def test_what_is_deleted_gives_its_bytes_back(tenant, api: Api):
    accented = HELLO.replace("Greets", "Grüßt")
    assert post(api, accented).status_code == 201
    kept = used(tenant, Quota.STORED_BYTES)
    assert kept == len(accented.encode())
    make_draft(tenant)
    assert api.send("DELETE", f"{WORKFLOWS}/hello/versions/2").status_code == 204
    assert used(tenant, Quota.STORED_BYTES) == kept
    started = read(api.post(RUNS, {"input": {"who": "Zoë"}}))
    assert used(tenant, Quota.STORED_BYTES) == kept + len('{"who":"Zoë"}'.encode())
    record(Run.objects.for_tenant(tenant).get(pk=started["id"]))
    assert api.post(f"{WORKFLOWS}/hello/archive").status_code == 200
    assert api.send("DELETE", f"{WORKFLOWS}/hello").status_code == 204
    assert used(tenant, Quota.STORED_BYTES) == 0
    assert used(tenant, Quota.RUNS_PER_DAY) == 1, "it was accepted all the same"


@pytest.mark.breaks_invariant("runs_per_day_are_those_of_rows", reason="the counter is set to nearly its limit")
@pytest.mark.parametrize(("plan", "limits", "status"), [("free", {}, 402), ("enterprise", {"runs_per_day": 1000}, 403)])
def test_of_a_batch_as_many_start_as_there_is_room_for(tenant, api: Api, plan: str, limits: dict, status: int):
    make_workflow(tenant)
    give(tenant, plan, **limits)
    use(tenant, Quota.RUNS_PER_DAY, 997)
    starts = [
        ADA,
        {"input": {"who": 1}},
        ADA | {"key": "a"},
        ADA,
        ADA | {"key": "b"},
        ADA | {"key": "b"},
        ADA | {"key": "a"},
    ]
    response = api.post(f"{RUNS}/batch", {"runs": starts})
    body = read(response)
    assert response.status_code == 202
    assert [result["status"] for result in body["results"]] == [202, 422, 202, 202, status, status, 200]
    assert (
        body["accepted"]
        == Run.objects.for_tenant(tenant).count()
        == EventRecord.objects.for_tenant(tenant).filter(run__isnull=False).count()
        == 3
    )
    refusal = body["results"][4]["problem"]
    assert (refusal["quota"], refusal["limit"], refusal["used"]) == ("runs_per_day", 1000, 1000)
    assert used(tenant, Quota.RUNS_PER_DAY) == 1000
    again = read(api.post(f"{RUNS}/batch", {"runs": starts}))
    assert [result["status"] for result in again["results"]] == [status, 422, 200, status, status, status, 200]
    assert again["accepted"] == 0


def test_of_a_batch_as_many_start_as_their_inputs_have_room(tenant, api: Api):
    make_workflow(tenant)
    before = used(tenant, Quota.STORED_BYTES)
    give(tenant, stored_bytes=before + 3 * ADAS_BYTES - 1)
    body = read(api.post(f"{RUNS}/batch", {"runs": [ADA] * 4}))
    assert [result["status"] for result in body["results"]] == [202, 202, 403, 403]
    assert body["results"][2]["problem"]["quota"] == "stored_bytes"
    assert used(tenant, Quota.STORED_BYTES) == before + 2 * ADAS_BYTES
    assert used(tenant, Quota.RUNS_PER_DAY) == 2


def test_what_is_refused_for_another_reason_uses_nothing(tenant, api: Api):
    make_workflow(tenant)
    before = {quota: used(tenant, quota) for quota in PERIODS}
    assert_problem(api.post(RUNS, {"input": {"who": 1}}), 422, "input_invalid")
    assert_problem(api.post(f"{WORKFLOWS}/unknown/runs", ADA), 404, "workflow_not_found")
    assert_problem(post(api, HELLO), 409, "workflow_exists")
    assert_problem(
        api.put(f"{WORKFLOWS}/hello", HELLO + "# more", YAML, if_match='"other"'), 412, "precondition_failed"
    )
    assert {quota: used(tenant, quota) for quota in PERIODS} == before


def test_a_replayed_start_uses_nothing(tenant, api: Api):
    make_workflow(tenant)
    give(tenant, runs_per_day=1)
    for _ in range(2):
        assert api.post(RUNS, ADA, idempotency_key="once").status_code == 202
    assert used(tenant, Quota.RUNS_PER_DAY) == 1
    assert_refused(api.post(RUNS, ADA, idempotency_key="twice"), 403, Quota.RUNS_PER_DAY, 1, 1)


def test_it_hides_other_tenants(tenant, api: Api, other_tenant, other_api: Api):
    for whose in (tenant, other_tenant):
        make_workflow(whose)
        give(whose, runs_per_day=1)
    assert api.post(RUNS, ADA).status_code == 202
    assert_refused(api.post(RUNS, ADA), 403, Quota.RUNS_PER_DAY, 1, 1)
    assert other_api.post(RUNS, ADA).status_code == 202
