"""Limits of a tenant and their usage over HTTP. Here, because the counted rows belong to several apps."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from events.webhooks.endpoints import endpoints_of
from plumbing.rest.serializers import Strict, validated
from pyflow.net.files import used_bytes
from runs.queue.fair_share import places_taken
from tenants.access import Permission, Principal
from tenants.api.views import TenantView
from tenants.limits import limiter, request_rules
from tenants.plans import MEANINGS, Plan, Quota
from tenants.quotas import Usage, allowance_of, counter, history, usage_of
from workflows.models import Workflow

MOST_DAYS = 366
DEFAULT_DAYS = 30


class QuotaShape(serializers.Serializer[Any]):
    """The limit of one quota."""

    quota = serializers.ChoiceField(list(Quota))
    limit = serializers.IntegerField(allow_null=True, help_text="null if unlimited.")
    overridden = serializers.BooleanField(help_text="True if the tenant has its own limit instead of its plan's.")
    meaning = serializers.CharField()


class QuotasShape(serializers.Serializer[Any]):
    """A tenant's plan and limits."""

    plan = serializers.ChoiceField(list(Plan))
    quotas = QuotaShape(many=True)


class UsedShape(serializers.Serializer[Any]):
    """Usage of one quota."""

    quota = serializers.ChoiceField(list(Quota))
    used = serializers.IntegerField(allow_null=True, help_text="null for limits that apply to each object separately.")
    limit = serializers.IntegerField(allow_null=True, help_text="null if unlimited.")
    resets_at = serializers.DateTimeField(allow_null=True, help_text="Time at which the usage resets, or null.")


class DayShape(serializers.Serializer[Any]):
    """Counts for one day (UTC)."""

    date = serializers.DateField()
    runs = serializers.IntegerField()


class UsageShape(serializers.Serializer[Any]):
    """Usage of a tenant's quotas, in total and per day."""

    plan = serializers.ChoiceField(list(Plan))
    quotas = UsedShape(many=True)
    history = DayShape(many=True)


class HistoryQuery(Strict):
    """Query parameters of the history: its days, the last 30 by default."""

    def get_fields(self) -> dict[str, Any]:
        """``from`` and ``to``, of which one is a word of Python's."""
        return {
            "from": serializers.DateField(
                required=False, help_text="First day (inclusive). Default: 29 days before `to`."
            ),
            "to": serializers.DateField(required=False, help_text="Last day (inclusive). Default: today in UTC."),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """At least one day, and a year at most."""
        last = attrs.get("to") or timezone.now().date()
        try:
            first = attrs.get("from") or last - timedelta(days=DEFAULT_DAYS - 1)
        except OverflowError:
            first = last
        if not 0 <= (last - first).days < MOST_DAYS:
            raise serializers.ValidationError({"from": f"It is 0 to {MOST_DAYS - 1} days before `to`."})
        return {"from": first, "to": last}


class QuotasView(TenantView):
    """The limits of the tenant."""

    permissions: ClassVar = {"GET": Permission.TENANT_READ}

    @extend_schema(operation_id="quotas_read", summary="Read the plan and its limits", responses=QuotasShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002 - DRF hands it over
        """Read the tenant's plan and its limits."""
        allowance = allowance_of(self.principal.tenant_id)
        quotas = [
            {
                "quota": quota.value,
                "limit": limit,
                "overridden": quota in allowance.overridden,
                "meaning": MEANINGS[quota],
            }
            for quota, limit in allowance.limits.items()
        ]
        return Response({"plan": allowance.plan.value, "quotas": quotas})


class UsageView(TenantView):
    """Usage of the tenant's quotas."""

    permissions: ClassVar = {"GET": Permission.TENANT_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(operation_id="usage_read", summary="Read usage", parameters=[HistoryQuery], responses=UsageShape)
    def get(self, request: Request) -> Response:
        """Read how much of each quota is used, and the number of runs per day."""
        query = validated(HistoryQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        days = history(tenant_id=tenant_id, first=query["from"], last=query["to"])
        measured: dict[Quota, Usage | int] = {**_rows(tenant_id), **_bytes(tenant_id), **_requests(self.principal)}
        usages = usage_of(tenant_id=tenant_id, measured=measured)
        return Response(
            {
                "plan": allowance_of(tenant_id).plan.value,
                "quotas": [
                    {"quota": item.quota.value, "used": item.used, "limit": item.limit, "resets_at": item.resets_at}
                    for item in usages
                ],
                "history": [{"date": day, "runs": count} for day, count in days.items()],
            }
        )


def _bytes(tenant_id: UUID) -> dict[Quota, int]:
    """Return the counted bytes plus those of nodes' files, whose sizes are added up on disk."""
    files = used_bytes(settings.PYFLOW_STORAGE_ROOT / str(tenant_id))
    return {Quota.STORED_BYTES: max(0, counter(tenant_id=tenant_id, quota=Quota.STORED_BYTES)) + files}


def _rows(tenant_id: UUID) -> dict[Quota, int]:
    return {
        Quota.WORKFLOWS: Workflow.objects.for_tenant(tenant_id).count(),
        Quota.WEBHOOK_ENDPOINTS: endpoints_of(tenant_id).count(),
        Quota.CONCURRENT_RUNS: places_taken([tenant_id])[tenant_id],
    }


def _requests(principal: Principal) -> dict[Quota, Usage]:
    usages, now = {}, timezone.now()
    for name, rule in request_rules(principal).items():
        verdict = limiter.peek(rule.key, rule.limit, rule.window)
        used = rule.limit - verdict.remaining
        quota = Quota.API_REQUESTS_PER_MINUTE if name == "tenant" else Quota.KEY_REQUESTS_PER_MINUTE
        free_at = now + timedelta(seconds=ceil(verdict.reset)) if used else None
        usages[quota] = Usage(quota, used, rule.limit, free_at)
    return usages
