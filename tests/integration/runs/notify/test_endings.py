"""Waiting for the end of a run: what wakes, and what is left afterwards."""

import threading
from collections.abc import Callable

import pytest

from pyflow.core.ids import new_uuid
from runs.notify import bus, endings
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow
from tests.support.processes.running import executing
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to

TOLD = 60.0
"""Seconds within which somebody who is told has noticed, however busy the machine is."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for himself: what wakes is a hint."""
    monkeypatch.setattr(endings, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(endings, "LONGEST_PAUSE", 600.0)


@pytest.mark.database
@pytest.mark.timeout(50)  # who is not woken looks after the 60 s that were asked for
def test_an_executor_in_this_process_wakes_the_request(transactional_db, patient):
    tenant = make_tenant()
    make_workflow(tenant)
    with executing():
        response = Api(make_api_key(tenant)[1]).post(
            "/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}, prefer="wait=60"
        )
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=60")
    assert (read(response)["state"], read(response)["outputs"]) == ("succeeded", {"greeting": "Hello Ada"})


def listener() -> threading.Thread | None:
    return next((thread for thread in threading.enumerate() if thread.name == "pyflow-endings"), None)


@pytest.mark.fleet
def test_what_another_process_says_wakes_through_the_broker(settings, patient, monkeypatch: pytest.MonkeyPatch):
    settings.PYFLOW_EXECUTOR = "celery"
    monkeypatch.setattr(endings, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(endings, "IDLE_SECONDS", 0.1)
    run_id, ended = new_uuid(), threading.Event()
    with launcher.redis() as url, publishing_to(f"{url}/0"):
        thread = threading.Thread(target=lambda: endings.await_ends([run_id], 600, ended.is_set), daemon=True)
        thread.start()
        waiting.until(lambda: heard(run_id, ended), what="listener that hears")
        thread.join(TOLD)
        assert not thread.is_alive()
        waiting.until(lambda: listener() is None, what="end of the listener when nobody waits")


def heard(run_id, ended: threading.Event) -> bool:
    ended.set()
    bus._sender.put(ended={run_id})
    return not endings._watch._waiting


@pytest.mark.fleet
def test_a_broker_that_goes_is_told_of_only_while_somebody_waits(
    settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    settings.PYFLOW_EXECUTOR = "celery"
    monkeypatch.setattr(endings, "POLL_SECONDS", 0.1)
    with launcher.redis() as url, publishing_to(f"{url}/0"):
        assert endings.await_ends([new_uuid()], 10, waiting_once())
        assert listener() is not None
        idle = listener()
    assert idle is not None
    waiting.until(lambda: not idle.is_alive(), what="end of the listener without a broker")
    assert "the broker does not answer" not in caplog.text


def waiting_once() -> Callable[[], bool]:
    """Says no at first."""
    answers = iter([False, True])
    return lambda: next(answers)
