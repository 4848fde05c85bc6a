"""Ports of `examples/ports` on the platform: what starts them, what they wait for, and the runs that they start."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import NodeItem, NodeRun, Run
from runs.services.signals import pending_approvals, signal_run
from tenants.access import Role
from tenants.models import Tenant
from tests.support.api import read
from tests.support.factories.hooks import deliver
from tests.support.factories.rows import a_test, make_principal, make_run, make_tenant, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.ports import source_of
from tests.support.processes.running import cancel, ended, executing, nodes, parked, send
from tests.support.servers.scripted import Answer, Asked, Scripted, scripted
from triggers.services.events.advance import advance_due

pytestmark = pytest.mark.database


@pytest.fixture
def service(settings) -> Iterator[Scripted]:
    settings.PYFLOW_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with scripted() as service:
        yield service


def start(tenant: Tenant, service: Scripted, port: str, **input: object) -> Run:
    """A run of a port, with the service as its ``api``."""
    return make_run(tenant, source_of(port, service.url), {"api": service.url, **input})


def make_due(run: Run) -> None:
    """Let the time pass for which a run waits."""
    past = timezone.now() - timedelta(seconds=1)
    for rows in (
        Run.objects.for_tenant(run.tenant_id).filter(pk=run.pk),
        NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, wake_at__isnull=False),
    ):
        rows.update(wake_at=past)


def test_a_job_is_asked_for_again_by_whoever_is_there(tenant, service, drain):
    service.answers |= {"POST /jobs": {"id": "j"}, "GET /jobs/j": {"status": "RUNNING"}}
    run = start(tenant, service, "stepfunctions-job-poller", command="sort")
    for _ in range(2):
        drain()  # each time another executor
        run.refresh_from_db()
        assert (run.state, nodes(run)["poll"]) == ("waiting", "waiting")
        make_due(run)
    service.answers["GET /jobs/j"] = {"status": "SUCCEEDED", "result": 42}
    drain()
    assert ended(run, "succeeded").outputs == {"job": "j", "result": 42}
    assert service.lines == ["POST /jobs"] + ["GET /jobs/j"] * 3


def test_only_a_reviewer_lets_a_deployment_through(tenant, service, executor):
    def deploy(asked: Asked) -> dict[str, str]:
        return {"url": f"{service.url}/{asked.body['to']}"}

    service.answers |= {"POST /deployments": deploy, "GET /staging/health": "ok", "POST /statuses/c0ffee": {}}
    run = parked(start(tenant, service, "github-deploy-approval", sha="c0ffee"))
    [waits] = pending_approvals(tenant.pk)[0]
    assert waits.wait["details"]["message"] == f"Deploy c0ffee to production? Staging: {service.url}/staging"
    signal_run(
        by=a_test(tenant), sender=make_principal(tenant, Role.ADMIN), run_id=run.pk, name="approval:review",
        payload={"approved": True}, signal_id=None,
    )  # fmt: skip
    assert ended(run, "succeeded").outputs["production"] == f"{service.url}/production"
    assert [body["to"] for body in service.bodies("POST /deployments")] == ["staging", "production"]


def test_a_newer_deployment_replaces_the_one_that_waits(tenant, service, executor):
    service.answers |= {"POST /deployments": {"url": service.url}, "GET /health": "ok"}
    service.answers |= {"POST /statuses/old": {}, "POST /statuses/new": {}}
    old = parked(start(tenant, service, "github-deploy-approval", sha="old"))
    other = parked(start(make_tenant(), service, "github-deploy-approval", sha="old"))
    new = parked(start(tenant, service, "github-deploy-approval", sha="new"))
    ended(old, "cancelled")
    assert service.bodies("POST /statuses/old") == [{"state": "cancelled"}]
    assert parked(other).state == "waiting"
    cancel(new)
    ended(new, "cancelled")


def test_a_form_comes_by_webhook_and_is_answered(tenant, service):
    make_secret(tenant, "FORM_TOKEN", "a-token-of-the-web-page")
    make_secret(tenant, "CHAT", f"{service.url}/chat")
    make_workflow(tenant, source_of("n8n-contact-form", service.url))
    service.answers |= {"POST /spam-score": {"score": 0.1}, "POST /leads": {}, "POST /chat": "ok"}
    form = {"name": "Ada", "email": "ada@example.com", "text": "hello"}
    token = {"Authorization": "Bearer a-token-of-the-web-page"}
    with executing():
        accepted = deliver(tenant, form, token, path="contact")
        service.answers["POST /spam-score"] = {"score": 0.97}
        spam = deliver(tenant, form, token, path="contact")
        refused = deliver(tenant, form | {"email": "nobody"}, token, path="contact")
        stranger = deliver(tenant, form, path="contact")
    assert [answer.status_code for answer in (accepted, spam, refused, stranger)] == [200, 202, 422, 404]
    assert read(accepted) == {"state": "succeeded"}
    assert service.bodies("POST /leads") == [form]
    assert Run.objects.for_tenant(tenant).count() == 2


def test_one_flow_starts_the_other(tenant, service, drain):
    make_secret(tenant, "CHAT", f"{service.url}/chat")
    make_workflow(tenant, source_of("kestra-flow-trigger", service.url))
    orders = [{"id": "1", "country": "DE", "amount": 12.5}, {"id": "2", "country": "FR", "amount": 3}]
    service.answers |= {
        "GET /orders/2026-11-30.json": Answer(200, orders),
        "GET /orders/2026-12-01.json": Answer(200, []),
    }
    service.answers["POST /chat"] = "ok"
    for day in ("2026-11-30", "2026-12-01"):
        start(tenant, service, "kestra-sqlite-report", day=day)
        start(make_tenant(), service, "kestra-sqlite-report", day=day)
    drain()
    for _ in range(2):
        advance_due()
    drain()
    [run] = Run.objects.for_tenant(tenant).filter(trigger="event")
    ended(run, "succeeded")
    assert run.input["report"] == "reports/2026-11-30.csv"
    assert service.bodies("POST /chat") == [{"text": "DE: 12.5 from 1 orders"}]
    items = NodeItem.objects.for_tenant(tenant).filter(run=run).order_by("key")
    assert list(items.values_list("key", "state")) == [("DE", "succeeded"), ("FR", "skipped")]


def test_whoever_has_the_id_of_the_run_calls_back(tenant, service, executor):
    service.answers |= {"POST /inspections": {}, "POST /refusals": {}}
    run = parked(start(tenant, service, "stepfunctions-callback", parcel="P-1"))
    [asked] = service.bodies("POST /inspections")
    assert asked["report_to"] == {"run": str(run.pk), "signal": "inspected"}
    send(run, "inspected", {"verdict": "damaged", "note": "wet"})
    assert ended(run, "succeeded").outputs == {"verdict": "damaged"}
    assert service.bodies("POST /refusals") == [{"parcel": "P-1", "why": "wet"}]


def test_each_traveller_has_a_run_that_books_or_undoes(tenant, service, executor):
    def fly(asked: Asked) -> object:
        return (
            Answer(409, {"error": "sold out"}) if asked.body["for"] == "Bob" else {"id": f"flight-{asked.body['for']}"}
        )

    service.answers |= {
        "POST /cars": {"id": "c"},
        "POST /hotels": {"id": "h"},
        "POST /flights": fly,
        "POST /messages": {},
    }
    service.answers |= {"DELETE /cars/c": {}, "DELETE /hotels/h": {}}
    make_workflow(tenant, source_of("temporal-trip-saga", service.url))
    run = start(tenant, service, "temporal-child-workflows", travellers=["Ada", "Bob"])
    outputs = ended(run, "succeeded").outputs
    assert outputs == {"booked": {"Ada": "flight-Ada"}, "failed": ["Bob"]}
    assert [line for line in service.lines if line.startswith("DELETE")] == ["DELETE /hotels/h", "DELETE /cars/c"]
    children = Run.objects.for_tenant(tenant).filter(parent=run)
    assert sorted(children.values_list("state", flat=True)) == ["failed", "succeeded"]
