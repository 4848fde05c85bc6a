"""`POST /api/v1/workflows/{name}/runs`."""

import json
import time

import pytest
from django.db import IntegrityError, connection, transaction

from pyflow.core.ports import Notification
from runs.models import EventRecord, Run
from runs.notify.notifications import queued_topic
from runs.services.start import Start, start_run
from tests.support.api import JSON, YAML, Api, assert_problem, assert_same_answer, is_uuid7, read
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_draft, make_workflow
from tests.support.servers.event_bus import Notes, in_one_process
from workflows.services import archive_workflow
from workflows.versions import archive_version

OPERATION = "runs_start"
PATH = "/api/v1/workflows/hello/runs"
pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def hello(tenant):
    return make_workflow(tenant)


def test_a_run_is_accepted(api: Api, tenant, hello):
    response = api.post(PATH, {"input": {"who": "Ada"}})

    assert response.status_code == 202
    body = read(response)
    assert response.headers["Location"] == f"http://testserver/api/v1/runs/{body['id']}"
    assert is_uuid7(body["id"])
    assert (body["workflow"], body["version"], body["state"]) == ("hello", 1, "queued")
    assert (body["input"], body["outputs"], body["error"]) == ({"who": "Ada"}, None, None)
    run = Run.objects.for_tenant(tenant).get()
    assert (str(run.pk), run.version_id, run.input) == (body["id"], hello.pk, {"who": "Ada"})
    assert [(event.seq, event.type) for event in EventRecord.objects.for_tenant(tenant).filter(run__isnull=False)] == [
        (1, "run.queued")
    ]


def test_executors_are_notified_once_it_is_committed(api: Api, django_capture_on_commit_callbacks):
    notes = Notes()
    with in_one_process() as bus:
        bus.subscribe([queued_topic("")], notes)
        with django_capture_on_commit_callbacks(execute=True):
            api.post(PATH, {"input": {"who": "Ada"}})
            assert notes.taken == []
    assert notes.taken == [Notification(queued_topic(""))]


def test_it_runs_the_newest_version(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    assert read(api.post(PATH, {"input": {"who": "Ada"}}))["version"] == 2


def test_yaml_both_ways(api: Api):
    response = api.post(PATH, "input: {who: Ada}", YAML, accept=YAML)
    assert response.status_code == 202
    assert response.headers["Content-Type"] == YAML
    assert read(response)["input"] == {"who": "Ada"}


def test_a_trailing_slash_is_accepted(api: Api):
    assert api.post(PATH + "/", {"input": {"who": "Ada"}}).status_code == 202


def test_defaults_of_the_inputs_are_filled_in(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("{who: string}", "{who: {type: string, default: world}}"))
    response = api.post(PATH)
    assert response.status_code == 202
    assert read(response)["input"] == {"who": "world"}


def test_large_numbers_and_other_scripts_survive(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("inputs: {who: string}\n", ""))
    given = {"who": "Ада 🎉", "n": 2**70, "f": 0.1, "deep": [[None, True]], "": "empty key"}
    response = api.post(PATH, json.dumps({"input": given}))
    assert response.status_code == 202
    assert read(response)["input"] == given
    assert read(api.get(response.headers["Location"].removeprefix("http://testserver")))["input"] == given


def test_every_wrong_value_of_the_input_is_named(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("{who: string}", "{who: string, count: integer}"))
    body = assert_problem(api.post(PATH, {"input": {"who": 1, "count": "2"}}), 422, "input_invalid")
    assert {error["pointer"] for error in body["errors"]} == {"/input/who", "/input/count"}
    assert not Run.objects.for_tenant(tenant).exists()


def test_a_missing_input_is_named(api: Api):
    body = assert_problem(api.post(PATH, {}), 422, "input_invalid")
    assert "who" in body["errors"][0]["detail"]


@pytest.mark.parametrize("value", [[], "text", 1, None, True], ids=repr)
def test_an_input_that_is_no_mapping_is_refused(api: Api, value):
    body = assert_problem(api.post(PATH, {"input": value}), 422, "input_invalid")
    assert body["errors"][0]["pointer"] == "/input"


@pytest.mark.parametrize("value", [[], "text", 1, None, True], ids=repr)
def test_a_body_that_is_no_mapping_is_refused(api: Api, value):
    assert_problem(api.post(PATH, json.dumps(value)), 422, "input_invalid")


def test_an_unknown_field_starts_nothing(api: Api, tenant):
    body = assert_problem(api.post(PATH, {"inptu": {"who": "Ada"}, "input": {"who": "Ada"}}), 422, "input_invalid")
    assert [error["pointer"] for error in body["errors"]] == ["/inptu"]
    assert not Run.objects.for_tenant(tenant).exists()


MALFORMED = {
    "broken JSON": ('{"input": {"who": "Ada"}', JSON),
    "a duplicate key": ('{"input": {"who": "a", "who": "b"}}', JSON),
    "NaN": ('{"input": {"who": NaN}}', JSON),
    "a number beyond all floats": ('{"input": {"who": 1e999}}', JSON),
    "an escaped NUL character": ('{"input": {"who": "\\u0000"}}', JSON),
    "a lone surrogate": ('{"input": {"who": "\\ud800"}}', JSON),
    "a raw NUL character": (b'{"input": {"who": "\0"}}', JSON),
    "not UTF-8": (b'{"input": {"who": "\xff"}}', JSON),
    "deep nesting": ('{"input": ' + "[" * 40 + "]" * 40 + "}", JSON),
    "broken YAML": ("input: [", YAML),
    "a tag": ("input: !!python/name:os.system {}", YAML),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_document_is_refused(api: Api, tenant, case: str):
    text, content_type = MALFORMED[case]
    assert_problem(api.post(PATH, text, content_type), 400, "document_invalid")
    assert not Run.objects.for_tenant(tenant).exists()


def test_malformed_json_is_located(api: Api):
    body = assert_problem(api.post(PATH, '{"input":\n  {"who": Ada}}'), 400, "document_invalid")
    assert (body["errors"][0]["line"], body["errors"][0]["column"]) == (2, 11)


def test_a_body_above_1_mib_is_refused(api: Api):
    assert_problem(api.post(PATH, b" " * (1024 * 1024 + 1)), 413, "document_too_large")


def test_other_media_types_are_refused(api: Api):
    assert_problem(api.post(PATH, "who=Ada", "application/x-www-form-urlencoded"), 415, "unsupported_media_type")


def test_it_answers_in_no_other_format_and_starts_nothing(api: Api, tenant):
    assert_problem(api.post(PATH, {"input": {"who": "Ada"}}, accept="text/html"), 406, "not_acceptable")
    assert not Run.objects.for_tenant(tenant).exists()


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, {"input": {"who": "Ada"}}), 401, "not_authenticated")


def test_a_named_version_is_run(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    assert read(api.post(PATH, {"input": {"who": "Ada"}, "version": 1}))["version"] == 1
    assert_problem(api.post(PATH, {"input": {"who": "Ada"}, "version": 3}), 404, "version_not_found")


def test_a_workflow_is_addressed_by_its_id_as_well(api: Api, hello):
    path = f"/api/v1/workflows/{hello.workflow_id}/runs"
    for body in ({}, {"version": 1}):
        assert read(api.post(path, {"input": {"who": "Ada"}} | body))["workflow"] == "hello"


@pytest.mark.parametrize("state", ["draft", "archived"])
def test_only_a_published_version_is_run(api: Api, tenant, state: str):
    if state == "draft":
        number = make_draft(tenant).number
    else:
        number = make_workflow(tenant, HELLO.replace("Greets", "Greets again")).number
        archive_version(by=a_test(tenant), name="hello", number=number)
    body = assert_problem(api.post(PATH, {"input": {"who": "Ada"}, "version": number}), 409, "version_state")
    assert state in body["detail"]
    assert not Run.objects.for_tenant(tenant).exists()


@pytest.mark.parametrize("version", [{}, {"version": 1}], ids=["newest", "by number"])
def test_nothing_of_an_archived_workflow_is_run(api: Api, tenant, version: dict[str, int]):
    archive_workflow(by=a_test(tenant), name="hello", archived=True)
    assert_problem(api.post(PATH, {"input": {"who": "Ada"}} | version), 409, "workflow_archived")


def test_a_workflow_without_a_published_version_is_not_run(api: Api, tenant):
    archive_version(by=a_test(tenant), name="hello", number=1)
    assert_problem(api.post(PATH, {"input": {"who": "Ada"}}), 409, "workflow_not_published")


@pytest.mark.vendor("starting a run is SQL of each vendor's own")
def test_labels_are_added_to_the_workflows_own(api: Api):
    body = read(api.post(PATH, {"input": {"who": "Ada"}, "labels": {"customer": "7"}, "priority": 9}))
    assert body["labels"] == {"team": "tests", "customer": "7"}
    assert (body["priority"], body["trigger"]) == (9, "api")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", {"1": "x"}),
        ("labels", {"a": {}}),
        ("labels", {"a": 1}),
        ("priority", "5"),
        ("priority", True),
        ("key", 7),
        ("labels", {f"l{i}": "" for i in range(40)}),
        ("priority", 0),
        ("priority", 10),
        ("version", 0),
        ("version", 2**31),
        ("key", ""),
        ("key", "x" * 256),
    ],
)
def test_a_wrong_option_starts_nothing(api: Api, tenant, field: str, value):
    body = assert_problem(api.post(PATH, {"input": {"who": "Ada"}, field: value}), 422, "input_invalid")
    assert body["errors"][0]["pointer"].startswith(f"/{field}")
    assert not Run.objects.for_tenant(tenant).exists()


def test_what_else_the_database_refuses_is_not_taken_for_the_key(tenant):
    start = Start(input={"who": "Ada"}, key="order-7", priority=-1)  # the API lets none of these pass
    with pytest.raises(IntegrityError), transaction.atomic():
        start_run(by=a_test(tenant), workflow_name="hello", start=start)


def test_a_key_starts_one_run(api: Api, tenant):
    first, second = (api.post(PATH, {"input": {"who": "Ada"}, "key": "order-7"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert read(first)["id"] == read(second)["id"]
    assert read(second)["key"] == "order-7"
    assert EventRecord.objects.for_tenant(tenant).filter(run__isnull=False).count() == 1


@pytest.mark.vendor("each vendor keeps two requests with one idempotency key apart in its own way")
def test_an_idempotent_start_is_answered_twice_and_done_once(api: Api, tenant):
    first, second = (api.post(PATH, {"input": {"who": "Ada"}}, idempotency_key="k") for _ in range(2))
    assert read(first)["id"] == read(second)["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Run.objects.for_tenant(tenant).count() == 1


@pytest.mark.parametrize("preference", ["", "wait", "wait=x", "wait=-1", "respond-async", "wait=0"])
def test_a_preference_that_says_nothing_is_ignored(api: Api, preference: str):
    response = api.post(PATH, {"input": {"who": "Ada"}}, prefer=preference)
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_a_run_that_does_not_end_in_time_is_answered_as_accepted(api: Api):
    began = time.monotonic()
    response = api.post(PATH, {"input": {"who": "Ada"}}, prefer="respond-async, wait=1")
    assert time.monotonic() - began >= 1
    assert (response.status_code, read(response)["state"]) == (202, "queued")


def test_it_links_to_what_belongs_to_the_run(api: Api):
    response = api.post(PATH, {"input": {"who": "Ada"}})
    assert '/api/v1/workflows/hello>; rel="up"' in response.headers["Link"]
    assert f'/api/v1/runs/{read(response)["id"]}/nodes>; rel="nodes"' in response.headers["Link"]


def test_it_hides_other_tenants(other_api: Api):
    body = {"input": {"who": "Ada"}}
    hidden, unknown = other_api.post(PATH, body), other_api.post("/api/v1/workflows/unknown/runs", body)
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)
    assert not Run.objects.across_tenants().exists()


def test_who_started_it_is_kept_with_the_run(api: Api, tenant):
    api.post(PATH, {"input": {"who": "Ada"}}, x_request_id="r-1")
    run = Run.objects.for_tenant(tenant).get()
    assert run.trigger == "api"
    assert run.started_by["kind"] == "key"
    assert run.started_by["request_id"] == "r-1"


def test_a_viewer_may_not(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH, {"input": {"who": "Ada"}}), 403, "forbidden")
    assert not Run.objects.for_tenant(tenant).exists()


@pytest.mark.vendor("starting a run is SQL of each vendor's own")
def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.post(PATH, {"input": {"who": "Ada"}})  # from then on this process knows the caller and the version
    # The version; the run, its event and the counters of quotas, which on PostgreSQL are one.
    with django_assert_num_queries(2 if connection.vendor == "postgresql" else 5):
        assert api.post(PATH, {"input": {"who": "Ada"}}).status_code == 202
