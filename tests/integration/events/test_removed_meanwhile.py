"""Events that are removed while somebody reads on: every reader is told, and none passes over them silently."""

import pytest

from events.cursor import Cursor
from events.errors import EventsRemovedError
from events.reading import read
from events.streams import sources
from events.streams.sources import DELETED, RunSource
from events.webhooks.advancing import advance
from runs.models import EventRecord
from runs.storage import log
from runs.storage.removal import remove_runs
from tenants.models import Tenant
from tests.support.factories.hooks import with_triggers
from tests.support.factories.records import record
from tests.support.factories.rows import make_run, make_workflow
from tests.support.factories.webhooks import make_endpoint
from tests.support.streams import happen, remove_events
from triggers.models import EventTrigger, TriggerFailure
from triggers.services.events.advance import advance as advance_trigger

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def removed_while_read(tenant: Tenant, monkeypatch):
    """Remove what there is between the question for the horizon of the log and that for its events."""
    horizon, pending = log.horizon, [None]

    def remove_first() -> int:
        found = horizon()
        if pending:
            pending.clear()
            remove_events(tenant)
            happen(tenant, "custom.kept")
        return found

    def arm() -> None:
        monkeypatch.setattr(log, "horizon", remove_first)

    return arm


def test_a_page_is_refused(tenant: Tenant, removed_while_read):
    happen(tenant, count=3)
    first = EventRecord.objects.for_tenant(tenant).order_by("position", "seq", "id")[0]
    removed_while_read()
    with pytest.raises(EventsRemovedError) as refusal:
        read(tenant.pk, after=Cursor.of(first))
    assert [event.type for event in read(tenant.pk, after=Cursor.decode(refusal.value.oldest, tenant.pk)).events] == [
        "custom.kept"
    ]


def test_a_webhook_endpoint_notes_it(tenant: Tenant, removed_while_read):
    row, _ = make_endpoint(tenant)
    happen(tenant, count=3)
    removed_while_read()
    advance(row.pk)
    row.refresh_from_db()
    assert row.missed_at is not None


def test_an_event_trigger_keeps_it_as_a_failure(tenant: Tenant, removed_while_read):
    make_workflow(tenant, with_triggers("{id: on, type: event, config: {on: custom.made}}"))
    trigger = EventTrigger.objects.for_tenant(tenant).get()
    happen(tenant, count=3)
    removed_while_read()
    advance_trigger(trigger.pk)
    assert TriggerFailure.objects.for_tenant(tenant).get().error["code"] == "events_removed"


def test_a_stream_of_a_run_ends_with_its_deletion(tenant: Tenant, monkeypatch):
    run = make_run(tenant)
    record(run)
    find_run = sources.find_run

    def find_and_delete(**given):
        found = find_run(**given)
        remove_runs(tenant_id=tenant.pk, run_ids=[run.pk])
        return found

    monkeypatch.setattr(sources, "find_run", find_and_delete)
    batch = RunSource(tenant.pk, run.pk).read(1, 100)
    assert (batch.rows, batch.end) == ([], DELETED)
