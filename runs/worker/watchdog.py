"""Watches a Celery worker and its pool processes: either side notices when the other ends or stalls.

Two pipes are made before the pool forks. The *lifeline*: its writing end is held by the worker alone, so it ends when
the worker shuts down (or is killed), and executors hand their runs back. The *pulse*: executors write to it from their
event loops; one that stops doing so is stuck (a node that blocks the loop, or never gives the interpreter
back) and is killed: its runs are with others by then, and Celery replaces the process.

The worker itself is watched, too: if runs wait, none are claimed and no executor is awake, then it gets no messages
from the broker. It ends, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import struct
import threading
import time
from contextlib import suppress

from django.db import Error as DatabaseFailure
from django.db import connections

from runs.notify.current import notifications
from runs.queue import presence
from runs.queue.leases import PULSE_SECONDS, stall_seconds, unclaimed_queues
from runs.worker.executor import RunExecutor

logger = logging.getLogger(__name__)
#: Seconds between two checks for waiting runs that the worker got no message about.
LOOK_SECONDS = 10.0
_RECORD = struct.Struct("=i?")


class Watchdog:
    """Made in the worker, before its pool is; the pool's processes inherit it."""

    def __init__(self) -> None:
        self._worker = os.getpid()
        self._lifeline, self._held = os.pipe()
        self._pulse_reader, self._pulse_writer = os.pipe()
        os.set_blocking(self._pulse_writer, False)
        self._pulses: dict[int, float] = {}
        self._last_pulse = time.monotonic()
        self._queues: frozenset[str] = frozenset()
        self._waits_since = math.inf

    def start(self, queues: frozenset[str]) -> None:
        """Watch, from a thread of the worker, which serves ``queues``."""
        self._queues = queues
        threading.Thread(target=self._listen, name="pyflow-pulse", daemon=True).start()
        threading.Thread(target=self._watch, name="pyflow-watchdog", daemon=True).start()

    def entered_pool(self) -> None:
        """Call in each process of the pool: it must not hold what ends with the worker."""
        if os.getpid() != self._worker and self._held >= 0:
            os.close(self._held)
            self._held = -1

    def shut_down(self) -> None:
        """Let executors hand their runs back: the worker ends."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def drain(self, executor: RunExecutor) -> None:
        """Let ``executor`` work until it has nothing to do, or the worker ends; its pulse is watched meanwhile."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(self._lifeline)
            executor.stop()

        loop.add_reader(self._lifeline, end)
        pulse = asyncio.ensure_future(self._beat())
        try:
            await executor.drain()
        finally:
            pulse.cancel()
            loop.remove_reader(self._lifeline)
            self._send_pulse(alive=False)

    async def _beat(self) -> None:
        while True:
            self._send_pulse(alive=True)
            await asyncio.sleep(PULSE_SECONDS)

    def _send_pulse(self, *, alive: bool) -> None:
        with suppress(BlockingIOError):  # nobody reads: the worker is stuck or gone
            os.write(self._pulse_writer, _RECORD.pack(os.getpid(), alive))

    def _listen(self) -> None:
        while record := os.read(self._pulse_reader, _RECORD.size):
            pid, alive = _RECORD.unpack(record)
            self._last_pulse = time.monotonic()
            if alive:
                self._pulses[pid] = self._last_pulse
            else:
                self._pulses.pop(pid, None)

    def _watch(self) -> None:
        looked, reported = time.monotonic(), -math.inf
        while True:
            if time.monotonic() - reported >= presence.REPORT_SECONDS:
                reported = time.monotonic()
                presence.report(self._queues)
            time.sleep(PULSE_SECONDS)
            self._kill_stalled(time.monotonic() - stall_seconds())
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                if self._is_cut_off(looked):
                    self._end_worker()

    def _kill_stalled(self, limit: float) -> None:
        for pid, seen in list(self._pulses.items()):
            if seen >= limit:
                continue
            self._pulses.pop(pid, None)
            with suppress(ProcessLookupError):  # it has ended, by whatever other way
                os.kill(pid, signal.SIGKILL)
                logger.error("executor %d was silent for %.0f s: killed; others have its runs", pid, stall_seconds())

    def _is_cut_off(self, now: float) -> bool:
        """Return whether no executor wakes up although work has waited, and was notified, for too long."""
        waiting: set[str] = set()
        try:
            if not self._pulses:
                waiting = unclaimed_queues() & self._queues
        except DatabaseFailure as error:
            logger.warning("cannot look whether runs wait: %s", error)
        finally:
            connections.close_all()
        if not waiting:
            self._waits_since = math.inf
            return False
        for queue in waiting:
            notifications().wake_worker(queue)
        self._waits_since = max(min(self._waits_since, now), self._last_pulse)
        return now - self._waits_since >= stall_seconds()

    def _end_worker(self) -> None:
        logger.critical(
            "runs wait, but the broker sends no messages: this worker ends and must be restarted by its supervisor"
        )
        os.kill(self._worker, signal.SIGTERM)
        time.sleep(stall_seconds())
        os._exit(1)
