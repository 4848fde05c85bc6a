"""Webhooks and event triggers of versions that were published before there were rows of them."""

from importlib import import_module

import pytest
from django.apps import apps
from django.utils import timezone

from runs.models import Run
from runs.storage.log import append_outside
from tests.support.factories.hooks import SECRET, by_github, deliver, hook, raw, with_triggers
from tests.support.factories.rows import a_test, make_draft, make_tenant, make_workflow
from tests.support.factories.secrets import make_secret
from triggers.models import EventTrigger, Expectation, InboundHook
from triggers.services.events.advance import advance_due
from workflows.services import archive_workflow

pytestmark = pytest.mark.database
MODELS = (InboundHook, EventTrigger, Expectation)
ON_PAID = "{id: on, type: event, config: {on: order.paid}}"
EXPECTING = "{id: late, type: event, config: {on: order.paid, expect: {within: 10m}}}"


def _forget_rows(tenant) -> None:
    for model in MODELS:
        model.objects.for_tenant(tenant).delete()


def _migrate() -> None:
    import_module("triggers.migrations.0004_hooks_and_events_of_published_versions").add_triggers(apps, None)


def _rows(tenant) -> dict[str, list[object]]:
    """All that was derived, but for what is different each time."""
    left_out = {"id", "created_at", "position", "seq", "event_id", "armed_at", "due_at", "trigger_id"}
    return {
        model.__name__: sorted(
            ({name: value for name, value in row.items() if name not in left_out} for row in found), key=str
        )
        for model in MODELS
        if (found := model.objects.for_tenant(tenant).values()) is not None
    }


def test_they_get_the_rows_of_a_publication_once(tenant):
    make_workflow(tenant, with_triggers(hook(), ON_PAID, EXPECTING))
    make_workflow(make_tenant("other"), with_triggers(hook()))
    published = _rows(tenant)
    assert [len(rows) for rows in published.values()] == [1, 2, 1]
    for _ in range(2):
        _migrate()
        assert _rows(tenant) == published
    _forget_rows(tenant)
    for _ in range(2):
        _migrate()
        assert _rows(tenant) == published


def test_they_work(tenant):
    make_secret(tenant, "HOOK", SECRET)
    make_workflow(tenant, with_triggers(hook(), ON_PAID))
    _forget_rows(tenant)
    append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={"of": "before"})
    _migrate()
    append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={"of": "after"})
    while advance_due():
        pass
    body = raw({"a": 1})
    assert deliver(tenant, body, by_github(body)).status_code == 202
    runs = Run.objects.for_tenant(tenant)
    assert sorted(runs.values_list("trigger", flat=True)) == ["event", "webhook"]
    assert runs.get(trigger="event").input["event"]["data"] == {"of": "after"}


def test_drafts_and_archived_workflows_get_none(tenant):
    make_workflow(tenant, with_triggers("{id: m, type: manual}", name="draft"))
    make_draft(tenant, with_triggers(hook(path="draft"), ON_PAID, name="draft"), name="draft")
    make_workflow(tenant, with_triggers(hook(path="gone"), ON_PAID, name="gone"))
    archive_workflow(by=a_test(tenant), name="gone", archived=True)
    _migrate()
    assert [len(rows) for rows in _rows(tenant).values()] == [0, 0, 0]


def test_of_two_with_one_path_the_first_has_it_and_the_other_is_logged(tenant, caplog):
    make_workflow(tenant, with_triggers(hook(), name="first"))
    _forget_rows(tenant)
    make_workflow(tenant, with_triggers(hook(), ON_PAID, name="second"))
    _forget_rows(tenant)
    _migrate()
    assert [row.workflow.name for row in InboundHook.objects.for_tenant(tenant)] == ["first"]
    assert [row.workflow.name for row in EventTrigger.objects.for_tenant(tenant)] == ["second"]
    assert "'second'" in caplog.text
    assert "another workflow has its path 'in'" in caplog.text
