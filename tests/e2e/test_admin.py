"""The admin: every page of every model, for somebody who may do everything."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from runs.models import EventRecord, NodeItem, NodeRun, Run, RunSignal
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Tenant
from tests.support.api import Api
from tests.support.factories.records import record
from tests.support.factories.rows import (
    HELLO,
    make_api_key,
    make_invitation,
    make_member,
    make_run,
    make_superuser,
    make_tenant,
)
from tests.support.invariants import made_of_rows
from triggers.models import EventTrigger, HookDelivery, InboundHook, TriggerFailure
from triggers.models.schedules import Schedule, ScheduleFire
from workflows.models import Version, Workflow

pytestmark = [pytest.mark.api, pytest.mark.e2e, made_of_rows]
TRIGGERS = (Schedule, ScheduleFire, InboundHook, HookDelivery, EventTrigger, TriggerFailure)
READ_ONLY = (AuditEntry, Workflow, Version, Run, NodeRun, EventRecord, NodeItem, RunSignal, *TRIGGERS)
OURS = (Tenant, Membership, Invitation, ApiKey, *READ_ONLY)
SEARCHES = {
    Tenant: "acme",
    Membership: "ada",
    Invitation: "guest",
    ApiKey: "laptop",
    AuditEntry: "invitation.created",
    NodeRun: "greet",
    EventRecord: "greet",
    Workflow: "hello",
    Version: "hello",
    Run: "hello",
    NodeItem: "sku-1",
    RunSignal: "paid",
    Schedule: "every-hour",
    ScheduleFire: "every-hour",
    InboundHook: "orders",
    HookDelivery: "d-1",
    EventTrigger: "on-order",
    TriggerFailure: "event:1",
}

#: Of a run's events, two are the node's.
SEVERAL = {EventRecord: 2}


def address(model: type[Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


@pytest.fixture
def key(db) -> tuple[ApiKey, str]:
    """A key of a tenant that has one finished run, too, with an item and a signal."""
    tenant = make_tenant("acme")
    run = make_run(tenant, HELLO.replace("Greets", "<script>alert(1)</script>"))
    record(run, output="<script>alert(2)</script>")
    output = {"html": "<script>alert(3)</script>"}
    NodeItem.objects.create(
        tenant=tenant,
        run=run,
        node_id="each",
        index=0,
        key="sku-1",
        state="succeeded",
        output=output,
        at=run.created_at,
    )
    RunSignal.objects.create(tenant=tenant, run=run, name="paid", payload=output, dedupe_id="1")
    schedule = Schedule.objects.create(
        tenant=tenant, workflow=run.workflow, trigger_id="every-hour", version_number=1, config={"cron": "0 * * * *"},
        anchor=run.created_at,
    )  # fmt: skip
    ScheduleFire.objects.create(
        tenant=tenant, schedule=schedule, scheduled_for=run.created_at, cause="schedule", state="skipped",
        reason="overlap", message="<script>alert(4)</script>", fired_at=run.created_at,
    )  # fmt: skip
    hook = InboundHook.objects.create(
        tenant=tenant, workflow=run.workflow, trigger="in", version=1, path="orders", address="acme/orders",
        config={"path": "orders", "verify": {"scheme": "none"}, "input": {"a": "<script>alert(5)</script>"}},
    )  # fmt: skip
    HookDelivery.objects.create(
        tenant=tenant, hook=hook, delivery_id="d-1", outcome="accepted", method="POST", size=1,
        excerpt="<script>alert(6)</script>",
    )  # fmt: skip
    trigger = EventTrigger.objects.create(
        tenant=tenant, workflow=run.workflow, trigger="on-order", version=1, config={"on": ["order.paid"]},
        position=0, seq=0, event_id=run.pk,
    )  # fmt: skip
    TriggerFailure.objects.create(
        tenant=tenant, trigger=trigger, slot="event:1", facts=output, error={"code": "x", "message": "y"}
    )
    make_member(tenant, name="ada")
    make_invitation(tenant, "guest@example.org")
    return make_api_key(tenant, "laptop")


def one(model: type[Model]) -> Model:
    row = model._default_manager.first()
    assert row is not None
    return row


def test_every_model_of_ours_has_a_page():
    assert {
        model
        for model in admin.site._registry
        if model.__module__.split(".")[0] in {"tenants", "workflows", "runs", "triggers"}
    } == {*OURS}


def test_the_start_page_renders(root: Client):
    assert root.get(reverse("admin:index")).status_code == 200


def test_nobody_gets_in_without_logging_in(db):
    response = Client().get(reverse("admin:index"))
    assert (response.status_code, response.headers["Location"].split("?")[0]) == (302, reverse("admin:login"))


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_its_list_renders(root: Client, key, model: type[Model]):
    html = root.get(address(model, "changelist")).content.decode()
    assert str(one(model).pk) in html
    assert "1 " in html


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_it_is_found_by_searching(root: Client, key, model: type[Model]):
    found = root.get(address(model, "changelist"), {"q": SEARCHES[model]})
    missed = root.get(address(model, "changelist"), {"q": "nothing-like-it"})
    assert (found.context["cl"].result_count, missed.context["cl"].result_count) == (SEVERAL.get(model, 1), 0)


@pytest.mark.vendor("each vendor searches text in its own way")
def test_a_search_that_is_no_id_is_no_error(root: Client, key):
    for text in ("0", "%", "'", "\0", "zzzz-"):
        assert root.get(address(Run, "changelist"), {"q": text}).status_code == 200


@pytest.mark.parametrize("model", OURS[1:], ids=lambda model: model.__name__)
def test_it_is_filtered_by_tenant(root: Client, key, model: type[Model]):
    for tenant, found in ((key[0].tenant, True), (make_tenant(), False)):
        response = root.get(address(model, "changelist"), {"tenant__id__exact": str(tenant.pk)})
        assert (response.context["cl"].result_count > 0) == found


@pytest.mark.vendor("each vendor refuses other values; it is the smoke of every list and form")
def test_nonsense_in_an_address_is_no_error_of_the_server(root: Client, key):
    """In a form every field at once; in a list one by one, because the first wrong one decides."""
    root.raise_request_exception = False
    asked: list[tuple[str, dict[str, str]]] = []
    for model in admin.site._registry:
        fields = model._meta.get_fields()
        form = [address(model, "add")]
        if (row := model._default_manager.first()) is not None:
            form.append(address(model, "change", row.pk))
        for nonsense in ("zz", "9" * 30, "\0"):
            given = dict.fromkeys(
                [field.name for field in fields] + ["live", "_popup", "_changelist_filters"], nonsense
            )
            asked += [(path, given) for path in form]
        listed = address(model, "changelist")
        filters = ("tenant__id__exact", "archived", "suspended", "pending", "actor_kind", "q", "p", "o")
        asked += [(listed, {name: "zz"}) for name in (*(field.name for field in fields), *filters)]
        asked += [(listed, {field.name: "9" * 30}) for field in fields if field.is_relation or "Integer" in str(field)]
        asked += [(listed, {name: "\0"}) for name in ("tenant__id__exact", "q")]
    assert [(path, given) for path, given in asked if root.get(path, given).status_code >= 500] == []


def test_a_good_value_in_an_address_fills_the_form(root: Client, key):
    response = root.get(address(ApiKey, "add"), {"tenant": str(key[0].tenant.pk), "name": "ci"})
    assert response.context["adminform"].form.initial == {"tenant": str(key[0].tenant.pk), "name": "ci"}


def test_runs_are_listed_newest_first_whatever_their_ids(root: Client, key):
    tenant = key[0].tenant
    child = make_run(tenant, HELLO.replace("name: hello", "name: child"))
    late = Run.objects.across_tenants().exclude(pk=child.pk).get()
    Run.objects.across_tenants().filter(pk=late.pk).update(created_at=child.created_at + timedelta(seconds=1))
    assert late.pk < child.pk  # as if it were a child whose id follows from its parent's
    listed = root.get(address(Run, "changelist")).context["cl"].result_list
    assert [run.pk for run in listed] == [late.pk, child.pk]


def test_runs_are_filtered_by_state(root: Client, key):
    for state, count in (("succeeded", 1), ("failed", 0)):
        assert root.get(address(Run, "changelist"), {"state__exact": state}).context["cl"].result_count == count


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_its_detail_renders(root: Client, key, model: type[Model]):
    response = root.get(address(model, "change", one(model).pk))
    assert response.status_code == 200
    assert "<script>alert(" not in response.content.decode()


def test_a_run_shows_its_nodes_and_events(root: Client, key):
    html = root.get(address(Run, "change", one(Run).pk)).content.decode()
    assert "&lt;script&gt;alert(2)" in html
    for event in EventRecord.objects.across_tenants().filter(run__isnull=False):
        assert event.type in html


def test_a_failed_run_shows_its_errors(root: Client, key):
    error = {"code": "node_error", "message": "no <b>price</b>", "type": "ValueError", "node_id": "greet"}
    Run.objects.across_tenants().update(state="failed", error=error)
    NodeRun.objects.across_tenants().update(state="failed", error=error)
    html = root.get(address(Run, "change", one(Run).pk)).content.decode()
    assert html.count("no &lt;b&gt;price&lt;/b&gt;") == 4
    assert "<b>price" not in html


@pytest.mark.parametrize("page", ["changelist", "change"])
def test_no_hash_and_no_key_is_shown(root: Client, key, page: str):
    row, text = key
    html = root.get(address(ApiKey, page, *([row.pk] if page == "change" else []))).content.decode()
    assert row.key_id in html
    assert row.secret_hash not in html
    assert text not in html
    assert "$2b$" not in html


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_it_cannot_be_added(root: Client, key, model: type[Model]):
    before = model._default_manager.count()
    assert root.get(address(model, "add")).status_code == 403
    assert root.post(address(model, "add"), {"name": "x"}).status_code == 403
    assert model._default_manager.count() == before


@pytest.mark.parametrize("model", [Invitation, ApiKey, *READ_ONLY], ids=lambda model: model.__name__)
def test_it_cannot_be_changed(root: Client, key, model: type[Model]):
    before = list(model._default_manager.values())
    assert root.post(address(model, "change", one(model).pk), {"name": "x", "state": "failed"}).status_code == 403
    assert list(model._default_manager.values()) == before


@pytest.mark.parametrize("model", [Tenant, Invitation, ApiKey, *READ_ONLY], ids=lambda model: model.__name__)
def test_it_cannot_be_deleted(root: Client, key, model: type[Model]):
    before = model._default_manager.count()
    assert root.post(address(model, "delete", one(model).pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [str(one(model).pk)], "post": "yes"}
    root.post(address(model, "changelist"), selected)
    assert model._default_manager.count() == before


def test_keys_are_revoked_by_an_action(root: Client, key):
    row, text = key
    other, _ = make_api_key(row.tenant, "kept")
    response = root.post(
        address(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [str(row.pk)]}, follow=True
    )
    assert "1 revoked" in response.content.decode()
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.usable, other.usable) == (False, True)
    assert Api(text).get("/api/v1/workflows").status_code == 401
    assert AuditEntry.objects.for_tenant(row.tenant).filter(action="api_key.revoked").count() == 1


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_a_list_costs_no_query_per_row(root: Client, key, model: type[Model], django_assert_max_num_queries):
    tenant = key[0].tenant
    for number in range(5):
        other = make_tenant()
        make_api_key(other)
        make_member(other)
        make_invitation(other)
        run = make_run(tenant, HELLO.replace("name: hello", f"name: w{number}"))
        make_run(other)
        NodeItem.objects.create(
            tenant=tenant, run=run, node_id="each", index=0, key="k", state="failed", at=run.created_at
        )
        RunSignal.objects.create(tenant=tenant, run=run, name="paid", dedupe_id="1")
    with django_assert_max_num_queries(10):
        assert root.get(address(model, "changelist")).status_code == 200
