"""Cron expressions: the corpus, and what it leaves open."""

import contextlib
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from pyflow.triggers.cron import NICKNAMES, Cron, CronError, find_zone
from tests.support import corpora


# Cases without an expression are about a scheduler: catch-up and slots belong to the platform's schedules.
@corpora.each("cron_dst", lambda case: "expr" in case["input"])
def test_the_corpus(case: corpora.Case):
    given, expect = case["input"], case["expect"]
    if unknown := given.keys() - {"expr", "tz", "after", "count"}:
        corpora.unread(case, f"{', '.join(sorted(unknown))} in the input")
    after = datetime.fromisoformat(given["after"]) if "after" in given else datetime.now(UTC)

    def slots() -> list[datetime]:
        return list(islice(Cron(given["expr"], given["tz"]).slots_after(after), given.get("count", 1)))

    if isinstance(expect, list):
        assert slots() == [datetime.fromisoformat(slot) for slot in expect], case["why"]
    elif expect == "reject":
        with pytest.raises(CronError):
            slots()
    elif expect == "reject_or_documented":
        with contextlib.suppress(CronError):
            assert slots()
    else:
        corpora.unread(case, f"the expectation {expect!r}")


@pytest.mark.parametrize(
    ("expression", "zone", "after", "slots"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T16:00Z", ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
        ("45 2 * * *", "Pacific/Chatham", "2026-09-26T12:00Z", ["2026-09-26T14:00Z", "2026-09-27T13:00Z"]),
        ("0 0 * * *", "America/Havana", "2026-03-07T12:00Z", ["2026-03-08T05:00Z", "2026-03-09T04:00Z"]),
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00Z", ["2026-09-06T04:00Z", "2026-09-07T03:00Z"]),
        ("30 0 * * *", "Asia/Beirut", "2026-03-28T12:00Z", ["2026-03-28T22:00Z", "2026-03-29T21:30Z"]),
        ("0 2 * * *", "America/Sao_Paulo", "2026-03-08T00:00Z", ["2026-03-08T05:00Z", "2026-03-09T05:00Z"]),
        ("@daily", "America/New_York", "2026-03-08T04:00Z", ["2026-03-08T05:00Z", "2026-03-09T04:00Z"]),
        ("0 * * * *", "America/New_York", "2026-11-01T04:30Z", ["2026-11-01T05:00Z", "2026-11-01T06:00Z"]),
        ("0 0 31 12 *", "Pacific/Kiritimati", "2026-12-01T00:00Z", ["2026-12-30T10:00Z", "2027-12-30T10:00Z"]),
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00Z", ["2104-02-29T00:00Z", "2108-02-29T00:00Z"]),
        ("0 0 29 2 1", "UTC", "2026-12-31T00:00Z", ["2027-02-01T00:00Z", "2027-02-08T00:00Z"]),
        ("0 0 1-7 * 1", "UTC", "2026-05-31T12:00Z", ["2026-06-01T00:00Z", "2026-06-02T00:00Z"]),
        ("0 9 * * 5-7", "UTC", "2026-08-15T12:00Z", ["2026-08-16T09:00Z", "2026-08-21T09:00Z"]),
        ("10-50/20 * * * *", "UTC", "2026-01-01T00:20Z", ["2026-01-01T00:30Z", "2026-01-01T00:50Z"]),
        ("2,1,2 * * * *", "UTC", "2026-01-01T00:00Z", ["2026-01-01T00:01Z", "2026-01-01T00:02Z"]),
        ("0 9 * * *", "UTC", "0001-01-01T00:00Z", ["0001-01-02T09:00Z", "0001-01-03T09:00Z"]),
    ],
)
def test_days_that_are_special_somewhere(expression: str, zone: str, after: str, slots: list[str]):
    found = islice(Cron(expression, zone).slots_after(datetime.fromisoformat(after)), len(slots))
    assert list(found) == list(map(datetime.fromisoformat, slots))


def test_the_end_of_the_calendar_is_an_end():
    slots = Cron("0 9 * * *", "America/New_York").slots_after(datetime(9999, 12, 30, tzinfo=UTC))
    with pytest.raises(CronError, match="never"):
        list(slots)


@pytest.mark.parametrize("expression", ["*/90 * * * *", "0 */25 * * *", "0 0 */32 * *", "0 0 1 */13 *", "0 0 * * */8"])
def test_a_step_beyond_its_field_is_not_what_it_looks_like(expression: str):
    with pytest.raises(CronError, match="a step of more than"):
        Cron(expression)


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_is_an_expression(nickname: str):
    assert Cron(nickname).next_after(datetime.now(UTC)).minute == 0


@pytest.mark.parametrize(
    "expression", ["0 0 L * *", "0 0 LW * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * 1#2", "0 0 * * MON#1", "@reboot",
                   "0 0 0 * * *", "0\t0 * * *",
                   "@every 5m", "@", "TZ=UTC 0 9 * * *", "* * * * * # c", "H * * * *", "0 0 ? * ?", "? * * * *",
                   "1- * * * *",
                   "1,,2 * * * *", ",1 * * * *", "*/ * * * *", "/5 * * * *", "*5 * * * *", "*/-1 * * * *", "+1 * * * *",
                   "1.5 * * * *", "0x1 * * * *", "0-60 * * * *", "* * 0-5 * *", "* * * * MONDAY", "JAN * * * *",
                   "１ * * * *", "² * * * *", "* * * * *\n", "* * * * *\0", "*\u3000* * * *", "0 0 L-3 * *",
                   "*/99999999999999999999 * * * *", "0 0 30-31 2 *",
                   "\xa00 0 * * *", "0 0 31 2,4,6 *", "5-1 * * * *", "a * * * *"]
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


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "EST5EDT4",
        "../etc/passwd",
        "/UTC",
        "Europe/Berlin ",
        "Mars/Phobos",
        "+02:00",
        "localtime",
        "Factory",
        "posixrules",
        "zone.tab",
        "posix/Europe/Berlin",
        "UTC+2",
        "UTC\n",
        "UTC\0",
        "Europe//Berlin",
        "Europe/../UTC",
        "EST5EDT,M3.2.0,M11.1.0",
        "CEST",
        "Z",
        "ＵTC",
        None,
        0,
    ],
)
def test_what_is_no_zone_is_refused(zone: str):
    with pytest.raises(CronError):
        find_zone(zone)
