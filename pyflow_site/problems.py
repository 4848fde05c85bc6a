"""Errors as RFC 9457 problem documents. The only place that knows which category of errors is which status."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from plumbing.database.transactions import is_contention
from plumbing.rest.formats import YAML_TYPE, to_json, to_yaml
from pyflow.core.document import make_pointer
from pyflow.core.errors import DefinitionError, ErrorCategory, InputError, PyFlowError
from pyflow_site.outages import is_outage

logger = logging.getLogger(__name__)
PROBLEM_JSON = "application/problem+json"
PROBLEM_YAML = "application/problem+yaml"
#: What ``Retry-After`` says where the database does not answer.
RETRY_SECONDS = 2
DATABASE_UNAVAILABLE = "database_unavailable"
OUTAGE = (
    "The database could not be reached or is too busy. Send the request again after `Retry-After` seconds; "
    "an `Idempotency-Key` prevents that it takes effect twice."
)
INTERNAL = "The server failed to answer the request. Its operator finds the cause in the logs under `request_id`."

STATUS_OF: Mapping[ErrorCategory, int] = {
    ErrorCategory.MALFORMED: status.HTTP_400_BAD_REQUEST,
    ErrorCategory.UNAUTHENTICATED: status.HTTP_401_UNAUTHORIZED,
    ErrorCategory.UPGRADE_NEEDED: status.HTTP_402_PAYMENT_REQUIRED,
    ErrorCategory.FORBIDDEN: status.HTTP_403_FORBIDDEN,
    ErrorCategory.EXHAUSTED: status.HTTP_403_FORBIDDEN,
    ErrorCategory.NOT_FOUND: status.HTTP_404_NOT_FOUND,
    ErrorCategory.CONFLICT: status.HTTP_409_CONFLICT,
    ErrorCategory.GONE: status.HTTP_410_GONE,
    ErrorCategory.PRECONDITION_FAILED: status.HTTP_412_PRECONDITION_FAILED,
    ErrorCategory.TOO_LARGE: status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    ErrorCategory.UNSUPPORTED: status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
    ErrorCategory.INVALID: status.HTTP_422_UNPROCESSABLE_ENTITY,
    ErrorCategory.PRECONDITION_REQUIRED: status.HTTP_428_PRECONDITION_REQUIRED,
    ErrorCategory.RATE_LIMITED: status.HTTP_429_TOO_MANY_REQUESTS,
    ErrorCategory.UNAVAILABLE: status.HTTP_503_SERVICE_UNAVAILABLE,
    ErrorCategory.DATA_LOSS: status.HTTP_500_INTERNAL_SERVER_ERROR,
    ErrorCategory.INTERNAL: status.HTTP_500_INTERNAL_SERVER_ERROR,
}
TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    402: "Plan limit reached",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    410: "Gone",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not valid",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's hook: whatever a view raised, as a problem document."""
    request = context["request"]
    set_rollback()
    body = describe(error)
    finish(body, request)
    is_away = body["code"] == DATABASE_UNAVAILABLE
    headers: dict[str, str] = {}
    if isinstance(error, exceptions.APIException):
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
    if getattr(error, "retry_after", None):
        headers["Retry-After"] = str(error.retry_after)  # type: ignore[attr-defined] # asked on the line above
    if is_away:
        headers["Retry-After"] = str(RETRY_SECONDS)
    if body["status"] == status.HTTP_401_UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="pyflow"')
    if is_away:  # of each request in an outage; a traceback would say nothing more
        logger.error("the database is away: %s %s: %s", request.method, request.path, error)
    elif body["status"] >= 500:
        logger.error("request failed: %s %s", request.method, request.path, exc_info=error)
    accepted = getattr(request, "accepted_media_type", "") or ""
    content_type = PROBLEM_YAML if accepted == YAML_TYPE else PROBLEM_JSON
    return Response(body, status=body["status"], headers=headers, content_type=content_type)


def describe(error: Exception) -> dict[str, Any]:
    """The problem document of an exception, without what depends on the request."""
    if isinstance(error, PyFlowError):
        return _describe_own(error)
    if isinstance(error, exceptions.ValidationError):
        return problem(422, "input_invalid", "The request is not valid.", list(_field_errors(error.detail)))
    if isinstance(error, exceptions.APIException):
        code = error.get_codes()
        return problem(error.status_code, code if isinstance(code, str) else "request_invalid", str(error.detail))
    if isinstance(error, Http404):
        return problem(404, "not_found", "There is no resource at this URL.")
    if isinstance(error, PermissionDenied):
        return problem(403, "forbidden", "The caller is not allowed to do this.")
    if is_outage(error) or is_contention(error):
        return problem(503, DATABASE_UNAVAILABLE, OUTAGE)
    return problem(500, "internal_error", INTERNAL)


def _describe_own(error: PyFlowError) -> dict[str, Any]:
    if error.category is ErrorCategory.INTERNAL:
        return problem(500, "internal_error", INTERNAL)
    detail = str(error)
    if isinstance(error, DefinitionError | InputError):
        what = "workflow" if isinstance(error, DefinitionError) else "input"
        count = len(error.problems)
        detail = f"The {what} has {count} problem{'s' if count != 1 else ''}: {error.problems[0]}"
    return problem(STATUS_OF[error.category], error.code, detail) | error.problem_members()


def documented_errors() -> list[type[PyFlowError]]:
    """List the error classes that the API answers with, of all modules that are loaded, by their code."""
    found: set[type[PyFlowError]] = set()
    waiting: list[type[PyFlowError]] = [PyFlowError]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found.update(cls for cls in subclasses if cls.category is not ErrorCategory.INTERNAL and "code" in vars(cls))
    return sorted(found, key=lambda cls: cls.code)


def problem(status_code: int, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """``{type, title, status, detail, code, errors?}``; the type is the path of its documentation page."""
    body: dict[str, Any] = {
        "type": f"/api/docs/problems#{code}",
        "title": TITLES.get(status_code, "Error"),
        "status": status_code,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = errors
    return body


def finish(body: dict[str, Any], request: Any) -> None:
    """Add what depends on the request: ``instance`` and ``request_id``."""
    body["type"] = request.build_absolute_uri(body["type"]) if _host_is_fine(request) else body["type"]
    body["instance"] = request.path
    body["request_id"] = getattr(request, "request_id", None)


def _host_is_fine(request: Any) -> bool:
    try:
        request.get_host()
    except Exception:  # noqa: BLE001 - a disallowed host is one of the things that are reported here
        return False
    return True


def _field_errors(detail: Any, path: tuple[str | int, ...] = ()) -> Iterator[dict[str, Any]]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _field_errors(value, path if key == "non_field_errors" else (*path, key))
    elif isinstance(detail, list):
        nested = any(isinstance(item, dict | list) for item in detail)
        for i, item in enumerate(detail):
            yield from _field_errors(item, (*path, i) if nested else path)
    else:
        yield {"pointer": make_pointer(path), "code": getattr(detail, "code", "invalid"), "detail": str(detail)}


def _plain(request: HttpRequest, body: dict[str, Any]) -> HttpResponse:
    finish(body, request)
    wants_yaml = YAML_TYPE in request.headers.get("Accept", "")
    content = to_yaml(body) if wants_yaml else to_json(body)
    return HttpResponse(content, status=body["status"], content_type=PROBLEM_YAML if wants_yaml else PROBLEM_JSON)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400: a disallowed host, a malformed request."""
    return _plain(request, problem(400, "bad_request", "The request cannot be understood."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 403."""
    return _plain(request, problem(403, "forbidden", "The caller is not allowed to do this."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404: no route."""
    return _plain(request, problem(404, "not_found", "There is nothing here. The API is described at /api/docs/."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's 500; 503 while the database is away."""
    error = sys.exc_info()[1]
    if error is not None and (is_outage(error) or is_contention(error)):
        response = _plain(request, problem(503, DATABASE_UNAVAILABLE, OUTAGE))
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response
    return _plain(request, problem(500, "internal_error", INTERNAL))
