"""Plans of tenants: one table of plans and quotas, and the rules for a tenant's own overrides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tenants.errors import PlanError

DAY_SECONDS = 86_400
MIB = 1024 * 1024
#: The highest number that a counter of the database holds.
MOST = 2**63 - 1


class Plan(StrEnum):
    """Plans of tenants; each allows at least what the ones before it do."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class Quota(StrEnum):
    """One thing that is limited. What is counted, and since when, is beside each in ``MEANINGS``."""

    WORKFLOWS = "workflows"
    RUNS_PER_DAY = "runs_per_day"
    CONCURRENT_RUNS = "concurrent_runs"
    NODES_PER_WORKFLOW = "nodes_per_workflow"
    STORED_BYTES = "stored_bytes"
    API_REQUESTS_PER_MINUTE = "api_requests_per_minute"
    KEY_REQUESTS_PER_MINUTE = "key_requests_per_minute"
    SCHEDULE_SECONDS = "schedule_seconds"
    RETENTION_DAYS = "retention_days"
    WEBHOOK_ENDPOINTS = "webhook_endpoints"


MEANINGS: Mapping[Quota, str] = {
    Quota.WORKFLOWS: "workflows that exist, archived ones among them",
    Quota.RUNS_PER_DAY: "runs accepted in a day of UTC, child runs among them",
    Quota.CONCURRENT_RUNS: "runs executed at the same time; others wait in the queue",
    Quota.NODES_PER_WORKFLOW: "nodes of one workflow, those of `on_failure` and `finally` among them",
    Quota.STORED_BYTES: "bytes of workflow documents, of runs' inputs, of large outputs and of files",
    Quota.API_REQUESTS_PER_MINUTE: "requests of the tenant in any 60 seconds",
    Quota.KEY_REQUESTS_PER_MINUTE: "requests of one key, or of one member, in any 60 seconds",
    Quota.SCHEDULE_SECONDS: "least number of seconds between two fires of a schedule",
    Quota.RETENTION_DAYS: "days for which a finished run is kept",
    Quota.WEBHOOK_ENDPOINTS: "endpoints that webhooks are sent to, those that are paused or disabled among them",
}
#: Limits that are a least rather than a most: the plan that allows more has the smaller number.
LEAST = frozenset({Quota.SCHEDULE_SECONDS})

#: The limit of each quota in each plan; ``None`` is no limit.
PLANS: Mapping[Plan, Mapping[Quota, int | None]] = {
    plan: {quota: limits[i] for quota, limits in table.items()}
    for table in [
        {
            Quota.WORKFLOWS: (25, 250, None),
            Quota.RUNS_PER_DAY: (1_000, 50_000, None),
            Quota.CONCURRENT_RUNS: (5, 50, None),
            Quota.NODES_PER_WORKFLOW: (100, 500, None),
            Quota.STORED_BYTES: (100 * MIB, 10_240 * MIB, None),
            Quota.API_REQUESTS_PER_MINUTE: (600, 6_000, 120_000),
            Quota.KEY_REQUESTS_PER_MINUTE: (300, 3_000, 60_000),
            Quota.SCHEDULE_SECONDS: (300, 60, None),
            Quota.RETENTION_DAYS: (7, 90, None),
            Quota.WEBHOOK_ENDPOINTS: (5, 50, None),
        }
    ]
    for i, plan in enumerate(Plan)
}


def effective(plan: str, overrides: Mapping[str, Any]) -> Mapping[Quota, int | None]:
    """The limits of a tenant: those of its plan, but for the ones it has of its own."""
    return {**PLANS[Plan(plan)], **{Quota(name): limit for name, limit in overrides.items()}}


def better_plan(quota: Quota, limit: int) -> Plan | None:
    """The first plan that allows more than ``limit``; ``None`` if none does."""
    return next((plan for plan in Plan if _allows_more(quota, PLANS[plan][quota], limit)), None)


def _allows_more(quota: Quota, offered: int | None, limit: int) -> bool:
    return offered is None or (offered < limit if quota in LEAST else offered > limit)


def checked_overrides(overrides: Mapping[str, Any]) -> dict[str, int | None]:
    """The overrides as they are stored, by quota. Raises ``PlanError`` for an unknown name or no whole number ≥ 0."""
    if not isinstance(overrides, Mapping):  # of a form, any JSON
        raise PlanError("Limits are an object: the name of each quota with its limit.")
    checked: dict[str, int | None] = {}
    for name, limit in overrides.items():
        if name not in set(Quota):
            raise PlanError(f"There is no quota {name!r}. The quotas are: {', '.join(Quota)}.")
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MOST):
            raise PlanError(f"The limit of {name} is a whole number from 0, or null for no limit; not {limit!r}.")
        checked[name] = limit
    return checked
