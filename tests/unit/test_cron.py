"""Cron expressions: the corpus, and what it leaves open."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest

from pyflow.triggers.cron import NICKNAMES, Cron, CronError, find_zone
from tests.support import corpora

# Those without an expression are about a scheduler: catch-up and slots belong to the platform's schedules.
EXPRESSIONS = [case for case in corpora.load("cron_dst") if "expr" in case["input"]]
FIRING = [case for case in EXPRESSIONS if isinstance(case["expect"], list)]
REFUSED = [case for case in EXPRESSIONS if case["expect"] in ("reject", "reject_or_documented")]


def test_every_case_with_an_expression_is_run():
    assert len(FIRING) + len(REFUSED) == len(EXPRESSIONS)


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case["id"])
def test_it_fires_exactly_then(case: dict[str, Any]):
    given = case["input"]
    cron = Cron(given["expr"], given["tz"])
    after = datetime.fromisoformat(given["after"])
    slots = islice(cron.slots_after(after), given["count"])
    assert [slot.strftime("%Y-%m-%dT%H:%MZ") for slot in slots] == case["expect"], case["why"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["id"])
def test_it_is_refused(case: dict[str, Any]):
    with pytest.raises(CronError):
        Cron(case["input"]["expr"], case["input"]["tz"])


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_is_an_expression(nickname: str):
    assert Cron(nickname).next_after(datetime.now(UTC)).minute == 0


@pytest.mark.parametrize(
    "expression", ["0 0 L * *", "0 0 LW * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * 1#2", "0 0 * * MON#1", "@reboot",
                   "0 0 0 * * *", "0\t0 * * *", "\xa00 0 * * *", "0 0 31 2,4,6 *", "5-1 * * * *", "a * * * *"]
)  # fmt: skip
def test_extensions_and_nonsense_are_refused(expression: str):
    with pytest.raises(CronError):
        Cron(expression)


def test_names_of_days_and_months_are_known():
    slots = Cron("0 9 * JUL wed").slots_after(datetime(2026, 1, 1, tzinfo=UTC))
    assert next(slots) == datetime(2026, 7, 1, 9, tzinfo=UTC)


def test_a_slot_is_after_the_moment_never_at_it():
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert Cron("0 12 * * *").next_after(moment) == moment + timedelta(days=1)
    assert Cron("0 12 * * *").next_after(moment - timedelta(microseconds=1)) == moment


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
def test_a_fixed_time_fires_once_a_local_day(zone: str):
    slots = list(islice(Cron("30 2 * * *", zone).slots_after(datetime(2026, 1, 1, tzinfo=UTC)), 400))
    local = [slot.astimezone(find_zone(zone)).date() for slot in slots]
    assert len(set(local)) == 400
    assert max(b - a for a, b in pairwise(local)) == timedelta(days=1)


@pytest.mark.parametrize("day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_an_interval_job_keeps_its_spacing_through_both_clock_changes(day: datetime):
    slots = list(islice(Cron("*/30 * * * *", "Europe/Berlin").slots_after(day), 48 * 3))
    assert {b - a for a, b in pairwise(slots)} == {timedelta(minutes=30)}


@pytest.mark.parametrize("zone", ["", "EST5EDT4", "../etc/passwd", "/UTC", "Europe/Berlin ", "Mars/Phobos", "+02:00"])
def test_what_is_no_zone_is_refused(zone: str):
    with pytest.raises(CronError):
        find_zone(zone)
