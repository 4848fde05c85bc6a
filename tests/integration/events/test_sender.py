"""The thread that sends webhooks: woken by events, and looking by itself where it is not."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import redis

from events.models import Delivery
from events.webhooks.endpoints import try_endpoint
from events.webhooks.sender import WebhookSender
from runs.notify.current import using
from runs.storage import log
from tenants.models import Tenant
from tests.support import waiting
from tests.support.factories.rows import a_test
from tests.support.factories.webhooks import make_endpoint
from tests.support.processes.platform import ROOT, Beat, environment
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to
from tests.support.servers.event_bus import NEVER, PlainBus, in_one_process
from tests.support.servers.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def sender(transactional_db) -> Iterator[WebhookSender]:
    """A sender on its thread, stopped before the tables are emptied."""
    sender = WebhookSender()
    yield sender
    sender.stop(timeout=30)


def received(receiver: Receiver, count: int) -> None:
    """Wait for so many requests."""
    waiting.until(lambda: len(receiver.received) >= count, what=f"{count} requests")


def emit(tenant: Tenant) -> None:
    """Append an event to the log."""
    from django.utils import timezone

    log.append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={})


def test_what_happens_wakes_it(tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings):
    """It never looks by itself here: a new endpoint, its first event, and a test event all have to wake it."""
    settings.PYFLOW_SWEEP_SECONDS = NEVER
    with in_one_process():
        make_endpoint(tenant, "https://elsewhere.example/", types=["no.such"])
        sender.start()
        waiting.until(lambda: sender.is_subscribed, what="subscription")
        row, secret = make_endpoint(tenant, receiver.url)
        emit(tenant)
        received(receiver, 1)
        try_endpoint(by=a_test(tenant), endpoint=row)
        received(receiver, 2)
        sender.stop(timeout=30)
    assert {item.verified(secret)["type"] for item in receiver.received} == {"order.paid", "webhook.test"}
    assert set(Delivery.objects.for_tenant(tenant).values_list("state", flat=True)) == {"delivered"}


class DeafBus(PlainBus):
    """A bus that loses everything."""

    def __init__(self) -> None:
        super().__init__()
        self.publish = lambda topic, message="": None


def test_it_looks_by_itself_where_every_notification_is_lost(
    tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings
):
    from runs.notify.notifications import Notifications

    settings.PYFLOW_SWEEP_SECONDS = 0.1
    with using(Notifications(DeafBus())):
        sender.start()
        make_endpoint(tenant, receiver.url)
        emit(tenant)
        received(receiver, 1)
        sender.stop(timeout=30)


def test_a_failed_delivery_is_sent_again_when_it_is_due(
    tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings, monkeypatch
):
    from datetime import timedelta

    from events.webhooks import schedule

    settings.PYFLOW_SWEEP_SECONDS = NEVER
    monkeypatch.setattr(schedule, "PAUSES", (timedelta(milliseconds=200),) * 9)
    receiver.statuses = [500, 500, 200]
    with in_one_process():
        make_endpoint(tenant, receiver.url)
        emit(tenant)
        sender.start()
        received(receiver, 3)
        waiting.until(lambda: Delivery.objects.for_tenant(tenant).get().state == "delivered", what="delivery")
        sender.stop(timeout=30)
    assert len({item.id for item in receiver.received}) == 1


def test_a_database_that_fails_for_a_while_loses_nothing(
    tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings, monkeypatch
):
    from django.db import OperationalError

    from events.webhooks import sender as module

    settings.PYFLOW_SWEEP_SECONDS = 0.1
    failures, take = [], module.take_due

    def fail_first(room: int):
        if len(failures) < 3:
            failures.append(room)
            raise OperationalError("the server is away")
        return take(room)

    monkeypatch.setattr(module, "take_due", fail_first)
    with in_one_process():
        make_endpoint(tenant, receiver.url)
        emit(tenant)
        sender.start()
        received(receiver, 1)
        sender.stop(timeout=30)
    assert len(failures) == 3


def test_name_servers_that_do_not_answer_delay_no_other_endpoint(
    tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings, monkeypatch
):
    settings.PYFLOW_SWEEP_SECONDS = 0.1
    released, asked = threading.Event(), []
    look_up = socket.getaddrinfo

    def stuck(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name.startswith("stuck"):
            asked.append(name)
            released.wait()
        return look_up("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    with in_one_process():
        for number in range(40):
            make_endpoint(tenant, f"http://stuck-{number}.example/")
        emit(tenant)
        sender.start()
        waiting.until(lambda: len(asked) == 40, what="look-ups that are not answered")
        make_endpoint(tenant, receiver.url.replace("127.0.0.1", "fast.example"))
        emit(tenant)
        received(receiver, 1)
        released.set()
        sender.stop(timeout=30)


@pytest.mark.fleet
def test_a_flushed_redis_loses_no_delivery(tenant: Tenant, receiver: Receiver, sender: WebhookSender, settings):
    settings.PYFLOW_SWEEP_SECONDS = 0.2
    # A server of its own: to flush it, and to cut its readers off, would meet tests of other workers in the session's.
    with (
        launcher.redis_server() as own,
        redis.Redis.from_url(own.url) as server,
        publishing_to(f"{own.url}/0"),
    ):
        sender.start()
        make_endpoint(tenant, receiver.url)
        for _ in range(5):
            emit(tenant)
            server.flushall()
            server.client_kill_filter(_type="pubsub")
        received(receiver, 5)
        sender.stop(timeout=30)
    assert len({item.id for item in receiver.received}) == 5


@pytest.mark.fleet
def test_beat_sends_webhooks_and_goes_on_after_it_was_killed(tenant: Tenant, receiver: Receiver, settings, tmp_path):
    env = environment(
        tmp_path,
        PYFLOW_MASTER_KEYS=settings.PYFLOW_MASTER_KEYS,
        REDIS_URL=os.environ["REDIS_URL"],
        PYFLOW_EXECUTOR="celery",
    )
    make_endpoint(tenant, receiver.url)
    with Beat(env, tmp_path / "beat.log") as beat:
        emit(tenant)
        received(receiver, 1)
        beat.kill()
        emit(tenant)
        beat.start()
        received(receiver, 2)
    assert len({item.id for item in receiver.received}) == 2


def test_it_ends_with_its_process_without_an_error(tenant: Tenant, tmp_path):
    """Nobody stops it: the interpreter does, when no thread can be started any more."""
    program = "import django; django.setup()\nfrom events.webhooks.sender import WebhookSender\n"
    program += "import time; sender = WebhookSender(); sender.start()\nwhile sender._loop is None: time.sleep(0.01)\n"
    env = environment(tmp_path, DJANGO_SETTINGS_MODULE="pyflow_site.settings")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
