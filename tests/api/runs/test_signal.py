"""`POST /api/v1/runs/{id}/signals`."""

import json
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import NodeRun, Run, RunSignal
from tenants.access import Role
from tenants.models import AuditEntry, Membership
from tests.support.api import JSON, YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_api_key, make_member, make_run, make_tenant
from tests.support.invariants import written_by_hand

OPERATION = "runs_signal"
pytestmark = pytest.mark.api
FORM = {"type": "object", "properties": {"carrier": {"enum": ["dhl", "ups"]}}, "required": ["carrier"]}
DECISION = {"approved": True, "data": {"carrier": "dhl"}}
SOURCE = """
version: 2
name: order
nodes:
  - {id: pay, type: signal, config: {name: paid}}
  - id: ship
    type: approval
    config:
      assignees: ["role:admin", "user:ada@example.org", bob@example.org, "key:Shipping bot"]
      form: {type: object, properties: {carrier: {enum: [dhl, ups]}}, required: [carrier]}
"""
APPROVAL = "approval:ship"


@pytest.fixture
def run(tenant):
    return make_run(tenant, SOURCE)


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}/signals"


@pytest.fixture
def approval(run) -> str:
    """The run waits for a decision; the signal's name."""
    Run.objects.across_tenants().update(state="waiting")
    wait = {
        "until": None,
        "signal": "approval:ship",
        "details": {"kind": "approval", "form": FORM, "assignees": ["role:admin"]},
    }
    NodeRun.objects.create(tenant_id=run.tenant_id, run=run, node_id="ship", state="waiting", wait=wait)
    return "approval:ship"


def signals(run: Run) -> list[tuple[str, object, bool]]:
    return [(row.name, row.payload, row.consumed) for row in RunSignal.objects.for_tenant(run.tenant_id)]


def test_a_signal_is_kept_until_a_node_takes_it(api: Api, run, path: str):
    response = api.post(path, {"name": "paid", "payload": {"amount": 3}})
    assert (response.status_code, read(response)) == (202, {"delivered": True})
    assert signals(run) == [("paid", {"amount": 3}, False)]
    run.refresh_from_db()
    assert run.state == "queued"


def test_a_payload_may_be_left_out(api: Api, run, path: str):
    assert api.post(path, {"name": "paid"}).status_code == 202
    assert signals(run) == [("paid", None, False)]


@pytest.mark.parametrize("payload", [None, 0, "text", [1, [2]], {"a": 2**70}, "Ада 🎉", False], ids=repr)
def test_a_payload_is_any_json(api: Api, run, path: str, payload):
    assert api.post(path, json.dumps({"name": "paid", "payload": payload})).status_code == 202
    assert signals(run) == [("paid", payload, False)]


def test_it_wakes_a_waiting_run(api: Api, run, path: str):
    Run.objects.across_tenants().update(state="waiting")
    api.post(path, {"name": "paid"})
    run.refresh_from_db()
    assert run.state == "queued"


@written_by_hand
def test_a_second_signal_of_one_id_is_not_delivered(api: Api, run, path: str):
    first = api.post(path, {"name": "paid", "payload": 1, "id": "x"})
    Run.objects.across_tenants().update(state="waiting")
    second = api.post(path, {"name": "paid", "payload": 2, "id": "x"})
    assert (read(first), read(second)) == ({"delivered": True}, {"delivered": False})
    assert second.status_code == 202
    assert signals(run) == [("paid", 1, False)]
    run.refresh_from_db()
    assert run.state == "waiting"


def test_signals_without_an_id_are_all_delivered(api: Api, run, path: str):
    assert [read(api.post(path, {"name": "paid"})) for _ in range(3)] == [{"delivered": True}] * 3
    assert len(signals(run)) == 3


def test_two_runs_may_get_signals_of_one_id(api: Api, tenant, path: str):
    other = make_run(tenant, SOURCE)
    for each in (path, f"/api/v1/runs/{other.pk}/signals"):
        assert read(api.post(each, {"name": "paid", "id": "x"})) == {"delivered": True}


def test_a_decision_on_an_approval_is_accepted(api: Api, run, path: str, approval: str):
    assert api.post(path, {"name": approval, "payload": DECISION}).status_code == 202
    assert signals(run) == [(approval, DECISION | {"by": "key:a test"}, False)]


WRONG_DECISIONS = {
    "not a mapping": ("yes", "/payload"),
    "nothing": (None, "/payload"),
    "no answer": ({"comment": "hm"}, "/payload/approved"),
    "somebody else": ({"approved": True, "by": "ada", "data": {"carrier": "dhl"}}, "/payload/by"),
    "no text": ({"approved": True, "on_behalf_of": 1, "data": {"carrier": "dhl"}}, "/payload/on_behalf_of"),
    "not a yes or no": ({"approved": "yes", "data": {"carrier": "dhl"}}, "/payload/approved"),
    "an unknown key": ({"approved": False, "why": "x"}, "/payload/why"),
    "a form not filled in": ({"approved": True}, "/payload/data"),
    "a wrong value in the form": ({"approved": True, "data": {"carrier": "pigeon"}}, "/payload/data/carrier"),
}


@pytest.mark.parametrize("case", WRONG_DECISIONS)
def test_a_decision_of_the_wrong_shape_is_refused_and_located(api: Api, run, path: str, approval: str, case: str):
    payload, pointer = WRONG_DECISIONS[case]
    body = assert_problem(api.post(path, {"name": approval, "payload": payload}), 422, "decision_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert signals(run) == []
    run.refresh_from_db()
    assert run.state == "waiting"


@pytest.mark.parametrize("case", WRONG_DECISIONS)
def test_an_early_decision_of_the_wrong_shape_is_refused_at_once(api: Api, run, path: str, case: str):
    payload, pointer = WRONG_DECISIONS[case]
    body = assert_problem(api.post(path, {"name": APPROVAL, "payload": payload}), 422, "decision_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert signals(run) == []


def as_member(tenant, name: str, role: Role = Role.EDITOR, **values) -> Api:
    """The key of a new member."""
    member = make_member(tenant, role, name)
    return Api(make_api_key(tenant, name="laptop", role=role.value, created_by=member.user, **values)[1])


def as_key(tenant, name: str) -> Api:
    return Api(make_api_key(tenant, name=name, role="editor")[1])


CALLERS = {
    "the member that is named": (lambda tenant: as_member(tenant, "Ada@example.org"), 202),
    "one that is named without a kind": (lambda tenant: as_member(tenant, "bob@example.org"), 202),
    "the key that is named": (lambda tenant: as_key(tenant, "shipping bot"), 202),
    "the role that is named": (lambda tenant: as_member(tenant, "eve@example.org", Role.ADMIN), 202),
    "an owner": (lambda tenant: as_member(tenant, "eve@example.org", Role.OWNER), 202),
    "another editor": (lambda tenant: as_member(tenant, "eve@example.org"), 403),
    "a key that is named as a member": (lambda tenant: as_key(tenant, "ada@example.org"), 403),
    "a key that is named as a role": (lambda tenant: as_key(tenant, "role:admin"), 403),
}


@pytest.mark.parametrize("moment", ["early", "waiting"])
@pytest.mark.parametrize("caller", CALLERS)
def test_only_the_assignees_decide(tenant, run, path: str, caller: str, moment: str):
    if moment == "waiting":
        approval_waits(run, ["role:admin", "user:ada@example.org", "bob@example.org", "key:Shipping bot"])
    make, status = CALLERS[caller]
    response = make(tenant).post(path, {"name": APPROVAL, "payload": DECISION})
    if status == 202:
        assert response.status_code == 202, response.content
        assert len(signals(run)) == 1
    else:
        assert_problem(response, 403, "not_assignee")
        assert signals(run) == []


def approval_waits(run: Run, assignees: list[str]) -> None:
    Run.objects.across_tenants().update(state="waiting")
    details = {"kind": "approval", "form": FORM, "assignees": assignees}
    wait = {"until": None, "signal": APPROVAL, "details": details}
    NodeRun.objects.create(tenant_id=run.tenant_id, run=run, node_id="ship", state="waiting", wait=wait)


def test_who_may_decide_is_what_was_rendered(tenant, run, path: str):
    """Not what the version says: the names may come from templates."""
    approval_waits(run, ["user:eve@example.org"])
    ada, eve = as_member(tenant, "ada@example.org"), as_member(tenant, "eve@example.org")
    assert_problem(ada.post(path, {"name": APPROVAL, "payload": DECISION}), 403, "not_assignee")
    assert eve.post(path, {"name": APPROVAL, "payload": DECISION}).status_code == 202
    assert signals(run) == [(APPROVAL, DECISION | {"by": "key:laptop"}, False)]


def test_a_member_of_another_tenant_is_no_assignee(run, path: str):
    ada = make_member(run.tenant, Role.EDITOR, "ada@example.org").user
    elsewhere = make_tenant()
    Membership.objects.create(tenant=elsewhere, user=ada, role="owner")
    stranger = Api(make_api_key(elsewhere, role="owner", created_by=ada)[1])
    assert_problem(stranger.post(path, {"name": APPROVAL, "payload": DECISION}), 404, "run_not_found")
    assert signals(run) == []


def test_a_program_says_for_whom_it_decides(api: Api, run, path: str):
    decision = DECISION | {"on_behalf_of": "ada"}
    assert api.post(path, {"name": APPROVAL, "payload": decision}).status_code == 202
    assert signals(run) == [(APPROVAL, decision | {"by": "key:a test"}, False)]


def test_a_refusal_shows_neither_the_form_nor_the_decision(tenant, run, path: str):
    response = as_key(tenant, "eve").post(path, {"name": APPROVAL, "payload": {"approved": "confidential"}})
    assert "confidential" not in assert_problem(response, 403, "not_assignee")["detail"]


@pytest.mark.parametrize("name", ["payd", "approval:pay", "approval:", "ship"])
def test_a_signal_that_no_node_can_wait_for_is_refused(api: Api, run, path: str, name: str):
    body = assert_problem(api.post(path, {"name": name}), 409, "signal_not_awaited")
    assert body["awaited"] == ["approval:ship", "paid"]
    assert signals(run) == []


@pytest.mark.parametrize(
    ("awaited", "name", "status"),
    [
        ("paid-{{ input.id }}-now", "paid-7-now", 202),
        ("paid-{{ input.id }}-now", "payd-7-now", 409),
        ("paid-{{ input.id }}-now", "paid-7", 409),
        ("{{ input.id }}", "anything", 202),
        ("a {{- input.id -}} b", "a7b", 202),
    ],
)
def test_a_template_stands_for_the_names_that_it_can_make(tenant, awaited: str, name: str, status: int):
    source = f"""
version: 2
name: order
inputs: {{id: {{type: string, default: "7"}}}}
nodes: [{{id: pay, type: signal, config: {{name: "{awaited}"}}}}]
"""
    run = make_run(tenant, source)
    response = Api(make_api_key(tenant)[1]).post(f"/api/v1/runs/{run.pk}/signals", {"name": name})
    assert response.status_code == status, response.content


@written_by_hand
def test_what_has_its_answer_takes_no_other(api: Api, run, path: str):
    with_answer = NodeRun(tenant_id=run.tenant_id, run=run, node_id="pay", state="succeeded")
    with_answer.save()
    body = assert_problem(api.post(path, {"name": "paid"}), 409, "signal_not_awaited")
    assert body["awaited"] == ["approval:ship"]
    assert "succeeded" in body["detail"]


def test_a_signal_for_a_child_run_is_sent_there(tenant, api: Api):
    parent, child = make_run(tenant), make_run(tenant, SOURCE)
    Run.objects.across_tenants().filter(pk=child.pk).update(parent=parent)
    body = assert_problem(api.post(f"/api/v1/runs/{parent.pk}/signals", {"name": "paid"}), 409, "signal_not_awaited")
    assert body["awaited"] == []
    assert str(child.pk) in body["detail"]


def test_another_signal_of_a_waiting_approval_is_no_decision(api: Api, run, path: str, approval: str):
    assert api.post(path, {"name": "paid", "payload": "anything"}).status_code == 202


def test_a_run_that_has_ended_takes_none(api: Api, run, path: str):
    record(run)
    assert_problem(api.post(path, {"name": "paid"}), 409, "run_finished")
    assert signals(run) == []


WRONG = {
    "no name": ({}, "/name"),
    "an empty name": ({"name": ""}, "/name"),
    "a name that is no text": ({"name": ["paid"]}, "/name"),
    "a long name": ({"name": "x" * 256}, "/name"),
    "a long id": ({"name": "paid", "id": "x" * 256}, "/id"),
    "a misspelt payload": ({"name": "paid", "paylaod": 1}, "/paylaod"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_signal_is_refused_and_located(api: Api, run, path: str, case: str):
    sent, pointer = WRONG[case]
    body = assert_problem(api.post(path, sent), 422, "input_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert signals(run) == []


@pytest.mark.parametrize("value", [[], "text", 1, None], ids=repr)
def test_a_body_that_is_no_mapping_is_refused(api: Api, path: str, value):
    assert_problem(api.post(path, json.dumps(value)), 422, "input_invalid")


@pytest.mark.parametrize("text", ['{"name": "paid"', '{"name": "a\\u0000"}', '{"name": "p", "payload": NaN}'])
def test_what_is_no_document_is_refused(api: Api, path: str, text: str):
    assert_problem(api.post(path, text, JSON), 400, "document_invalid")


def test_yaml_both_ways(api: Api, run, path: str):
    response = api.post(path, "{name: paid, payload: {a: 1}}", YAML, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (202, YAML)
    assert read(response) == {"delivered": True}
    assert signals(run) == [("paid", {"a": 1}, False)]


def test_a_trailing_slash_is_accepted(api: Api, path: str):
    assert api.post(path + "/", {"name": "paid"}).status_code == 202


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/signals", {"name": "paid"}), 404, "run_not_found")


def test_it_answers_in_no_other_format_and_delivers_nothing(api: Api, run, path: str):
    assert_problem(api.post(path, {"name": "paid"}, accept="text/html"), 406, "not_acceptable")
    assert signals(run) == []


def test_it_needs_a_key(nobody: Api, run, path: str):
    assert_problem(nobody.post(path, {"name": "paid"}), 401, "not_authenticated")
    assert signals(run) == []


def test_it_hides_other_tenants(other_api: Api, run, path: str):
    unknown = f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/signals"
    hidden, missing = other_api.post(path, {"name": "paid"}), other_api.post(unknown, {"name": "paid"})
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, missing)
    assert not RunSignal.objects.across_tenants().exists()


def test_a_signal_is_audited_once_and_without_its_payload(api: Api, tenant, path: str):
    for _ in range(2):
        api.post(path, {"name": "paid", "payload": "confidential", "id": "1"})
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.signalled")
    assert "paid" in entry.record
    assert "confidential" not in entry.record


def test_a_viewer_may_not(tenant, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path, {"name": "paid"}), 403, "forbidden")
    assert not RunSignal.objects.across_tenants().exists()


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.post(path, {"name": "warm"})
    with django_assert_num_queries(6):
        # The run, whether nodes that wait for it have succeeded, the signal; the audit's head, its entry, its new end.
        assert api.post(path, {"name": "paid"}).status_code == 202
