"""Interprets responses: returns the model that the call promises, or raises the error that the server reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from pyflow_client.calls import Call
from pyflow_client.errors import CLASS_OF, EventsRemoved, ProblemError, UnexpectedAnswer
from pyflow_client.models import ProblemItem, Text

AnswerT = TypeVar("AnswerT", bound=BaseModel)
_SHOWN = 200


def understand(call: Call[AnswerT], response: httpx2.Response) -> AnswerT:
    """The answer to ``call``. Raises ``ProblemError`` or ``UnexpectedAnswer``."""
    if not response.is_success and response.status_code not in call.accepts:
        raise problem(response)
    try:
        if issubclass(call.answer, Text):
            return call.answer(response.text)
        return call.answer.model_validate_json(response.content or b"{}")
    except ValidationError as error:
        if not response.is_success:  # accepted, but from a proxy in front
            raise problem(response) from None
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"])) or "body"
        raise UnexpectedAnswer(
            f"{call!r} was answered with something else than expected: {where}: {first['msg']}"
        ) from None


def problem(response: httpx2.Response) -> ProblemError:
    """The error of an unsuccessful answer, whether or not it is a problem document."""
    body = _json_object(response)
    status = response.status_code
    error = CLASS_OF.get(status, ProblemError)(
        status=status,
        code=str(body.get("code") or f"http_{status}"),
        detail=str(body.get("detail") or response.text[:_SHOWN].strip() or response.reason_phrase),
        errors=list(_items(body.get("errors"))),
        request_id=body.get("request_id") or response.headers.get("X-Request-ID"),
        retry_after=retry_after(response.headers),
    )
    if isinstance(error, EventsRemoved):
        error.oldest = str(body.get("oldest") or "")
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now that ``Retry-After`` asks for, as a number or as a date (RFC 9110 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone is in GMT: HTTP has no other.
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _json_object(response: httpx2.Response) -> dict[str, Any]:
    if "json" not in response.headers.get("Content-Type", ""):
        return {}
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _items(errors: Any) -> list[ProblemItem]:
    items = []
    for entry in errors if isinstance(errors, list) else ():
        try:
            items.append(ProblemItem.model_validate(entry))
        except ValidationError:
            items.append(ProblemItem(code="unknown", detail=str(entry)[:_SHOWN]))
    return items
