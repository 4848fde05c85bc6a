"""Completes the OpenAPI document: problems, security, media types."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from events.api.described import webhooks
from plumbing.rest.serializers import Strict
from tenants.api.views import TenantView
from tenants.plans import Quota

PROBLEM_TYPES = ["application/problem+json", "application/problem+yaml"]

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    description="A repeated request with the same key within 24 hours takes effect once and gets the same response.",
)


#: Headers of answers. Those of every answer first.
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "Identifies the request in the logs: the id that the client sent, or a new one.",
        "required": True,
        "schema": {"type": "string"},
        "example": "0198b2f0-7c3a-7e5f-8a51-3f1de5b6d0aa",
    },
    "RateLimit-Policy": {
        "description": "The active limits: `q` requests in any `w` seconds, for the tenant and for the key or user; "
        "without authentication, failed attempts of the address (draft-ietf-httpapi-ratelimit-headers-09).",
        "schema": {"type": "string"},
        "example": '"tenant";q=600;w=60, "key";q=300;w=60',
    },
    "RateLimit": {
        "description": "What is left of each limit: `r` requests; the limit refills in `t` seconds.",
        "schema": {"type": "string"},
        "example": '"tenant";r=599;t=60, "key";r=299;t=60',
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 17,
    },
    "WWW-Authenticate": {
        "description": "The scheme of credentials (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="pyflow"',
    },
}
#: Bodies that are checked by the compiler of workflows, not by a serializer; operations refer to them.
BODIES: dict[str, dict[str, Any]] = {
    "WorkflowDocument": {
        "type": "object",
        "additionalProperties": {},
        "description": "A workflow document. `GET /api/v1/workflows/schema` returns its JSON Schema.",
    },
    "WorkflowPatch": {
        "type": "object",
        "additionalProperties": {},
        "description": "A JSON Merge Patch (RFC 7396) of a workflow document: `null` removes, lists are replaced.",
    },
}
EVERYWHERE = ("X-Request-ID", "RateLimit-Policy", "RateLimit")


class ProblemItem(serializers.Serializer[Any]):
    """One problem of a request."""

    pointer = serializers.CharField(help_text="JSON Pointer (RFC 6901) into the request.")
    code = serializers.CharField()
    detail = serializers.CharField()
    line = serializers.IntegerField(required=False, help_text="Line in the workflow document, from 1.")
    column = serializers.IntegerField(required=False)
    suggestion = serializers.CharField(required=False)


class Problem(serializers.Serializer[Any]):
    """RFC 9457 problem document."""

    type = serializers.CharField(help_text="The page that explains the problem.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField(help_text="Stable, machine-readable code of the problem.")
    request_id = serializers.CharField()
    errors = ProblemItem(many=True, required=False)  # type: ignore[assignment]
    quota = serializers.CharField(required=False, help_text="Name of the exceeded quota.")
    limit = serializers.IntegerField(required=False)
    used = serializers.IntegerField(required=False)
    resets_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Time at which the quota resets, or null."
    )


class Schema(AutoSchema):
    """Adds the problems that every operation may answer with."""

    def get_override_parameters(self) -> list[Any]:
        """The headers that every operation of a kind takes."""
        parameters = list(super().get_override_parameters())
        if isinstance(self.view, TenantView) and self.method == "POST":
            parameters.append(IDEMPOTENCY_KEY)
        return parameters

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        """The shape of an object; one that refuses unknown fields says so."""
        shape: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        return shape | {"additionalProperties": False} if isinstance(serializer, Strict) else shape

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> dict[str, Any]:
        """The schema of a field; one of any JSON may be null as it is.

        The generator makes "one of anything and null" of it, which null, being both, would not fit.
        """
        schema: dict[str, Any] = super()._map_serializer_field(field, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        if {} in schema.get("oneOf", ()):
            return {name: value for name, value in schema.items() if name != "oneOf"}
        return schema

    # Not `get_response_serializers`: `@extend_schema(responses=…)` replaces that one.
    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        """The view's own responses, and the common problems that it does not name itself."""
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        common = {"406": "Not acceptable", "422": "Not valid", "503": "The database cannot be reached"}
        if self.get_auth():
            common["401"] = "Not authenticated"
        if isinstance(self.view, TenantView):
            common |= {"403": "Not allowed", "429": "Too many requests"} | self._refusals()
            if self.method == "POST":
                common["409"] = "Conflict"
        if self.method in {"POST", "PUT", "PATCH"}:
            common |= {"400": "The body cannot be parsed", "413": "Too large", "415": "Unsupported media type"}
        if "cursor" in self._names_in_query():
            common["400"] = "The cursor is not valid for this list"
        if "{" in self.path:
            common["404"] = "Not found"
        own = {
            code: body["description"] for code, body in bodies.items() if PROBLEM_TYPES[0] in body.get("content", {})
        }
        for code, text in (common | own).items():
            if code not in bodies or code in own:
                response = OpenApiResponse(Problem, description=text)
                bodies[code] = self._get_response_for_code(response, code, PROBLEM_TYPES, direction)  # type: ignore[no-untyped-call]
        for code, body in bodies.items():
            names = [*EVERYWHERE, *self._headers_of(code)]
            references = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
            body["headers"] = references | body.get("headers", {})
        return dict(sorted(bodies.items()))

    def _quotas(self) -> tuple[Quota, ...]:
        return self.view.limited_by.get(self.method, ()) if isinstance(self.view, TenantView) else ()

    def _refusals(self) -> dict[str, str]:
        names = ", ".join(f"`{quota}`" for quota in self._quotas())
        if not names:
            return {}
        return {
            "402": f"A limit of the plan is reached: {names}",
            "403": f"Not allowed, or a limit of the tenant's own is reached: {names}",
        }

    def _headers_of(self, code: str) -> list[str]:
        waits = code in {"429", "503"} or (code in {"402", "403"} and Quota.RUNS_PER_DAY in self._quotas())
        return ["Retry-After"] * waits + ["WWW-Authenticate"] * (code == "401")

    def _names_in_query(self) -> set[str]:
        return {parameter["name"] for parameter in self._get_parameters() if parameter["in"] == "query"}


def complete_components(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Hook of drf-spectacular: the components that operations refer to, and what is sent to webhook endpoints."""
    components = result["components"]
    components["headers"] = HEADERS
    components["schemas"] = dict(sorted({**components["schemas"], **BODIES}.items()))
    result["webhooks"] = webhooks()
    return result


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The security scheme of API keys and access tokens."""

    target_class = "tenants.api.authentication.BearerAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """OpenAPI security scheme object."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "pyf_<env>_<id>_<secret> or JWT"}


class StreamTicketScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The security scheme of tickets for streams."""

    target_class = "events.api.streams.TicketAuthentication"
    name = "streamTicket"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """OpenAPI security scheme object."""
        return {
            "type": "http",
            "scheme": "ticket",
            "description": "A ticket of `POST /api/v1/auth/tickets`, for `Accept: text/event-stream` alone.",
        }
