"""Liveness and readiness of this process."""

from __future__ import annotations

import logging

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from redis import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.database.dialect import is_postgresql
from plumbing.redis_clients import redis_client
from plumbing.rest.views import StrictView
from secrets_vault.rotation import master_key_state
from tenants.scoping import may_take_web_role

logger = logging.getLogger(__name__)
#: How long the broker may take to answer. Seconds.
BROKER_SECONDS = 2.0
#: Not as it should be, and no reason to serve nothing.
OFF = "off"


class LiveView(StrictView):
    """The process answers."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="health_live",
        summary="Check liveness",
        responses={200: inline_serializer("Live", {"status": serializers.ChoiceField(["ok"])})},
    )
    def get(self, request: Request) -> Response:
        """Always ``{"status": "ok"}``."""
        return Response({"status": "ok"})


class ReadyView(StrictView):
    """The process can serve."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="health_ready",
        summary="Check readiness",
        responses={
            200: inline_serializer(
                "Ready",
                {
                    "status": serializers.ChoiceField(
                        ["ok", "degraded"], help_text="`checks` says which part is unavailable."
                    ),
                    "checks": serializers.DictField(),
                },
            ),
            503: OpenApiResponse(
                inline_serializer(
                    "NotReady", {"status": serializers.ChoiceField(["failing"]), "checks": serializers.DictField()}
                ),
                description="A required part is unavailable; `checks` says which.",
            ),
        },
    )
    def get(self, request: Request) -> Response:
        """``{status, checks: {database, migrations, master_key, row_security?, broker?}}``.

        503 (``failing``) while the database is unavailable or not migrated, so requests fail. Otherwise 200, and
        ``degraded`` if something else is not ``ok``. Without the broker the server still accepts runs; a worker's
        next sweep starts them, so a load balancer keeps the web processes. ``master_key`` is ``lost`` if a key that
        a tenant's secrets need is not configured, and ``off`` if no key is configured.
        ``row_security`` (PostgreSQL) may be ``off``: requests are served, but the operator should enable it.
        """
        checks = {"database": _database()}
        if checks["database"] == "ok":
            checks["migrations"] = _migrations()
        if checks.get("migrations") != "ok":
            return Response({"status": "failing", "checks": checks}, status=503)
        checks["master_key"] = master_key_state()
        if is_postgresql():
            checks["row_security"] = "ok" if may_take_web_role() else OFF
        if settings.PYFLOW_EXECUTOR == "celery":
            checks["broker"] = _broker()
        ok = all(value in {"ok", OFF} for value in checks.values())
        return Response({"status": "ok" if ok else "degraded", "checks": checks})


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        logger.warning("not ready: %s", error)
        return "unreachable"
    return "ok"


#: Once every migration is applied they stay applied; looking again on each probe would cost five queries.
_migrated = False


def _migrations() -> str:
    global _migrated  # noqa: PLW0603 - see above
    if not _migrated:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return "pending"
        _migrated = True
    return "ok"


def _broker() -> str:
    try:
        with redis_client(settings.CELERY_BROKER_URL, BROKER_SECONDS) as client:
            client.ping()
    except RedisError as error:
        logger.warning("not ready: %s", error)
        return "unreachable"
    return "ok"
