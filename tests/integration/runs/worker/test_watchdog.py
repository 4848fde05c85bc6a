"""Stalled processes are ended: executors that stop sending pulses, and workers that get no messages."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection

from runs.queue.leases import claim
from runs.worker.executor import RunExecutor
from runs.worker.watchdog import _RECORD, Watchdog, stall_seconds
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.processes.running import state_of

pytestmark = pytest.mark.database


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    """A process that could be an executor's."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def say(watchdog: Watchdog, process: subprocess.Popen[bytes], *, alive: bool) -> None:
    """Send a pulse as an executor in that process does."""
    os.write(watchdog._pulse_writer, _RECORD.pack(process.pid, alive))


def look_after(watchdog: Watchdog, silence: float) -> None:
    """Read all pulses, and check after so many seconds of silence."""
    os.close(watchdog._pulse_writer)
    watchdog._listen()
    watchdog._kill_stalled(time.monotonic() + silence - stall_seconds())


def test_an_executor_that_stops_sending_pulses_is_killed(idle):
    watchdog = Watchdog()
    say(watchdog, idle, alive=True)
    look_after(watchdog, stall_seconds() + 1)
    assert idle.wait(60) == -signal.SIGKILL


def test_one_that_has_finished_may_be_silent(idle):
    watchdog = Watchdog()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stuck:
        say(watchdog, idle, alive=True)
        say(watchdog, stuck, alive=True)
        say(watchdog, idle, alive=False)
        look_after(watchdog, stall_seconds() + 1)
        assert stuck.wait(60) == -signal.SIGKILL
    assert idle.poll() is None


def test_nobody_is_killed_for_a_short_silence(idle):
    watchdog = Watchdog()
    say(watchdog, idle, alive=True)
    look_after(watchdog, 0)
    assert idle.poll() is None
    assert set(watchdog._pulses) == {idle.pid}


def test_a_worker_is_cut_off_when_work_waits_and_no_executor_wakes_up(tenant):
    watchdog, now = Watchdog(), time.monotonic()
    watchdog._queues = frozenset({""})
    assert not watchdog._is_cut_off(now)
    make_run(tenant)
    assert not watchdog._is_cut_off(now), "it has just been called"
    assert not watchdog._is_cut_off(now + stall_seconds() / 2)
    assert watchdog._is_cut_off(now + stall_seconds() + 1)


def test_a_worker_is_not_deaf_to_what_it_does_not_serve_nor_to_what_is_claimed(tenant):
    watchdog, now = Watchdog(), time.monotonic()
    make_run(tenant)
    watchdog._queues = frozenset({"elsewhere"})
    assert not watchdog._is_cut_off(now)
    assert not watchdog._is_cut_off(now + 10 * stall_seconds())
    watchdog._queues = frozenset({""})
    assert not watchdog._is_cut_off(now)
    claim("somebody", 1)
    assert not watchdog._is_cut_off(now + 1)
    assert watchdog._waits_since == float("inf")


def test_an_executor_that_is_awake_speaks_for_its_worker(tenant, idle):
    watchdog, now = Watchdog(), time.monotonic()
    watchdog._queues = frozenset({""})
    make_run(tenant)
    watchdog._pulses[idle.pid] = now
    assert not watchdog._is_cut_off(now)
    assert not watchdog._is_cut_off(now + 10 * stall_seconds())


@pytest.mark.parametrize(("handler", "status"), [("SIG_DFL", -signal.SIGTERM), ("SIG_IGN", 1)])
def test_a_deaf_worker_ends_whether_or_not_it_can_still_end_in_order(handler: str, status: int):
    code = (
        "import signal, django; django.setup(); from runs.worker.watchdog import Watchdog\n"
        f"signal.signal(signal.SIGTERM, signal.{handler}); Watchdog()._end_worker()"
    )
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "pyflow_site.settings", "PYFLOW_LEASE_SECONDS": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE).returncode == status


def test_executors_hand_their_runs_back_when_the_worker_shuts_down(tenant, registry):
    async def work(ctx):
        await asyncio.sleep(600)

    register(registry, "work", work)
    run = make_run(tenant, workflow("{id: a, type: work}"))
    connection.close()
    watchdog = Watchdog()
    thread = threading.Thread(target=lambda: asyncio.run(watchdog.drain(RunExecutor())))
    thread.start()
    waiting.until(lambda: state_of(run) == "running", what="claim")
    watchdog.shut_down()
    thread.join(60)
    assert not thread.is_alive()
    run.refresh_from_db()
    assert (run.state, run.owner, run.losses) == ("queued", "", 0)
