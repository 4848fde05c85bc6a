"""A tenant with at least one of everything, the tenant's mark in each of its texts, and how it is called."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models
from django.http import HttpResponse
from django.utils import timezone

from events.models import DeliveryAttempt
from events.tickets import issue
from events.webhooks.endpoints import create_endpoint, find_endpoint, try_endpoint
from pyflow.core.events import rfc3339
from pyflow.core.ids import new_uuid
from runs.models import LogState, NodeItem, NodeRun, NodeTask, Run, RunLog, RunSignal, Slot
from runs.services.pause import pause_run
from runs.services.start import Start, start_run
from runs.services.terminate import terminate_run
from secrets_vault.models import Secret, SecretVersion
from secrets_vault.services import create_secret, find_secret, replace_secret
from tenants import audit, tokens
from tenants.access import Actor, Level, Role
from tenants.grants import share
from tenants.models import IdempotentAnswer, Membership, RefreshToken, Tenant, UsageCounter
from tenants.scoping import TenantOwned
from tests.support.api import Api
from tests.support.factories.calls import CALLS, Call
from tests.support.factories.records import record
from tests.support.factories.rows import (
    a_test,
    make_api_key,
    make_draft,
    make_invitation,
    make_member,
    make_principal,
    make_tenant,
    make_workflow,
)
from tests.support.operations import Operation
from triggers.models import EventTrigger, Expectation, HookDelivery, InboundHook, TriggerFailure
from triggers.models.schedules import Schedule, ScheduleFire
from workflows.models import Version
from workflows.services import archive_workflow, find_workflow

OWNED: list[type[TenantOwned]] = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
UUIDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Texts that mean something to the code: no place for a mark.
NOT_FREE = {
    "ApiKey.key_id", "ApiKey.last4", "ApiKey.scopes", "ApiKey.secret_hash",
    "AuditEntry.action", "AuditEntry.actor_kind", "AuditEntry.hash", "AuditEntry.previous", "AuditHead.hash",
    "Delivery.event_type", "Delivery.last_error", "DeliveryAttempt.error", "WebhookEndpoint.disabled_reason",
    "DataKey.made_under", "DataKey.master_key",
    "IdempotentAnswer.fingerprint", "Invitation.token_hash", "RefreshToken.token_hash",
    "NodeItem.output_ref", "NodeRun.output_ref", "Run.input_ref", "Run.outputs_ref",
    "StreamTicket.principal_id", "StreamTicket.principal_kind", "StreamTicket.token_hash",
    "Run.compensation", "Run.on_parent_cancel", "EventRecord.type", "Slot.lane",
    "UsageCounter.period", "Version.checksum",
    "HookDelivery.method", "Schedule.zone_rules", "ScheduleFire.reason", "ScheduleFire.run_state",
}  # fmt: skip

SOURCE = """\
# {mark}
version: 2
name: {name}
description: about {mark} {edition}
labels: {{team: {mark}}}
inputs: {{who: string}}
outputs: {{greeting: "{{{{ {mark} }}}}"}}
triggers:
  - {{id: {mark}, type: schedule, config: {{cron: "0 2 1 1 *", input: {{who: {mark}}}}}}}
nodes:
  - id: {mark}
    type: transform
    config: {{input: "{mark} {{{{ input.who }}}}", expression: "$"}}
  - {{id: "{mark}_go", type: signal, depends_on: [{mark}], config: {{name: {mark}, timeout: 1d}}}}
"""


@dataclass
class FullTenant:
    """A tenant with an owner's client. ``names`` are what its paths and bodies can name: workflows, ids, numbers."""

    mark: str
    tenant: Tenant
    key: str
    names: dict[str, str] = field(default_factory=dict)
    grown: int = 1

    @property
    def api(self) -> Api:
        """An owner's."""
        return Api(self.key)

    @property
    def narrow(self) -> str:
        """The text of a key that may do nothing."""
        return make_api_key(self.tenant, scopes=[])[1]

    def query(self, operation: Operation, more: str = "") -> str:
        """The query of a valid request, and more of it."""
        query = CALLS.get(operation.id, Call()).query
        return query + (f"{'&' if query else '?'}{more}" if more else "")

    def call(
        self, operation: Operation, api: Api | None = None, *, accept: str = "", more: str = "", **names: str
    ) -> HttpResponse:
        """A valid request, as the table of calls has it; with another client, more in its query, or other names."""
        call, api = CALLS.get(operation.id, Call()), self.api if api is None else api
        headers = {"if_match": "*"} if "If-Match" in {item["name"] for item in operation.parameters("header")} else {}
        if accept:
            headers["accept"] = accept
        known = self.names | names
        address = self.path(operation, **names) + self.query(operation, more)
        return api.send(operation.method, address, filled(call.body, known), **headers)

    def path(self, operation: Operation, **names: str) -> str:
        """The path of a valid request."""
        chosen = {name: self.names[source] for name, source in CALLS.get(operation.id, Call()).names.items()}
        usual = {item["name"]: self.usual(operation, item["name"]) for item in operation.parameters("path")}
        return operation.path.format(**usual | chosen | names)

    def usual(self, operation: Operation, parameter: str) -> str:
        """What a parameter of a path names unless a call says otherwise."""
        qualified = f"{operation.collection}.{parameter}"
        value = self.names.get(qualified, self.names.get(parameter))
        assert value is not None, (
            f"{operation.id}: a world has no {qualified}; make one in tests/support/factories/worlds.py"
        )
        return value


def filled(body: Any, names: dict[str, str]) -> Any:
    """A body with ``{name}`` in its texts replaced."""
    if isinstance(body, dict):
        return {key: filled(value, names) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(value, names) for value in body]
    return re.sub(r"\{([a-z._]+)\}", lambda found: names[found[1]], body) if isinstance(body, str) else body


def make_world(mark: str) -> FullTenant:
    """A tenant with one of everything; ``mark`` is letters and digits that begin with a letter."""
    tenant = make_tenant(f"{mark}-tenant")
    world = FullTenant(mark, tenant, make_api_key(tenant, name=f"{mark} owner", known_as=f"{mark} owner")[1])
    world.names |= {"mark": mark, "type": "transform"}
    _make_people(world)
    _make_workflows(world)
    _make_runs(world)
    _make_schedules(world)
    _make_hooks(world)
    _make_event_triggers(world)
    _make_secrets(world)
    _make_webhooks(world)
    _make_traces(world)
    _mark_the_rest(world)
    return world


def token_of(member: Membership) -> str:
    """An access token of a new session of a member."""
    family = new_uuid()
    later = timezone.now() + timedelta(days=1)
    RefreshToken.objects.create(
        tenant=member.tenant, user=member.user, family=family, token_hash=family.hex, expires_at=later
    )
    return tokens.issue(user_id=member.user.pk, tenant_id=member.tenant.pk, family=family)


def source(world: FullTenant, name: str, edition: int = 1) -> str:
    """A workflow of a world."""
    return SOURCE.format(mark=world.mark, name=name, edition=edition)


def _make_people(world: FullTenant) -> None:
    mark, tenant = world.mark, world.tenant
    make_member(tenant, Role.OWNER, name=f"{mark}-owner")
    member = make_member(tenant, name=f"{mark}-member")
    world.names |= {
        "member_id": str(member.pk),
        "invitation_id": str(make_invitation(tenant, f"{mark}-guest@example.org")[0].pk),
        "key_id": str(make_api_key(tenant, name=f"{mark} key", created_by=member.user)[0].pk),
        "grant_id": f"member:{member.pk}",
    }


def _make_workflows(world: FullTenant) -> None:
    """``main`` has version 1, the current version 2, and the draft 3; the others have one version."""
    mark, tenant = world.mark, world.tenant
    for name, edition in (("main", 1), ("main", 2), ("idle", 1), ("old", 1)):
        make_workflow(tenant, source(world, f"{mark}-{name}", edition))
        world.names[name] = f"{mark}-{name}"
    make_draft(tenant, source(world, f"{mark}-main", 3), name=f"{mark}-main")
    archive_workflow(by=a_test(tenant), name=f"{mark}-old", archived=True)
    workflow = find_workflow(tenant_id=tenant.pk, name=f"{mark}-main")
    share(
        by=a_test(tenant),
        principal=None,
        obj=workflow,
        target=f"workflow:{workflow.name}",
        level=Level.READ,
        kind="member",
        grantee=world.names["member_id"],
    )
    world.names |= {"workflows.name": f"{mark}-main", "workflows.number": "2", "first": "1", "draft": "3"}


def start(world: FullTenant, key: str | None = None) -> Run:
    """A run of ``main``, queued."""
    begin = Start(input={"who": world.mark}, labels={"customer": world.mark}, key=key)
    return start_run(by=a_test(world.tenant), workflow_name=world.names["main"], start=begin).run


def _make_runs(world: FullTenant) -> None:
    """``run_id`` has succeeded, ``queued`` has not begun, ``paused`` is, and ``stopped`` was terminated."""
    mark, tenant = world.mark, world.tenant
    run = start(world, key=mark)
    Run.objects.for_tenant(tenant).filter(pk=run.pk).update(lineage=[mark])
    record(run, output=f"Hello {mark}", outputs={"greeting": mark}, node_id=mark)
    make_items(world, run, range(1))
    make_lines(world, run, range(1))
    NodeTask.objects.create(tenant=tenant, run=run, run_epoch=1, node_id=mark, places=[[1, mark, 0]], outcomes=[mark])
    Slot.objects.create(tenant=tenant, run=run, run_epoch=1, node_id=mark, key=mark, lane="0" * 64, limit=1, held=False)
    RunSignal.objects.create(tenant=tenant, run=run, name=mark, payload={"text": mark}, dedupe_id=mark, sender=[mark])
    world.names |= {"run_id": str(run.pk), "node_id": mark, "index": "0", "queued": str(start(world).pk)}
    make_approvals(world, range(1))
    for name, verb in (("paused", pause_run), ("stopped", terminate_run)):
        world.names[name] = str(verb(by=a_test(tenant), run_id=start(world).pk).pk)


def make_items(world: FullTenant, run: Run, indices: range) -> None:
    """Items of the node of a run."""
    NodeItem.objects.bulk_create(
        NodeItem(
            tenant=world.tenant, run=run, node_id=world.mark, index=index, key=f"{world.mark} {index}",
            state="succeeded", attempts=1, output={"text": world.mark}, at=timezone.now(),
        )
        for index in indices
    )  # fmt: skip


def make_approvals(world: FullTenant, numbers: range) -> None:
    """Approvals that wait for a decision, of the queued run."""
    mark = world.mark
    details = {"kind": "approval", "assignees": [mark], "message": mark, "form": None, "on_timeout": "fail"}
    progress = {"fraction": 0.5, "message": mark, "at": rfc3339(0), "item": {"index": 0, "key": mark}}
    NodeRun.objects.bulk_create(
        NodeRun(
            tenant=world.tenant, run_id=world.names["queued"], node_id=f"{mark}_ask_{number}", state="waiting",
            wait={"until": None, "signal": f"approval:{mark}_ask_{number}", "details": details}, progress=progress,
        )
        for number in numbers
    )  # fmt: skip


def make_lines(world: FullTenant, run: Run, indices: range) -> None:
    """Lines in the log of a run."""
    RunLog.objects.bulk_create(
        RunLog(
            tenant=world.tenant, run=run, seq=index + 1, node_id=world.mark, attempt=1, level=20,
            at=timezone.now(), message=f"{world.mark} {index}",
        )
        for index in indices
    )  # fmt: skip


def _make_schedules(world: FullTenant) -> None:
    """The schedule of ``main``, which fired once; that of ``idle`` is the one that may be changed."""
    schedules = Schedule.objects.for_tenant(world.tenant)
    for name in ("main", "idle"):
        schedule = schedules.get(workflow__name=world.names[name])
        world.names["schedule_id" if name == "main" else f"{name}_schedule"] = str(schedule.pk)
    make_fires(world, range(1))


def make_fires(world: FullTenant, days: range) -> None:
    """Slots of the schedule of ``main`` that have passed."""
    now = timezone.now()
    ScheduleFire.objects.bulk_create(
        ScheduleFire(
            tenant=world.tenant, schedule_id=world.names["schedule_id"], scheduled_for=now - timedelta(days=day + 1),
            cause="schedule", state="ended", message=world.mark, run_id=world.names["run_id"], run_state="succeeded",
            fired_at=now,
        )
        for day in days
    )  # fmt: skip


def _make_hooks(world: FullTenant) -> None:
    """``hook_id`` has one delivery."""
    make_hooks(world, range(1))
    world.names["hook_id"] = str(InboundHook.objects.for_tenant(world.tenant).get().pk)
    make_hook_deliveries(world, range(1))


def make_hooks(world: FullTenant, numbers: range) -> None:
    """Inbound webhooks of ``idle``."""
    mark, tenant = world.mark, world.tenant
    workflow = find_workflow(tenant_id=tenant.pk, name=world.names["idle"])
    for number in numbers:
        path = f"{mark}/{number:04}"
        InboundHook.objects.create(
            tenant=tenant, workflow=workflow, trigger=f"{mark}_{number}", version=1, path=path,
            address=f"{tenant.slug}/{path}", config={"path": path, "verify": {"scheme": "none"}, "input": {"a": mark}},
        )  # fmt: skip


def make_hook_deliveries(world: FullTenant, numbers: range) -> None:
    """Deliveries of ``hook_id``."""
    mark = world.mark
    HookDelivery.objects.bulk_create(
        HookDelivery(
            tenant=world.tenant, hook_id=world.names["hook_id"], delivery_id=f"{mark} {number}", outcome="failed",
            error={"code": mark, "message": mark}, method="POST", content_type=f"text/{mark}", size=3, excerpt=mark,
        )
        for number in numbers
    )  # fmt: skip


def _make_event_triggers(world: FullTenant) -> None:
    """``trigger_id`` starts ``main``, and has the failure ``failure_id`` and an expectation."""
    make_event_triggers(world, range(1))
    row = EventTrigger.objects.for_tenant(world.tenant).get()
    world.names["trigger_id"] = str(row.pk)
    make_failures(world, range(1))
    world.names["failure_id"] = str(TriggerFailure.objects.for_tenant(world.tenant).get().pk)
    now = timezone.now()
    Expectation.objects.create(
        tenant=world.tenant, trigger=row, key=world.mark, armed_by={"id": world.mark}, armed_at=now, due_at=now
    )


def make_event_triggers(world: FullTenant, numbers: range) -> None:
    """Event triggers of ``main``."""
    mark, tenant = world.mark, world.tenant
    workflow = find_workflow(tenant_id=tenant.pk, name=world.names["main"])
    config = {"on": [f"{mark}.happened"], "workflow": [mark], "input": {"who": mark}}
    EventTrigger.objects.bulk_create(
        EventTrigger(
            tenant=tenant, workflow=workflow, trigger=f"{mark}_{number}", version=2, config=config, position=0, seq=0,
            event_id=new_uuid(),
        )
        for number in numbers
    )  # fmt: skip


def make_failures(world: FullTenant, numbers: range) -> None:
    """Failures of ``trigger_id``."""
    mark = world.mark
    TriggerFailure.objects.bulk_create(
        TriggerFailure(
            tenant=world.tenant, trigger_id=world.names["trigger_id"], slot=f"event:{mark}{number}",
            facts={"event": {"type": f"{mark}.happened", "data": {"text": mark}}},
            error={"code": mark, "message": mark}, state="dead",
        )
        for number in numbers
    )  # fmt: skip


def _make_secrets(world: FullTenant) -> None:
    """``secrets.name`` has a former value, version 1, and a current one."""
    name, by = f"{world.mark.upper()}_SECRET", a_test(world.tenant)
    create_secret(name=name, value=f"{world.mark} one", description=f"about {world.mark}", by=by)
    secret = find_secret(tenant_id=world.tenant.pk, name=name)
    replace_secret(secret=secret, value=f"{world.mark} two", by=by)
    world.names |= {"secrets.name": name, "secrets.number": "1"}


def _make_webhooks(world: FullTenant) -> None:
    """An endpoint, and a delivery to it with an attempt."""
    mark, by = world.mark, a_test(world.tenant)
    endpoint, _ = create_endpoint(
        by=by, url=f"https://{mark}.example/", description=mark, types=[mark], workflows=[mark], labels={"team": mark}
    )
    world.names |= {"webhook_id": str(endpoint.pk)}
    make_sent(world, 1)


def make_sent(world: FullTenant, count: int) -> None:
    """Test events for the endpoint, each with an attempt that failed."""
    endpoint = find_endpoint(tenant_id=world.tenant.pk, webhook_id=UUID(world.names["webhook_id"]))
    for _ in range(count):
        delivery = try_endpoint(by=a_test(world.tenant), endpoint=endpoint)
        world.names.setdefault("delivery_id", str(delivery.pk))
        DeliveryAttempt.objects.create(
            tenant=world.tenant, delivery=delivery, number=1, at=timezone.now(), duration_ms=1, status=500,
            error="status", excerpt=world.mark,
        )  # fmt: skip


def grow(world: FullTenant, count: int) -> None:
    """So many more rows of every list; of the others only the secret changes, whose version is its newest."""
    mark, tenant, by = world.mark, world.tenant, a_test(world.tenant)
    for number in range(world.grown, world.grown + count):
        make_workflow(tenant, source(world, f"{mark}-{number:04}"))
        make_member(tenant, name=f"{mark}-{number}")
        make_invitation(tenant, f"{mark}-guest{number}@example.org")
        make_api_key(tenant, name=f"{mark} {number}")
        create_secret(name=f"{mark.upper()}_{number:04}", value=f"{mark} value", by=by)
        create_endpoint(by=by, url=f"https://{mark}-{number}.example/")
        start(world)
    make_sent(world, count)
    run = Run.objects.for_tenant(tenant).get(pk=world.names["run_id"])
    numbers = range(world.grown, world.grown + count)
    make_items(world, run, numbers)
    make_lines(world, run, numbers)
    make_approvals(world, numbers)
    make_fires(world, numbers)
    make_hooks(world, numbers)
    make_hook_deliveries(world, numbers)
    make_event_triggers(world, numbers)
    make_failures(world, numbers)
    NodeRun.objects.bulk_create(
        NodeRun(tenant=tenant, run=run, node_id=f"{mark}_{number}", state="skipped") for number in numbers
    )
    secret = world.names["secrets.name"]
    _add_versions(Version.objects.for_tenant(tenant).filter(workflow__name=world.names["main"]), count)
    _add_versions(SecretVersion.objects.for_tenant(tenant).filter(secret__name=secret), count)
    Secret.objects.for_tenant(tenant).filter(name=secret).update(version=models.F("version") + count)
    world.grown += count


def _add_versions(versions: models.QuerySet[Any], count: int) -> None:
    newest = versions.order_by("-number")[0]
    versions.bulk_create(_copy(newest, number) for number in range(newest.number + 1, newest.number + 1 + count))


def _copy(row: Any, number: int) -> Any:
    copied = type(row)(**{item.attname: getattr(row, item.attname) for item in row._meta.concrete_fields})
    copied.pk, copied.number = new_uuid(), number
    return copied


def _make_traces(world: FullTenant) -> None:
    """What requests leave behind."""
    mark, tenant = world.mark, world.tenant
    IdempotentAnswer.objects.create(
        tenant=tenant, principal=mark, route=mark, key=mark, fingerprint="0" * 64, status=200, body=mark
    )
    UsageCounter.objects.create(tenant=tenant, name=mark, period="day", count=1)
    LogState.objects.create(tenant=tenant)
    actor = Actor.system(tenant.pk, mark)
    audit.record(by=actor, action="test.marked", target=f"test:{mark}", before={"text": mark}, after={"text": mark})


def _mark_the_rest(world: FullTenant) -> None:
    """Every text that is still empty or the code's own choice."""
    issue(make_principal(world.tenant), run_id=None)
    for model, name in unmarked(world):
        # Of any of the shapes that the API shows: an error's, who started a run, and which attempt called it.
        value: dict[str, Any] = dict.fromkeys(
            ("code", "message", "type", "node_id", "kind", "id", "name", "request_id", "item"), world.mark
        )
        value |= {"attempt": 1, "retry": 0}
        is_json = isinstance(model._meta.get_field(name), models.JSONField)
        rows = model.objects.for_tenant(world.tenant)
        if any(name in constraint.fields for constraint in model._meta.constraints if hasattr(constraint, "fields")):
            rows = rows.filter(pk=rows.values("pk")[:1])  # one of each value
        rows.update(**{name: value if is_json else world.mark})


def unmarked(world: FullTenant) -> list[tuple[type[TenantOwned], str]]:
    """The free texts of a tenant's rows in which no row has the mark."""
    return [(model, name) for model in OWNED for name in _free_texts(model) if not _is_marked(world, model, name)]


def _free_texts(model: type[TenantOwned]) -> list[str]:
    texts = [
        item
        for item in model._meta.concrete_fields
        if isinstance(item, models.CharField | models.TextField | models.JSONField)
    ]
    return [item.name for item in texts if not item.choices and f"{model.__name__}.{item.name}" not in NOT_FREE]


def _is_marked(world: FullTenant, model: type[TenantOwned], name: str) -> bool:
    values = model.objects.for_tenant(world.tenant).values_list(name, flat=True)
    return any(world.mark in str(value).lower() for value in values)
