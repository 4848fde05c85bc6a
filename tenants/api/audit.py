"""The audit over HTTP: pages, and the whole of it as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import models
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.renderers import NdjsonRenderer
from plumbing.rest.serializers import Strict, validated
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.audit import BATCH, FINDING_KINDS, Verification, canonical, next_batch, verify
from tenants.models import AuditEntry
from tenants.scoping import tenant_scope

#: How many entries are verified for one answer, and how many findings are in it.
MOST_VERIFIED, MOST_FINDINGS = 5_000, 100
NDJSON_TYPE = NdjsonRenderer.media_type


class AuditActorShape(serializers.Serializer[Any]):
    """The key or user that performed the action."""

    kind = serializers.ChoiceField(["key", "user", "system"])
    id = serializers.CharField()
    name = serializers.CharField()


class AuditEntryShape(serializers.Serializer[Any]):
    """An audited action.

    ``hash`` is the SHA-256 of ``previous``, a newline and the canonical JSON (sorted keys, no spaces, UTF-8) of the
    other fields.
    """

    id = serializers.UUIDField()
    tenant = serializers.UUIDField()
    seq = serializers.IntegerField(help_text="1, 2, 3… without gaps.")
    at = serializers.CharField(help_text="RFC 3339 timestamp in UTC, exactly as in the hash.")
    actor = AuditActorShape()
    action = serializers.CharField(help_text="A noun and a verb: `member.removed`.")
    target = serializers.CharField(help_text="A type and an id: `member:…`.")
    request_id = serializers.CharField(allow_blank=True)
    address = serializers.CharField(allow_blank=True)
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    previous = serializers.CharField(allow_blank=True, help_text="The hash of the entry before; empty for the first.")
    hash = serializers.CharField()


class AuditPageShape(serializers.Serializer[Any]):
    """A page of audit entries."""

    results = AuditEntryShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class AuditQuery(PageQuery):
    """Query parameters of the list of audit entries."""

    action = serializers.CharField(required=False, max_length=64, help_text="Exact action, such as `member.removed`.")
    actor = serializers.CharField(required=False, max_length=80, help_text="Id of an API key or a user.")
    target = serializers.CharField(required=False, max_length=320, help_text="Exact target, such as `workflow:hello`.")
    since = serializers.DateTimeField(required=False, help_text="At or after this time (inclusive).")
    until = serializers.DateTimeField(required=False, help_text="Before this time (exclusive).")


class AuditView(TenantView):
    """Audit entries of the tenant."""

    permissions: ClassVar = {"GET": Permission.AUDIT_READ}
    reads_query = frozenset({"GET"})
    renderer_classes = (*APIView.renderer_classes, NdjsonRenderer)

    @extend_schema(
        operation_id="audit_list",
        summary="Read or export the audit",
        tags=["audit"],
        parameters=[AuditQuery],
        responses={
            (200, "application/json"): AuditPageShape,
            (200, "application/yaml"): AuditPageShape,
            (200, NDJSON_TYPE): OpenApiResponse(
                AuditEntryShape, description="Every entry that the filters let through, the oldest first, one a line."
            ),
        },
    )
    def get(self, request: Request) -> Response | StreamingHttpResponse:
        """List audit entries, newest first; with `Accept: application/x-ndjson`, stream all of them, oldest first.

        Starts of single runs are not audited: `started_by` of the run has the caller. Batches of starts are audited.
        """
        query = validated(AuditQuery, request.query_params)
        rows = _filtered(AuditEntry.objects.for_tenant(self.principal.tenant_id), query)
        if request.accepted_renderer.format == "ndjson":
            return _stream(request, rows, self.principal.tenant_id)
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("-seq",))
        return page.response(show_entry)


class FindingShape(serializers.Serializer[Any]):
    """A difference between an audit entry and what was originally written."""

    seq = serializers.IntegerField(help_text="Sequence number of the entry.")
    kind = serializers.ChoiceField(FINDING_KINDS)
    detail = serializers.CharField(help_text="Human-readable description.")


class VerificationShape(serializers.Serializer[Any]):
    """The result of verifying a part of the audit chain."""

    whole = serializers.BooleanField(help_text="True if the checked entries are intact.")
    complete = serializers.BooleanField(
        help_text="True if the end of the chain was checked; otherwise continue with `next`."
    )
    entries = serializers.IntegerField(help_text="Number of entries checked for this response.")
    seq = serializers.IntegerField(help_text="Sequence number of the last checked entry; 0 if there is none.")
    hash = serializers.CharField(
        allow_blank=True,
        help_text="Hash of that entry. A copy of it elsewhere detects a chain that was rewritten completely.",
    )
    findings = FindingShape(many=True, help_text="The first 100 findings.")
    more_findings = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)


class VerifyQuery(Strict):
    """From where on."""

    after = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=2**62, help_text="Only entries after this sequence number."
    )
    hash = serializers.RegexField(
        "^([0-9a-f]{64})?$",
        required=False,
        default="",
        allow_blank=True,
        help_text="Hash of the entry `after`, taken from an earlier response: the following entries must continue it.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Without the hash it cannot be said whether the next entry follows."""
        if bool(attrs["after"]) != bool(attrs["hash"]):
            raise serializers.ValidationError("`after` and `hash` belong to one entry: give both or neither.")
        return attrs


class VerifyAuditView(TenantView):
    """Verification of the audit."""

    permissions: ClassVar = {"GET": Permission.AUDIT_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="audit_verify",
        summary="Verify the audit",
        tags=["audit"],
        parameters=[VerifyQuery],
        responses=VerificationShape,
    )
    def get(self, request: Request) -> Response:
        """Verify the hash chain like `manage.py verify_audit`, up to 5,000 entries; `next` continues."""
        query = validated(VerifyQuery, request.query_params)
        read = Verification(seq=query["after"], hash=query["hash"])
        findings = list(verify(tenant_id=self.principal.tenant_id, progress=read, most=MOST_VERIFIED))
        address = reverse("audit-verify", request=request)
        return Response(
            {
                "whole": not findings,
                "complete": read.complete,
                "entries": read.entries,
                "seq": read.seq,
                "hash": read.hash,
                "findings": [asdict(finding) for finding in findings[:MOST_FINDINGS]],
                "more_findings": len(findings[MOST_FINDINGS:]),
                "next": None if read.complete else f"{address}?after={read.seq}&hash={read.hash}",
            }
        )


def show_entry(entry: AuditEntry) -> dict[str, Any]:
    """``AuditEntryShape`` of a row."""
    shown: dict[str, Any] = json.loads(entry.record)
    return shown | {"previous": entry.previous, "hash": entry.hash}


def _filtered(rows: models.QuerySet[AuditEntry], query: Mapping[str, Any]) -> models.QuerySet[AuditEntry]:
    names = {"action": "action", "actor": "actor", "target": "target", "since": "at__gte", "until": "at__lt"}
    return rows.filter(**{names[name]: value for name, value in query.items() if name in names})


def _stream(request: Request, rows: models.QuerySet[AuditEntry], tenant_id: UUID) -> StreamingHttpResponse:
    # An iterator of the other kind would be read to its end before the first byte is sent.
    served_async = isinstance(request._request, ASGIRequest)
    lines = _lines_async(rows, tenant_id) if served_async else _lines(rows, tenant_id)
    return StreamingHttpResponse(lines, content_type=NDJSON_TYPE)


def _lines(rows: models.QuerySet[AuditEntry], tenant_id: UUID) -> Iterator[bytes]:
    after: int | None = 0
    while after is not None:
        content, after = _batch(rows, tenant_id, after)
        yield content


async def _lines_async(rows: models.QuerySet[AuditEntry], tenant_id: UUID) -> AsyncIterator[bytes]:
    after: int | None = 0
    while after is not None:
        content, after = await sync_to_async(_batch)(rows, tenant_id, after)
        yield content


def _batch(rows: models.QuerySet[AuditEntry], tenant_id: UUID, after: int) -> tuple[bytes, int | None]:
    """Lines of the entries beyond ``after``, in a scope of their own, and where to go on, if anywhere."""
    with tenant_scope(tenant_id, write=False):
        entries = next_batch(rows, after)
    content = "".join(canonical(show_entry(entry)) + "\n" for entry in entries).encode()
    return content, entries[-1].seq if len(entries) == BATCH else None
