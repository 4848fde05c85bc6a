"""Two schedulers at once, frozen and thawed: each slot starts one run. And which of them has the lease."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from pyflow.isolation.parent import end_with_parent
from runs.models import Run
from tests.support import corpora, waiting
from tests.support.factories.schedules import make_schedule, moment
from tests.support.processes import platform
from triggers import ticker
from triggers.models.schedules import Schedule, ScheduleFire, TickerLease
from triggers.services.schedules import leadership
from triggers.ticker import Ticker

SPEED, BEGIN = 120, moment("2026-01-01 00:00")


class Scheduler:
    """A process that ticks in accelerated time."""

    def __init__(self, tmp_path: Path, start: float, minutes: int) -> None:
        until = (BEGIN + timedelta(minutes=minutes, seconds=30)).timestamp()
        command = [
            sys.executable,
            "-m",
            "tests.support.processes.ticking",
            str(BEGIN.timestamp()),
            str(SPEED),
            str(until),
        ]
        env = platform.environment(tmp_path, START=str(start))
        self.process = subprocess.Popen(
            command,
            cwd=platform.ROOT,
            env=env,
            stdout=subprocess.PIPE,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
        )

    def freeze(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)


def _run_two(tenant, tmp_path: Path, schedules: int, minutes: int) -> None:
    config = {"cron": "* * * * *", "overlap": "allow_all", "catch_up": "all", "max_catch_up": 1000}
    first = make_schedule(tenant, config, next_at="2026-01-01 00:01")
    values = {field.attname: getattr(first, field.attname) for field in Schedule._meta.concrete_fields}
    copies = [Schedule(**values | {"id": None, "trigger_id": f"copy-{n}"}) for n in range(1, schedules)]
    for copy in copies:
        copy.id = Schedule().id
    Schedule.objects.bulk_create(copies)

    chance = random.Random(13)
    two = [Scheduler(tmp_path, time.time() + 2.0, minutes) for _ in range(2)]
    try:
        for one in two:
            assert one.process.stdout is not None
            assert one.process.stdout.readline() == b"ticking\n"
        while any(one.process.poll() is None for one in two):
            one = chance.choice(two)
            if one.process.poll() is None:
                one.freeze(chance.uniform(0.05, 0.6))
            time.sleep(chance.uniform(0, 0.2))
        assert [one.process.returncode for one in two] == [0, 0]
    finally:
        for one in two:
            one.process.kill()
            one.process.communicate()

    rows = ScheduleFire.objects.for_tenant(tenant)
    fired = Counter(rows.filter(run__isnull=False).values_list("schedule", "scheduled_for"))
    wanted = {
        (schedule, BEGIN + timedelta(minutes=minute))
        for schedule in Schedule.objects.for_tenant(tenant).values_list("pk", flat=True)
        for minute in range(1, minutes + 1)
    }
    assert fired.keys() == wanted
    assert set(fired.values()) == {1}
    assert not rows.filter(run__isnull=True).exists()
    assert Run.objects.for_tenant(tenant).count() == len(wanted)
    assert Run.objects.for_tenant(tenant).values("dedupe_key").distinct().count() == len(wanted)


@corpora.each("cron_dst", lambda case: "2 schedulers" in case["input"].get("scenario", ""))
@pytest.mark.fleet
def test_two_schedulers_that_are_frozen_and_thawed_fire_each_slot_once(case: corpora.Case, tenant, tmp_path: Path):
    _run_two(tenant, tmp_path, schedules=20, minutes=6)


@pytest.mark.fleet
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_two_schedulers_of_200_schedules_over_hours(tenant, tmp_path: Path):
    _run_two(tenant, tmp_path, schedules=200, minutes=120)


@pytest.mark.database
def test_one_process_leads_until_its_lease_ends(transactional_db):
    while leadership.lead("a") is None:
        pass
    term = leadership.lead("a")
    assert leadership.lead("b") is None
    assert leadership.lead("a") == term
    TickerLease.objects.update(until=moment("2026-01-01 00:00"))
    assert leadership.lead("b") == term + 1
    assert leadership.lead("a") is None
    leadership.resign("a")
    assert leadership.lead("a") is None
    leadership.resign("b")
    assert leadership.lead("a") == term + 2


def test_a_lost_leader_is_replaced_within_ten_seconds():
    assert leadership.LEASE_SECONDS + leadership.RENEW_SECONDS < 10


@pytest.mark.database
def test_the_ticker_of_a_process_fires_what_is_due_and_gives_the_lease_back(tenant):
    schedule = make_schedule(tenant, {"interval": "1s", "overlap": "allow_all"})
    ticking = Ticker()
    ticking.start()
    try:
        waiting.until(
            lambda: ScheduleFire.objects.for_tenant(tenant).filter(schedule=schedule).count() > 1, what="fires"
        )
        assert TickerLease.objects.get().holder == ticking.holder
    finally:
        ticking.stop()
    assert TickerLease.objects.get().until is None


def test_a_mistake_does_not_end_the_ticker(tenant, monkeypatch, caplog):
    schedule = make_schedule(tenant, {"interval": "1s", "overlap": "allow_all"})
    monkeypatch.setattr(ticker, "RETRY_SECONDS", 0.01)
    real, mistakes = ticker.ticks.fire_due, iter([ValueError("a mistake")])

    def fire_due() -> int:
        for mistake in mistakes:
            raise mistake
        return real()

    monkeypatch.setattr(ticker.ticks, "fire_due", fire_due)
    ticking = Ticker()
    ticking.start()
    try:
        waiting.until(lambda: ScheduleFire.objects.for_tenant(tenant).filter(schedule=schedule).exists(), what="a fire")
    finally:
        ticking.stop()
    assert "tries again" in caplog.text


@pytest.mark.fleet
def test_beat_looks_at_schedules(tenant, tmp_path: Path):
    schedule = make_schedule(tenant, {"interval": "1s", "overlap": "allow_all"})
    command = [sys.executable, "-m", "celery", "-A", "pyflow_site", "beat", "--pidfile", str(tmp_path / "beat.pid")]
    with platform.Process(command, platform.environment(tmp_path), tmp_path / "beat.log"):
        waiting.until(lambda: ScheduleFire.objects.for_tenant(tenant).filter(schedule=schedule).exists(), what="a fire")
