"""`GET /api/v1/approvals`."""

import pytest
from django.utils import timezone

from runs.models import NodeItem, NodeRun, Run
from tenants.access import Role
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member, make_run
from tests.support.invariants import written_by_hand

OPERATION = "approvals_list"
PATH = "/api/v1/approvals"
pytestmark = [pytest.mark.api, written_by_hand]


def ask(tenant, *assignees: str, node_id: str = "ship", run: Run | None = None) -> NodeRun:
    """A run that waits for a decision."""
    run = run or make_run(tenant)
    details = {"kind": "approval", "assignees": list(assignees), "message": "Ship?", "form": None, "on_timeout": "fail"}
    wait = {"until": None, "signal": f"approval:{node_id}", "details": details}
    row: NodeRun = NodeRun.objects.create(tenant=tenant, run=run, node_id=node_id, state="waiting", wait=wait)
    Run.objects.across_tenants().filter(pk=run.pk).update(state="waiting")
    return row


def ids(response) -> list[str]:
    assert response.status_code == 200, response.content
    return [row["id"] for row in read(response)["results"]]


def test_what_waits_for_a_decision_is_listed_oldest_first(api: Api, tenant):
    first, second = ask(tenant, "role:admin"), ask(tenant, "ada")
    NodeRun.objects.create(
        tenant=tenant, run=first.run, node_id="pay", state="waiting",
        wait={"until": None, "signal": "paid", "details": {"kind": "signal"}},
    )  # fmt: skip
    assert ids(api.get(PATH)) == [str(first.pk), str(second.pk)]
    assert read(api.get(PATH))["results"][0] == {
        "id": str(first.pk), "run": str(first.run_id), "workflow": "hello", "version": 1, "node_id": "ship",
        "item": None, "signal": "approval:ship", "assignees": ["role:admin"], "message": "Ship?", "form": None,
        "since": None,
        "until": None, "on_timeout": "fail", "may_decide": True,
    }  # fmt: skip


def test_items_of_fan_outs_stand_among_nodes_by_their_age(api: Api, tenant):
    first = ask(tenant, "role:admin")
    items = []
    for index, key in enumerate(("north", "south")):
        wait = first.wait | {"signal": f"approval:each:{key}"}
        fields = {"run": first.run, "node_id": "each", "index": index, "key": key, "state": "waiting", "wait": wait}
        items.append(NodeItem.objects.create(tenant=tenant, at=timezone.now(), **fields))
    last = ask(tenant, "role:admin")
    order = [str(row.pk) for row in (first, *items, last)]
    assert ids(api.get(PATH)) == order
    shown = read(api.get(PATH))["results"][1]
    assert (shown["item"], shown["signal"]) == ({"index": 0, "key": "north"}, "approval:each:north")
    pages, url = [], f"{PATH}?limit=2"
    while url:
        page = read(api.get(url))
        pages.append([row["id"] for row in page["results"]])
        before, url = page["previous"], page["next"]
    assert pages == [order[:2], order[2:]]
    assert ids(api.get(before)) == order[:2]


def test_what_was_decided_is_not_listed(api: Api, tenant):
    ask(tenant, "ada")
    NodeRun.objects.across_tenants().update(state="succeeded", wait=None)
    assert ids(api.get(PATH)) == []


def test_me_is_what_the_caller_may_decide(tenant):
    rows = {
        name: ask(tenant, name)
        for name in ("Ada@example.org", "user:ada@example.org", "role:admin", "role:editor", "key:laptop", "bob")
    }
    ada = make_member(tenant, Role.EDITOR, "ada@example.org").user
    laptop = Api(make_api_key(tenant, name="laptop", role="editor", created_by=ada)[1])
    mine = [str(rows[name].pk) for name in rows if name not in {"role:admin", "bob"}]
    assert ids(laptop.get(f"{PATH}?assignee=me")) == mine
    assert [row["id"] for row in read(laptop.get(PATH))["results"] if row["may_decide"]] == mine
    owner = Api(make_api_key(tenant)[1])
    assert len(ids(owner.get(f"{PATH}?assignee=me"))) == len(rows)


@pytest.mark.vendor("each vendor searches JSON and text in its own way")
@pytest.mark.parametrize("name", ["jörg ä", 'a "quoted" key', "100%_sure", "a\\b"])
def test_any_name_is_found_as_a_whole(api: Api, tenant, name: str):
    found = ask(tenant, f"key:{name}")
    for other in (f"key:{name}2", f"key:2{name}", "key:100 is sure"):
        ask(tenant, other)
    caller = Api(make_api_key(tenant, name=name, role="editor")[1])
    assert ids(caller.get(f"{PATH}?assignee=me")) == [str(found.pk)]


@pytest.mark.vendor("each vendor searches JSON and text in its own way")
def test_filters(api: Api, tenant):
    first, second = ask(tenant, "ada"), ask(tenant, "role:admin")
    assert ids(api.get(f"{PATH}?run={second.run_id}")) == [str(second.pk)]
    assert ids(api.get(f"{PATH}?assignee=role:admin")) == [str(second.pk)]
    assert ids(api.get(f"{PATH}?assignee=user:Ada")) == [str(first.pk)]
    assert ids(api.get(f"{PATH}?workflow=other")) == []
    assert len(ids(api.get(f"{PATH}?workflow=hello&workflow=other"))) == 2


def test_a_viewer_sees_them_and_may_not_decide(tenant):
    ask(tenant, "role:viewer")
    [row] = read(Api(make_api_key(tenant, role="viewer")[1]).get(PATH))["results"]
    assert row["may_decide"] is False


def test_it_answers_in_yaml(api: Api, tenant):
    ask(tenant, "ada")
    assert len(read(api.get(PATH, accept=YAML))["results"]) == 1


@pytest.mark.parametrize("query", ["run=x", "limit=0", "assigne=me", "workflow=%00"])
def test_a_wrong_query_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    row = ask(tenant, "ada")
    for query in ("", "?assignee=me", f"?run={row.run_id}"):
        assert ids(other_api.get(PATH + query)) == []


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    for name in ("ada", "bob", "role:admin"):
        ask(tenant, name)
    api.get(PATH)
    with django_assert_num_queries(2):  # of nodes, and of items
        assert len(ids(api.get(PATH))) == 3
