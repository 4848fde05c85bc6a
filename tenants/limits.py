"""Rate limits: exact sliding windows, counted in Redis or, in a process of its own, in memory.

A rule lets at most ``limit`` calls through within any ``window`` seconds. A call is judged by several rules at once and
counted by all of them or, if one refuses it, by none: whoever goes on asking while refused does not wait longer for it.
Both limiters do the same; ``tests/unit/tenants/test_limits.py`` is their common suite.

The library ``limits`` asks Redis for one rule at a time: four to six round trips for two rules, which makes
``POST runs`` 11 to 17 per cent slower. It could not count two rules both or not at all in one step, nor take back.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from django.conf import settings

from plumbing.redis_clients import redis_client
from tenants.access import Principal
from tenants.errors import RateLimitedError
from tenants.plans import Quota
from tenants.quotas import allowance_of

logger = logging.getLogger(__name__)

#: The window of requests of the API. Seconds.
MINUTE = 60
#: How long a request may be held up by a Redis that does not answer. Seconds.
REDIS_TIMEOUT = 0.25
#: How long such a Redis is then left alone. Seconds.
REDIS_PAUSE = 5.0
#: How many keys a process remembers; beyond, those that were asked about longest ago are forgotten.
MAX_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class Rule:
    """At most ``limit`` calls within any ``window`` seconds, of those that share the ``key``."""

    key: str
    limit: int
    window: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a rate limit, and the calls that are left after this one."""

    rule: Rule
    allowed: bool
    remaining: int
    reset: float
    """Seconds until more is left, or, of a refusal, until a call is let through; 0 where nothing is counted."""


class Limiter(ABC):
    """Counts calls and says which may go on. Never raises, whatever is counted where."""

    @abstractmethod
    def judge(self, rules: Sequence[Rule], *, count: bool = True) -> list[Verdict]:
        """A verdict per rule. The call goes on if all of them allow it; only then is it counted, if it is to be."""

    @abstractmethod
    def take_back(self, rules: Sequence[Rule]) -> None:
        """Count one call less of each rule: one that was counted before it was known whether it counts."""

    def hit(self, key: str, limit: int, window: float) -> Verdict:
        """Count a call, unless there were ``limit`` of this key in the last ``window`` seconds."""
        return self.judge([Rule(key, limit, window)])[0]

    def peek(self, key: str, limit: int, window: float) -> Verdict:
        """Return what ``hit`` would return, without counting."""
        return self.judge([Rule(key, limit, window)], count=False)[0]


class MemoryLimiter(Limiter):
    """Counts the calls of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._lock = threading.Lock()
        #: The times of the counted calls by key, with the window; the key that was counted last is at the end.
        self._calls: OrderedDict[str, tuple[float, deque[float]]] = OrderedDict()

    def judge(self, rules: Sequence[Rule], *, count: bool = True) -> list[Verdict]:
        with self._lock:
            now = self._clock()
            windows = [self._window(rule, now) for rule in rules]
            room = [len(calls) < rule.limit for rule, calls in zip(rules, windows, strict=True)]
            if count and all(room):
                for rule, calls in zip(rules, windows, strict=True):
                    calls.append(now)
                    self._calls[rule.key] = (rule.window, calls)
                    self._calls.move_to_end(rule.key)
                self._forget(now)
            return [
                _verdict(rule, allowed, len(calls), _place(rule, calls, now))
                for rule, allowed, calls in zip(rules, room, windows, strict=True)
            ]

    def take_back(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            for rule in rules:
                if rule.key in self._calls and self._calls[rule.key][1]:
                    self._calls[rule.key][1].pop()

    def _window(self, rule: Rule, now: float) -> deque[float]:
        calls = self._calls[rule.key][1] if rule.key in self._calls else deque[float]()
        while calls and calls[0] <= now - rule.window:
            calls.popleft()
        return calls

    def _forget(self, now: float) -> None:
        while self._calls:
            key, (window, calls) = next(iter(self._calls.items()))
            if len(self._calls) <= self._max_keys and calls and calls[-1] > now - window:
                return
            del self._calls[key]


def _place(rule: Rule, calls: deque[float], now: float) -> float | None:
    """In how many seconds the call ends to count whose end makes room."""
    return calls[max(0, len(calls) - rule.limit)] + rule.window - now if calls and rule.limit else None


def _verdict(rule: Rule, allowed: bool, count: int, place: float | None) -> Verdict:
    reset = (0.0 if allowed else rule.window) if place is None else min(rule.window, max(0.0, place))
    return Verdict(rule, allowed, max(0, rule.limit - count), reset)


#: Each key is a list of the times (µs, by Redis' own clock) of the calls that it counts, oldest first. Two calls of the
#: same microsecond are two entries. An entry takes 11 bytes, a tenth of what one of a sorted set takes.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local counting = ARGV[1] == '1'
local counts, room = {}, {}
for i, key in ipairs(KEYS) do
  local limit, gone = tonumber(ARGV[2 * i]), now - tonumber(ARGV[2 * i + 1])
  local all = redis.call('LLEN', key)
  local first, last = 0, all
  if all > 0 and tonumber(redis.call('LINDEX', key, 0)) > gone then last = 0 end
  while first < last do
    local middle = math.floor((first + last) / 2)
    if tonumber(redis.call('LINDEX', key, middle)) > gone then last = middle else first = middle + 1 end
  end
  if first > 0 then redis.call('LTRIM', key, first, -1) end
  counts[i] = all - first
  room[i] = counts[i] < limit
  counting = counting and room[i]
end
local answer = {}
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  if counting then
    redis.call('RPUSH', key, string.format('%.0f', now))
    redis.call('PEXPIRE', key, math.ceil(window / 1000))
    counts[i] = counts[i] + 1
  end
  local place = -1
  if counts[i] > 0 and limit > 0 then
    place = tonumber(redis.call('LINDEX', key, math.max(0, counts[i] - limit))) + window - now
  end
  answer[3 * i - 2], answer[3 * i - 1], answer[3 * i] = room[i] and 1 or 0, counts[i], place
end
return answer
"""


class RedisLimiter(Limiter):
    """Counts the calls of all processes, one round trip a call.

    While Redis does not answer, each process counts for itself: the platform goes on, and is not without limits.
    """

    def __init__(self, url: str, timeout: float = REDIS_TIMEOUT) -> None:
        # Once: a connection may have been cut while nobody used it.
        self._client = redis_client(url, timeout, reconnects=1)
        self._script = self._client.register_script(_SCRIPT)
        self._alone = MemoryLimiter()
        self._away_until = 0.0
        self._is_away = False

    def judge(self, rules: Sequence[Rule], *, count: bool = True) -> list[Verdict]:
        if self._is_away and time.monotonic() < self._away_until:
            return self._alone.judge(rules, count=count)
        try:
            verdicts = self._ask(rules, count=count)
        except redis.RedisError:
            self._away_until = time.monotonic() + REDIS_PAUSE
            if not self._is_away:
                logger.warning("Redis does not answer; every process limits its own calls until it does", exc_info=True)
            self._is_away = True
            return self._alone.judge(rules, count=count)
        if self._is_away:
            logger.info("Redis answers again; calls are limited across processes")
        self._is_away = False
        return verdicts

    def take_back(self, rules: Sequence[Rule]) -> None:
        """Give back what was taken. If Redis is unreachable, it expires with the window."""
        self._alone.take_back(rules)
        if self._is_away:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for rule in rules:
                    pipeline.rpop(f"pyflow:rate:{rule.key}")
                pipeline.execute()
        except redis.RedisError:
            logger.warning("Redis does not answer; attempts that succeeded stay counted for a while", exc_info=True)

    def _ask(self, rules: Sequence[Rule], *, count: bool) -> list[Verdict]:
        arguments: list[Any] = [int(count)]
        for rule in rules:
            arguments += [rule.limit, math.ceil(rule.window * 1_000_000)]
        answer = cast(list[int], self._script(keys=[f"pyflow:rate:{rule.key}" for rule in rules], args=arguments))
        return [
            _verdict(rule, bool(allowed), counted, None if place < 0 else place / 1_000_000)
            for rule, allowed, counted, place in zip(rules, answer[::3], answer[1::3], answer[2::3], strict=True)
        ]


limiter: Limiter = RedisLimiter(settings.PYFLOW_LIMITS_URL) if settings.PYFLOW_LIMITS_URL else MemoryLimiter()


def request_rules(principal: Principal) -> dict[str, Rule]:
    """The rules for requests of the API, by the names that they have in headers."""
    limits = allowance_of(principal.tenant_id).limits
    names = {
        "tenant": (Quota.API_REQUESTS_PER_MINUTE, f"api:{principal.tenant_id}"),
        principal.kind: (Quota.KEY_REQUESTS_PER_MINUTE, f"api:{principal.tenant_id}:{principal.kind}:{principal.id}"),
    }
    rules = {name: (limits[quota], key) for name, (quota, key) in names.items()}
    return {name: Rule(key, limit, MINUTE) for name, (limit, key) in rules.items() if limit is not None}


def fields(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Return the headers of these verdicts, by the names of their policies; without verdicts, no headers.

    Source: draft-ietf-httpapi-ratelimit-headers-09. ``t`` is the number of seconds until ``r`` grows.
    """
    if not verdicts:
        return {}
    policies = (f'"{name}";q={item.rule.limit};w={math.ceil(item.rule.window)}' for name, item in verdicts.items())
    standing = (f'"{name}";r={item.remaining};t={math.ceil(item.reset)}' for name, item in verdicts.items())
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(standing)}


def admit(principal: Principal, headers: MutableMapping[str, str]) -> None:
    """Count a request of the API and add the ``RateLimit`` fields to the headers of its answer.

    Raises ``RateLimitedError``.
    """
    rules = request_rules(principal)
    if not rules:
        return
    verdicts = dict(zip(rules, limiter.judge(list(rules.values())), strict=True))
    headers.update(fields(verdicts))
    refused = {name: verdict for name, verdict in verdicts.items() if not verdict.allowed}
    if refused:
        name, verdict = max(refused.items(), key=lambda item: item[1].reset)
        whose = "the tenant" if name == "tenant" else "this key" if name == "key" else "this member"
        raise RateLimitedError(
            f"Too many requests: {whose} may make {verdict.rule.limit} a minute.",
            retry_after=max(1, math.ceil(verdict.reset)),
        )
