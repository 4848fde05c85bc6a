"""Slots of timetables over clock changes, jitter, and the plan for slots that are due."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.moments import parse_moment
from pyflow.triggers.cron import Cron
from pyflow.triggers.schedule_config import ScheduleConfig
from pyflow.triggers.timetable import CatchUpRule, jitter_of, plan_due
from tests.support import corpora


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(config: dict[str, object], after: str, count: int = 4, anchor: str = "2026-01-01") -> list[str]:
    timetable = ScheduleConfig.model_validate(config).timetable(at(anchor))
    return [f"{slot:%Y-%m-%d %H:%M}" for slot in islice(timetable.slots_after(at(after)), count)]


def test_an_interval_of_two_hours_stays_two_hours_over_a_change_of_the_clock():
    config = {"interval": "2h", "timezone": "Europe/Berlin"}
    for day in ("2026-03-29", "2026-10-25"):
        found = [at(slot) for slot in slots(config, f"{day} 00:00", 6)]
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=2)}


def test_an_interval_counts_from_its_start_or_from_the_publication():
    assert slots({"interval": "15m"}, "2026-01-01", 2) == ["2026-01-01 00:15", "2026-01-01 00:30"]
    config = {"interval": "15m", "start": "2026-01-01T00:07:00Z"}
    assert slots(config, "2025-01-01", 2) == ["2026-01-01 00:07", "2026-01-01 00:22"]


def test_no_slot_is_before_the_start_or_at_the_end():
    config = {"cron": "0 * * * *", "start": "2026-01-01T02:00:00Z", "end": "2026-01-01T04:00:00Z"}
    assert slots(config, "2026-01-01") == ["2026-01-01 02:00", "2026-01-01 03:00"]
    assert slots({"at": "2026-12-24T18:00:00+01:00"}, "2026-01-01") == ["2026-12-24 17:00"]
    assert slots({"at": "2026-12-24T18:00:00+01:00"}, "2026-12-24 17:00") == []


def test_half_an_hour_of_lord_howe_and_a_zone_without_changes():
    lord_howe = {"cron": "15 2 * * *", "timezone": "Australia/Lord_Howe"}
    assert slots(lord_howe, "2026-10-02 16:00", 3) == ["2026-10-03 15:30", "2026-10-04 15:15", "2026-10-05 15:15"]
    assert slots({"cron": "0 2 * * *", "timezone": "Asia/Kolkata"}, "2026-03-28", 1) == ["2026-03-28 20:30"]


@given(
    st.sampled_from(["* * * * *", "*/20 * * * *", "30 2 * * *", "15 */2 * * *", "0 0 1 * *", "30 1-3 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"]),
    st.integers(1_262_304_000, 1_893_456_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
)
def test_slots_do_not_depend_on_the_moment_that_is_asked_from(expression, zone, moment):
    cron = Cron(expression, zone)
    first = cron.next_after(moment)
    earlier = cron.slots_after(moment - timedelta(days=3))
    assert next(slot for slot in earlier if slot > moment) == first


def test_clock_changes_are_named():
    fixed = Cron("30 2 * * *", "Europe/Berlin")
    changes = [
        fixed.moved_by(fixed.next_after(at(day))) for day in ("2026-03-28 12:00", "2026-10-24 12:00", "2026-07-01")
    ]
    assert changes == ["gap", "overlap", None]


def test_jitter_is_stable_and_within_its_bounds():
    found = {jitter_of("a", at("2026-01-01") + timedelta(hours=hour), 60) for hour in range(100)}
    assert len(found) == 100
    assert timedelta() <= min(found) < max(found) < timedelta(seconds=60)
    assert (
        jitter_of("a", at("2026-01-01"), 60)
        == jitter_of("a", at("2026-01-01"), 60)
        != jitter_of("b", at("2026-01-01"), 60)
    )
    assert jitter_of("a", at("2026-01-01"), 0) == timedelta()


def test_a_plan_of_more_slots_than_are_looked_at_goes_on_where_it_ended():
    timetable = ScheduleConfig(interval=1).timetable(at("2026-01-01"))
    rule = CatchUpRule(5, timedelta(days=365))
    first, now, missed, rounds = at("2026-01-01 00:00:01"), at("2026-01-03"), 0, 0
    while True:
        plan = plan_due(timetable, first, now, rule, schedule="a", jitter=0)
        missed, rounds = missed + plan.missed.count, rounds + 1
        if plan.on_time:
            break
        assert plan.next is not None
        first = plan.next
    assert rounds == 2
    assert (missed, len(plan.late), len(plan.on_time)) == (2 * 86_400 - 61 - 5, 5, 61)
    assert plan.next == now + timedelta(seconds=1)


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "tomorrow", 5, "2026-01-01", "2026-01-01T00:00:0055Z", None]
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError, match="not a moment"):
        parse_moment(text)


@corpora.each("cron_dst", lambda case: "leap second" in case["input"].get("scenario", ""))
def test_a_leap_second_is_the_second_after_it(case: corpora.Case):
    assert parse_moment("2016-12-31T23:59:60Z") == at("2017-01-01")
    assert parse_moment("2016-12-31T23:59:60.5000009Z") == at("2017-01-01 00:00:00.500000")
