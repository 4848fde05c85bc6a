"""`POST /api/v1/runs/{id}/rerun`."""

from uuid import UUID

import pytest

from runs.models import EventRecord, NodeItem, NodeRun, Run
from tenants.models import AuditEntry
from tenants.quotas import set_plan
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_run, make_workflow
from tests.support.invariants import written_by_hand
from tests.support.operations import operations
from workflows.services import archive_workflow

OPERATION = "runs_rerun"
pytestmark = [pytest.mark.api, written_by_hand]
NODE = "  - {{id: {}, type: log, depends_on: [{}], config: {{message: x}}}}\n"
CHAIN = "version: 2\nname: chain\nnodes:\n" + NODE.format("a", "") + NODE.format("b", "a") + NODE.format("c", "b")


@pytest.fixture
def run(tenant) -> Run:
    """One of a chain that failed at its end."""
    run = make_run(tenant, CHAIN)
    for node_id, state in (("a", "succeeded"), ("b", "succeeded"), ("c", "failed")):
        NodeRun.objects.create(
            tenant=tenant, run=run, node_id=node_id, state=state, output=f"{node_id} did", attempts=2
        )
    NodeItem.objects.create(
        tenant=tenant, run=run, node_id="a", index=0, key="0", state="succeeded", output=1, at=run.created_at
    )
    Run.objects.across_tenants().update(state="failed")
    return run


@pytest.fixture
def path(run: Run) -> str:
    return f"/api/v1/runs/{run.pk}/rerun"


def actions(api: Api, path: str, **body: object) -> dict[str, str]:
    response = api.post(path, {"plan": True, **body})
    assert response.status_code == 200, response.content
    return {node["node"]: node["action"] for node in read(response)["nodes"]}


def test_a_new_run_takes_over_what_does_not_come_after_the_node(api: Api, tenant, run: Run, path: str):
    body = read(api.post(path, {"from": "b"}))
    assert (body["source_run"], body["state"], body["id"] != str(run.pk)) == (str(run.pk), "queued", True)
    [node] = NodeRun.objects.for_tenant(tenant).filter(run=body["id"])
    assert (node.node_id, node.state, node.output, node.reason) == ("a", "succeeded", "a did", "reused")
    assert NodeItem.objects.for_tenant(tenant).get(run=body["id"]).output == 1
    events = EventRecord.objects.for_tenant(tenant).filter(run=body["id"]).order_by("seq")
    assert [(event.seq, event.type) for event in events] == [(1, "run.queued"), (2, "node.succeeded")]
    assert NodeRun.objects.for_tenant(tenant).filter(run=run).count() == 3


def test_without_a_node_all_is_run(api: Api, tenant, path: str):
    body = read(api.post(path, {}))
    assert not NodeRun.objects.for_tenant(tenant).filter(run=body["id"]).exists()


def test_a_plan_lists_the_actions_and_starts_nothing(api: Api, tenant, path: str):
    assert actions(api, path, **{"from": "c"}) == {"a": "reuse", "b": "reuse", "c": "run"}
    assert actions(api, path) == {"a": "run", "b": "run", "c": "run"}
    assert Run.objects.for_tenant(tenant).count() == 1


def test_another_version_has_orphans_and_new_nodes_run(api: Api, tenant, path: str):
    make_workflow(tenant, CHAIN.replace("id: b", "id: new").replace("[b]", "[new]"))
    expected = {"a": "reuse", "new": "run", "c": "run", "b": "orphan"}
    assert actions(api, path, **{"from": "c", "version": "latest"}) == expected
    assert actions(api, path, **{"from": "c", "version": "2"}) == expected
    assert actions(api, path, **{"from": "c", "version": "1"}) == {"a": "reuse", "b": "reuse", "c": "run"}


def test_what_was_undone_is_run(api: Api, tenant, run: Run, path: str):
    NodeRun.objects.create(tenant=tenant, run=run, node_id="b:compensate", state="succeeded")
    assert actions(api, path, **{"from": "c"}) | {"b:compensate": ""} == {
        "a": "reuse", "b": "run", "c": "run", "b:compensate": "",
    }  # fmt: skip


def test_the_input_is_that_of_the_run_or_another_one_and_is_checked(api: Api, tenant):
    run = make_run(tenant, HELLO)
    path = f"/api/v1/runs/{run.pk}/rerun"
    assert read(api.post(path, {}))["input"] == {"who": "Ada"}
    assert read(api.post(path, {"input": {"who": "Bob"}}))["input"] == {"who": "Bob"}
    problem = assert_problem(api.post(path, {"input": {"who": 1}}), 422, "input_invalid")
    assert problem["errors"][0]["pointer"] == "/input/who"


def test_a_node_that_the_version_does_not_have_is_refused(api: Api, path: str):
    assert_problem(api.post(path, {"from": "nowhere"}), 422, "rerun_invalid")


def test_a_version_that_there_is_not_is_refused(api: Api, path: str):
    assert_problem(api.post(path, {"version": "9"}), 404, "version_not_found")
    assert_problem(api.post(path, {"version": "newest"}), 422, "input_invalid")


def test_an_archived_workflow_has_no_more_runs(api: Api, tenant, path: str):
    archive_workflow(by=a_test(tenant), name="chain", archived=True)
    assert_problem(api.post(path, {}), 409, "workflow_archived")


def test_a_rerun_counts_as_every_start(api: Api, tenant, path: str):
    set_plan(tenant=tenant, plan="free", overrides={"runs_per_day": 0}, by=a_test(tenant))
    body = assert_problem(api.post(path, {}), 403, "quota_exceeded")
    assert body["quota"] == "runs_per_day"
    assert read(api.post(path, {"plan": True}))["version"] == 1, "a plan starts nothing"


def test_the_document_says_what_may_be_in_the_way():
    answers = operations()[OPERATION].spec["responses"]
    assert "archived" in answers["409"]["description"]
    assert "`from`" in answers["422"]["description"]
    assert "`runs_per_day`" in answers["403"]["description"]


def test_who_did_it_is_in_the_audit(api: Api, tenant, run: Run, path: str):
    api.post(path, {"from": "c"})
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.rerun")
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.post(path, {}), 401, "not_authenticated")


def test_a_viewer_may_not(tenant, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path, {}), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden = other_api.post(path, {})
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/rerun", {}))


def test_the_queries_of_a_plan_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(2):  # the run, its nodes; the plan is known
        assert api.post(path, {"plan": True, "from": "c"}).status_code == 200
