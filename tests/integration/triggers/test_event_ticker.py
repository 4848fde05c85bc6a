"""The thread of event triggers: woken by notifications, and by itself where one is lost."""

import pytest
from django.utils import timezone

from runs.models import Run
from runs.notify.current import using
from runs.notify.notifications import Notifications
from runs.storage.log import append_outside
from tests.support import waiting
from tests.support.factories.hooks import with_triggers
from tests.support.factories.rows import make_workflow
from triggers import event_ticker
from triggers.event_ticker import EventTicker

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def listening(tenant):
    make_workflow(tenant, with_triggers("{id: on, type: event, config: {on: order.paid}}"))
    return tenant


@pytest.fixture
def ticker(listening):
    ticker = EventTicker()
    ticker.start()
    yield ticker
    ticker.stop()


def emit(tenant):
    append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={})


def started(tenant):
    return Run.objects.for_tenant(tenant).filter(trigger="event").count()


def test_an_event_wakes_it(listening, monkeypatch, request, bus):
    monkeypatch.setattr(event_ticker, "LOOK_SECONDS", 600.0)
    with using(Notifications(bus)):
        ticker = request.getfixturevalue("ticker")
        waiting.until(lambda: ticker._subscription is not None, what="subscription")
        for count in (1, 2):
            emit(listening)
            waiting.until(lambda count=count: started(listening) == count, what="run of the event")


def test_it_looks_by_itself(listening, monkeypatch, ticker):
    monkeypatch.setattr(EventTicker, "_wake", lambda self, notification: None)
    emit(listening)
    waiting.until(lambda: started(listening) == 1, what="run of the event")


def test_a_failure_does_not_end_it(listening, monkeypatch):
    whole, calls = event_ticker.advance_due, []

    def fail_first():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("a mistake")
        return whole()

    monkeypatch.setattr(event_ticker, "advance_due", fail_first)
    monkeypatch.setattr(event_ticker, "RETRY_SECONDS", 0.01)
    ticker = EventTicker()
    ticker.start()
    try:
        emit(listening)
        waiting.until(lambda: started(listening) == 1, what="run of the event")
    finally:
        ticker.stop()
