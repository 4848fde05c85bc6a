"""Durations: what is one, in seconds, and what is none."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.duration import MAX_SECONDS, parse_duration
from tests.support.values import DATA


@given(DATA | st.integers() | st.floats() | st.text(alphabet="0123456789.PTWDHMSmshd e-+"))
def test_a_duration_is_seconds_or_a_value_error(value: Any):
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(value) <= MAX_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("PT1H30M", 5400),
        ("P1DT1S", 86401),
        ("P2W", 1209600),
        ("90", 90),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations(text: Any, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "s", "1x", "P", "PT", "P1Y", "-1s", -1, math.inf, math.nan, 10**400, True, None, "9" * 39, "1h30m"]
)
def test_what_is_no_duration(value: Any):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)
