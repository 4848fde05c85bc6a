"""Notifications: sent after commits only, and never in the way of a transaction."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.db import transaction

from runs.models import Run
from runs.notify import bus
from runs.tasks import sweep
from tests.support.api import Api
from tests.support.factories.records import record
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from tests.support.histories import assert_is_whole
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to

pytestmark = pytest.mark.database


@pytest.fixture
def rings() -> Iterator[list[int]]:
    heard: list[int] = []

    def subscriber() -> None:
        heard.append(Run.objects.across_tenants().count())

    bus.subscribe(subscriber)
    yield heard
    bus.unsubscribe(subscriber)


def test_it_rings_after_the_commit(tenant, rings):
    with transaction.atomic():
        make_run(tenant)
        assert rings == []
    assert rings == [1]


def test_it_does_not_ring_for_what_was_rolled_back(tenant, rings):
    with transaction.atomic():
        make_run(tenant)
        transaction.set_rollback(True)
    assert rings == []
    assert not Run.objects.for_tenant(tenant).exists()


def test_the_sweeper_rings_for_a_run_whose_ring_was_lost(tenant, rings):
    make_run(tenant)
    rings.clear()
    sweep()
    assert rings == [1]


def test_the_sweeper_rings_for_a_run_whose_lease_has_ended(tenant, rings):
    from runs.queue.leases import claim
    from tests.integration.runs.queue.test_leases import expire

    run = make_run(tenant)
    claim("dead", 1)
    rings.clear()
    sweep()
    assert rings == []
    expire(run)
    sweep()
    assert rings == [1]


def test_the_sweeper_is_quiet_when_there_is_nothing_to_do(tenant, rings):
    record(make_run(tenant))
    rings.clear()
    sweep()
    assert rings == []


def test_an_executor_looks_for_itself_when_no_ring_came(tenant, executor, finished, monkeypatch):
    monkeypatch.setattr(bus, "notify_queued_now", lambda queue="": None)
    assert_is_whole(finished(make_run(tenant)), ["greet"])


def start(tenant) -> int:
    make_workflow(tenant)
    return Api(make_api_key(tenant)[1]).post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}).status_code


def test_a_broker_that_is_away_fails_no_request(tenant, settings):
    settings.PYFLOW_EXECUTOR = "celery"
    with publishing_to(f"redis://127.0.0.1:{launcher.free_port()}/0"):
        assert start(tenant) == 202
    assert Run.objects.for_tenant(tenant).get().state == "queued"


def test_a_broker_that_accepts_and_says_nothing_neither_fails_nor_delays_a_request(tenant, settings, monkeypatch):
    settings.PYFLOW_EXECUTOR = "celery"
    monkeypatch.setattr(bus, "SEND_TIMEOUT", 60.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        publishing_to(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"),
    ):
        assert start(tenant) == 202
        assert not bus.flush(0), "it has been answered while the notification still waits for the broker"
    assert Run.objects.for_tenant(tenant).get().state == "queued"


def test_a_fork_while_a_thread_notifies_keeps_nothing_locked_in_the_child():
    code = """if True:
        import os, signal, django
        django.setup()
        from runs.notify import bus

        bus._lock.acquire()  # as another thread may have, at the moment of the fork
        if not os.fork():
            signal.alarm(20)  # ends a child that waits for ever
            bus.has_executor()
            os._exit(0)
        raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "pyflow_site.settings"}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 0
