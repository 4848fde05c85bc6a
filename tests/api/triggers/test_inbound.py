"""`/hooks/{tenant}/{path}`: requests of services start runs."""

import json
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import EventRecord, Run
from secrets_vault.models import SecretVersion
from secrets_vault.services import find_secret, replace_secret, rotate_secret
from tenants.limits import MemoryLimiter
from tenants.models import AuditEntry
from tests.support.api import assert_problem, read
from tests.support.factories.hooks import (
    SECRET,
    WHSEC,
    by_github,
    by_slack,
    by_standard,
    by_stripe,
    deliver,
    hook,
    make_hook,
    raw,
    with_triggers,
)
from tests.support.factories.rows import a_test, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.processes.running import executing
from triggers.errors import HookPathTakenError
from triggers.models import HookDelivery, InboundHook
from triggers.services.hooks import receiving, refusals
from workflows.services import archive_workflow, delete_workflow

pytestmark = [pytest.mark.django_db, pytest.mark.api]
BODY = {"ref": "refs/heads/main", "n": 1}
NONE = "{scheme: none}"


@pytest.fixture(autouse=True)
def own_limits(monkeypatch):
    """No test pays for requests of another one."""
    limiter = MemoryLimiter()
    monkeypatch.setattr(refusals, "limiter", limiter)
    monkeypatch.setattr(receiving, "limiter", limiter)


@pytest.fixture
def secret(tenant):
    return make_secret(tenant, "HOOK", SECRET)


def runs(tenant):
    return Run.objects.for_tenant(tenant)


def deliveries(tenant):
    return HookDelivery.objects.for_tenant(tenant).order_by("received_at", "id")


# --- a request starts a run --------------------------------------------------------------------------------------


def test_an_authentic_request_starts_one_run_with_the_body_as_input(tenant, secret):
    make_hook(tenant)
    response = deliver(tenant, BODY, by_github(BODY))
    assert response.status_code == 202, response.content
    run = runs(tenant).get()
    assert read(response) == {"run_id": str(run.pk), "duplicate": False}
    assert (run.trigger, run.input, run.state) == ("webhook", BODY, "queued")
    assert run.started_by["name"] == "webhook:hook"


def test_a_delivery_that_is_sent_again_starts_no_second_run(tenant, secret):
    make_hook(tenant)
    first, again = (read(deliver(tenant, BODY, by_github(BODY))) for _ in range(2))
    other = read(deliver(tenant, BODY, by_github(BODY, delivery="d-2")))
    assert again == {"run_id": first["run_id"], "duplicate": True}
    assert other["run_id"] != first["run_id"]
    assert [row.outcome for row in deliveries(tenant)] == ["accepted", "duplicate", "accepted"]
    assert runs(tenant).count() == 2


def test_the_log_says_which_trigger_fired(tenant, secret):
    make_hook(tenant)
    run_id = read(deliver(tenant, BODY, by_github(BODY)))["run_id"]
    deliver(tenant, BODY, by_github(BODY))
    event = EventRecord.objects.for_tenant(tenant).get(type="trigger.fired")
    expected = {"trigger": "hook", "kind": "webhook", "run_id": run_id, "path": "in", "delivery_id": "d-1"}
    assert (event.data, event.workflow_name, event.version_number) == (expected, "flow", 1)


@pytest.mark.parametrize(
    ("verify", "sign", "value"),
    [
        ("{scheme: standard-webhooks, secret: HOOK}", by_standard, WHSEC),
        ("{scheme: github, secret: HOOK}", by_github, SECRET),
        ("{scheme: stripe, secret: HOOK}", by_stripe, SECRET),
        ("{scheme: slack, secret: HOOK}", by_slack, SECRET),
        ("{scheme: token, secret: HOOK}", lambda body: {"Authorization": f"Bearer {SECRET}"}, SECRET),
    ],
)
def test_each_scheme_over_the_wire(tenant, verify, sign, value):
    make_secret(tenant, "HOOK", value)
    make_hook(tenant, verify)
    body = b'{"spaces":   "kept",\n "u": "\xc3\xa9"}'
    assert deliver(tenant, body, sign(body)).status_code == 202
    assert_problem(deliver(tenant, body + b" ", sign(body) if "token" not in verify else {}), 404, "hook_not_found")
    assert runs(tenant).get().input == {"spaces": "kept", "u": "é"}


def test_a_signature_older_than_five_minutes_is_refused(tenant):
    make_secret(tenant, "HOOK", WHSEC)
    make_hook(tenant, "{scheme: standard-webhooks, secret: HOOK}")
    assert_problem(deliver(tenant, BODY, by_standard(BODY, at=time.time() - 310)), 404, "hook_not_found")
    assert not runs(tenant).exists()


def test_slack_asks_whether_somebody_answers(tenant, secret):
    make_hook(tenant, "{scheme: slack, secret: HOOK}")
    body = {"type": "url_verification", "challenge": "3eZbrw1a"}
    assert read(deliver(tenant, body, by_slack(body))) == {"challenge": "3eZbrw1a"}
    assert not runs(tenant).exists()


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_refusal_says_nothing_about_why(tenant, other_tenant, secret):
    make_hook(tenant)
    make_hook(other_tenant, path="theirs")
    good = by_github(BODY)
    answers = [
        deliver(tenant, BODY, good | {"X-Hub-Signature-256": "sha256=" + "0" * 64}),
        deliver(tenant, BODY),
        deliver(tenant, BODY, good, path="nowhere"),
        deliver(tenant, BODY, good, path="theirs"),
        deliver(other_tenant, BODY, good),
        deliver(other_tenant, BODY, good, path="theirs"),
        deliver("nobody", BODY, good),
        deliver(tenant, BODY, good, method="PUT"),
        deliver(tenant, BODY, good, path="%00"),
    ]
    bodies = [read(answer) for answer in answers]
    for body in bodies:
        del body["request_id"], body["instance"]
    assert [answer.status_code for answer in answers] == [404] * 9
    assert all(body == bodies[0] for body in bodies)
    assert {name for answer in answers for name in answer.headers} == set(answers[0].headers)
    assert not Run.objects.across_tenants().exists()


@pytest.mark.vendor("rows of hooks are looked up before the tenant is known")
def test_a_refusal_takes_the_same_steps_whether_or_not_there_is_a_webhook(tenant, secret):
    make_hook(tenant)

    def asked(*args, **options):
        with CaptureQueriesContext(connection) as context:
            assert deliver(*args, **options).status_code == 404
        return len(context.captured_queries)

    wrong = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    counts = {asked(tenant, BODY, wrong), asked(tenant, BODY, wrong, path="nowhere"), asked("nobody", BODY, wrong)}
    assert len(counts) == 1, counts


@pytest.mark.vendor("rows of hooks are looked up before the tenant is known")
@pytest.mark.django_db(transaction=True)
def test_refusals_are_counted_and_audited_once_an_hour(tenant):
    make_secret(tenant, "HOOK", SECRET)
    make_hook(tenant)
    before = AuditEntry.objects.for_tenant(tenant).count()
    for _ in range(5):
        deliver(tenant, BODY, {"X-Hub-Signature-256": "sha256=" + "0" * 64})
    assert refusals.refusals.flush(10)
    row = InboundHook.objects.for_tenant(tenant).get()
    assert row.refused == 5
    assert row.refused_at is not None
    entries = AuditEntry.objects.for_tenant(tenant).order_by("-seq")
    assert entries.count() == before + 1
    assert (entries[0].action, entries[0].target) == ("hook.refused", f"hook:{row.pk}")
    assert not HookDelivery.objects.for_tenant(tenant).exists(), "forged requests leave no rows"


def test_an_address_that_forges_is_not_looked_at_any_more(tenant, secret):
    make_hook(tenant)
    for _ in range(refusals.PER_CLIENT):
        assert deliver(tenant, BODY, path="guess").status_code == 404
    problem = assert_problem(deliver(tenant, BODY, by_github(BODY)), 429, "rate_limited")
    assert "address" in problem["detail"]


def test_a_webhook_takes_only_so_many_verified_requests_a_minute(tenant, secret):
    make_hook(tenant, rest="rate_limit: 2")
    codes = [deliver(tenant, BODY, by_github(BODY, delivery=str(n))).status_code for n in range(3)]
    assert codes == [202, 202, 429]
    last = deliver(tenant, BODY, by_github(BODY))
    assert 1 <= int(last.headers["Retry-After"]) <= 60


def test_a_large_body_is_refused_by_its_length_and_by_its_bytes(tenant, secret):
    make_hook(tenant)
    large = b'"' + b"x" * (1024 * 1024) + b'"'
    assert_problem(deliver(tenant, large, by_github(large)), 413, "document_too_large")
    exact = b'{"a": "' + b"x" * (1024 * 1024 - 9) + b'"}'
    assert deliver(tenant, exact, by_github(exact)).status_code == 202


def test_a_webhook_without_its_secret_refuses_everything(tenant, caplog):
    make_hook(tenant)
    assert deliver(tenant, BODY, by_github(BODY)).status_code == 404
    assert "HOOK" in caplog.text


def test_a_suspended_tenant_receives_nothing(tenant, secret):
    make_hook(tenant)
    tenant.suspended_at = timezone.now()
    tenant.save()
    assert deliver(tenant, BODY, by_github(BODY)).status_code == 404
    assert not runs(tenant).exists()


# --- secrets that change -----------------------------------------------------------------------------------------


def test_the_value_before_stays_valid_for_a_time(tenant, secret):
    make_hook(tenant, "{scheme: github, secret: HOOK, overlap: 1h}")
    later = "another-shared-secret-after-that"
    replace_secret(secret=find_secret(tenant_id=tenant.pk, name="HOOK", lock=True), value=later, by=a_test(tenant))

    def code(value, number):
        return deliver(tenant, BODY, by_github(BODY, value, delivery=str(number))).status_code

    assert (code(SECRET, 1), code(later, 2)) == (202, 202)
    versions = SecretVersion.objects.for_tenant(tenant)
    versions.filter(number=2).update(created_at=timezone.now() - timedelta(hours=1, seconds=1))
    assert (code(SECRET, 3), code(later, 4)) == (404, 202)


def test_a_rotated_secret_is_worth_nothing_at_once(tenant, secret):
    make_hook(tenant)
    rotate_secret(
        secret=find_secret(tenant_id=tenant.pk, name="HOOK", lock=True), value="a-new-secret-12345", by=a_test(tenant)
    )
    assert deliver(tenant, BODY, by_github(BODY)).status_code == 404


# --- bodies and mapping ------------------------------------------------------------------------------------------


def got(tenant, rest, *args, **options):
    make_hook(tenant, NONE, rest=rest)
    response = deliver(tenant, *args, **options)
    assert response.status_code == 202, response.content
    return runs(tenant).get().input


def test_the_input_is_mapped_by_templates(tenant):
    rest = (
        "input: {ref: '{{ trigger.body.ref }}', all: '{{ trigger.body }}', id: '{{ trigger.query.id }}',"
        " kind: \"{{ trigger.headers['x-kind'] }}\", how: '{{ trigger.method }} {{ trigger.path }}',"
        " at: '{{ trigger.received_at }}'}"
    )
    given = got(tenant, rest, BODY, {"X-Kind": "push"}, path="in?id=7&tag=a&tag=b")
    assert given.pop("at").endswith("Z")
    assert given == {"ref": "refs/heads/main", "all": BODY, "id": "7", "kind": "push", "how": "POST in"}


def test_credentials_and_signatures_are_no_part_of_it(tenant):
    make_secret(tenant, "HOOK", SECRET)
    headers = {"Cookie": "a=b", "X-Api-Key": "k", "X-Session-Id": "s", "Authorization": "Basic x", "X-Fine": "y"}
    make_hook(tenant, "{scheme: token, secret: HOOK, header: X-Shared}", rest="input: {h: '{{ trigger.headers }}'}")
    assert deliver(tenant, BODY, headers | {"X-Shared": SECRET}).status_code == 202
    given = runs(tenant).get().input["h"]
    assert given["x-fine"] == "y"
    assert not {"cookie", "x-api-key", "x-session-id", "authorization", "x-shared"} & given.keys()


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/x-www-form-urlencoded", "a=1&b=x%20y&a=2&e=", {"a": ["1", "2"], "b": "x y", "e": ""}),
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ("application/xml", "<a>é</a>", "<a>é</a>"),
        ("application/vnd.x+json", '{"a": [1, null]}', {"a": [1, None]}),
        ("application/json", b"", None),
        (
            "multipart/form-data; boundary=B",
            (
                b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; '
                b'name="f"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\nhey\r\n--B--\r\n'
            ),
            {"a": "1", "f": {"filename": "x.txt", "content_type": "text/plain", "size": 3, "base64": "aGV5"}},
        ),
    ],
)
def test_bodies_are_read_by_their_type(tenant, content_type, body, expected):
    assert got(tenant, "input: {b: '{{ trigger.body }}'}", body, content_type=content_type) == {"b": expected}


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", '{"a": 1, "a": 2}', "document_invalid"),
        ("application/json", '{"a": NaN}', "document_invalid"),
        ("application/json", b"\xff", "document_invalid"),
        ("application/json", '"a\\u0000b"', "document_invalid"),
        ("application/x-www-form-urlencoded", "a=%ff", "hook_body_invalid"),
        ("application/x-www-form-urlencoded", "a=%00", "hook_body_invalid"),
        ("application/x-www-form-urlencoded", "&".join(f"a{n}=1" for n in range(1100)), "hook_body_invalid"),
        ("text/plain", b"\xff", "hook_body_invalid"),
        ("multipart/form-data", b"--B", "hook_body_invalid"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused_and_recorded(tenant, content_type, body, code):
    make_hook(tenant, NONE)
    problem = assert_problem(deliver(tenant, body, content_type=content_type), 400, code)
    [row] = deliveries(tenant)
    assert (row.outcome, row.error["code"], row.run_id) == ("failed", code, None)
    assert problem["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "image/png", "text/plain; charset=klingon", "nonsense", ""]
)
def test_a_body_of_a_type_that_is_not_read_is_refused_and_recorded(tenant, content_type):
    make_hook(tenant, NONE)
    assert_problem(deliver(tenant, b"x", content_type=content_type), 415, "hook_body_unsupported")
    [row] = deliveries(tenant)
    assert (row.outcome, row.error["code"], row.run_id) == ("failed", "hook_body_unsupported", None)


def test_what_gives_no_input_is_an_error_and_no_run(tenant):
    make_hook(tenant, NONE)
    assert_problem(deliver(tenant, [1]), 422, "hook_input_invalid")
    make_workflow(tenant, with_triggers(hook(NONE, rest="input: {a: '{{ trigger.body.x.y }}'}")))
    assert_problem(deliver(tenant, {}), 422, "hook_input_invalid")
    make_workflow(tenant, with_triggers(hook(NONE), inputs="{n: integer}"))
    assert_problem(deliver(tenant, {"n": "x"}), 422, "input_invalid")
    assert [row.outcome for row in deliveries(tenant)] == ["failed"] * 3
    assert not runs(tenant).exists()


def test_deliveries_are_recorded_bounded_and_masked(tenant, secret):
    make_hook(tenant)
    body = raw({"echo": SECRET, "long": "x" * 5000})
    deliver(tenant, body, by_github(body))
    [row] = deliveries(tenant)
    assert (row.method, row.content_type, row.size, row.delivery_id) == ("POST", "application/json", len(body), "d-1")
    assert len(row.excerpt) == receiving.MAX_EXCERPT
    assert SECRET not in row.excerpt


def test_cookies_and_csrf_tokens_have_no_meaning(tenant):
    make_hook(tenant, NONE)
    response = deliver(tenant, BODY, {"Cookie": "sessionid=abc", "Origin": "https://evil.example"})
    assert response.status_code == 202
    assert not response.cookies


# --- answers -----------------------------------------------------------------------------------------------------


def waits(answer, nodes="", outputs="{sum: '{{ a.n + 1 }}'}"):
    return with_triggers(hook(NONE, rest=f"answer: {answer}"), nodes=nodes, outputs=outputs)


@pytest.mark.django_db(transaction=True)
def test_a_webhook_may_answer_with_what_the_run_gives(tenant):
    templates = "{wait: 20s, status: '{{ run.outputs.sum }}', body: {n: '{{ trigger.body.n }}', s: '{{ run.state }}'}}"
    fails = "[{id: a, type: fail, config: {message: no}}]"
    make_workflow(tenant, waits("wait"))
    with executing():
        response = deliver(tenant, {"n": 200})
        assert (response.status_code, read(response)) == (200, {"sum": 201})
        make_workflow(tenant, waits(templates))
        response = deliver(tenant, {"n": 200})
        assert (response.status_code, read(response)) == (201, {"n": 200, "s": "succeeded"})
        response = deliver(tenant, {"n": 5000})
        assert (response.status_code, read(response)["error"]) == (502, "answer_failed")
        make_workflow(tenant, waits("wait", fails, "{}"))
        response = deliver(tenant, {"n": 1})
        assert (response.status_code, read(response)["state"]) == (502, "failed")


def test_a_run_that_takes_longer_is_answered_with_its_id(tenant):
    make_workflow(tenant, waits("{wait: 0.2}"))
    response = deliver(tenant, {"n": 1})
    assert (response.status_code, read(response)["state"]) == (202, "queued")


# --- rows follow the published version ---------------------------------------------------------------------------


def paths(tenant):
    return {row.trigger: (row.path, row.version) for row in InboundHook.objects.for_tenant(tenant)}


def test_rows_follow_the_published_version(tenant):
    make_workflow(tenant, with_triggers(hook(NONE, path="a", id="x"), hook(NONE, path="b", id="y")))
    kept = InboundHook.objects.for_tenant(tenant).get(trigger="x").pk
    make_workflow(tenant, with_triggers(hook(NONE, path="b", id="x"), hook(NONE, path="a", id="y")))
    assert paths(tenant) == {"x": ("b", 2), "y": ("a", 2)}
    assert InboundHook.objects.for_tenant(tenant).get(trigger="x").pk == kept
    make_workflow(tenant, with_triggers(hook(NONE, path="b", id="x")))
    assert paths(tenant) == {"x": ("b", 3)}
    archive_workflow(by=a_test(tenant), name="flow", archived=True)
    assert paths(tenant) == {}
    assert deliver(tenant, BODY, path="b").status_code == 404
    archive_workflow(by=a_test(tenant), name="flow", archived=False)
    assert paths(tenant) == {"x": ("b", 3)}
    delete_workflow(by=a_test(tenant), name="flow")
    assert paths(tenant) == {}


def test_a_path_of_another_workflow_is_refused_when_publishing(api, tenant, other_tenant):
    make_hook(tenant, NONE)
    make_hook(other_tenant, NONE)
    with pytest.raises(HookPathTakenError, match="'in' belongs to the trigger 'hook' of the workflow 'flow'"):
        make_workflow(tenant, with_triggers(hook(NONE), name="second"))
    source = with_triggers(hook(NONE), name="second")
    response = api.post("/api/v1/workflows", source, content_type="application/yaml")
    assert_problem(response, 409, "hook_path_taken")
    assert api.get("/api/v1/workflows/second").status_code == 404, "nothing of it is stored"
    archive_workflow(by=a_test(tenant), name="flow", archived=True)
    make_workflow(tenant, source)
    with pytest.raises(HookPathTakenError):
        archive_workflow(by=a_test(tenant), name="flow", archived=False)


def test_drafts_and_version_1_without_verification_have_no_webhooks(tenant, api):
    source = with_triggers(hook(NONE))
    assert api.post("/api/v1/workflows?draft=true", source, content_type="application/yaml").status_code == 201
    make_workflow(tenant, "name: old\ntrigger: {type: webhook, config: {path: /old}}\nnodes: []\n")
    assert paths(tenant) == {}
    verified = json.dumps({"path": "/old", "verify": {"scheme": "none"}})
    make_workflow(tenant, f"name: old\ntrigger: {{type: webhook, config: {verified}}}\nnodes: []\n")
    assert paths(tenant) == {"webhook": ("old", 2)}
