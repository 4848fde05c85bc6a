"""`POST /api/v1/runs/{id}/signals`."""

import json
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import NodeRun, Run, RunSignal
from tenants.models import AuditEntry
from tests.support.api import JSON, YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run
from tests.support.invariants import written_by_hand
from tests.support.records import record

OPERATION = "runs_signal"
pytestmark = pytest.mark.database
FORM = {"type": "object", "properties": {"carrier": {"enum": ["dhl", "ups"]}}, "required": ["carrier"]}
DECISION = {"approved": True, "by": "ada", "data": {"carrier": "dhl"}}


@pytest.fixture
def run(tenant):
    return make_run(tenant)


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}/signals"


@pytest.fixture
def approval(run) -> str:
    """The run waits for a decision; the signal's name."""
    Run.objects.across_tenants().update(state="waiting")
    wait = {"until": None, "signal": "approval:ship", "details": {"kind": "approval", "form": FORM}}
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
    other = make_run(tenant)
    for each in (path, f"/api/v1/runs/{other.pk}/signals"):
        assert read(api.post(each, {"name": "paid", "id": "x"})) == {"delivered": True}


def test_a_decision_on_an_approval_is_accepted(api: Api, run, path: str, approval: str):
    assert api.post(path, {"name": approval, "payload": DECISION}).status_code == 202
    assert signals(run) == [(approval, DECISION, False)]


WRONG_DECISIONS = {
    "not a mapping": ("yes", "/payload"),
    "nothing": (None, "/payload"),
    "no answer": ({"by": "ada"}, "/payload/approved"),
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
    with django_assert_num_queries(7):
        # The run, its waiting nodes, whether the signal is known, the signal; the audit's head, its entry, its new end.
        assert api.post(path, {"name": "paid"}).status_code == 202
