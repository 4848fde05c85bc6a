"""``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, 13.1)."""

from __future__ import annotations

import hashlib

from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from plumbing.rest.errors import PreconditionFailedError, PreconditionRequiredError

#: For the OpenAPI document: what an answer carries, and what a request that changes it sends back.
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="ETag of the current state."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="The `ETag` of the object as it was read, or `*`.",
)
IF_MATCH_OPTIONAL = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of the object as it was read: 412 if it has changed.",
)


def etag(*parts: object) -> str:
    """A strong entity tag of whatever changes when the object does."""
    digest = hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()
    return f'"{digest[:32]}"'


def check_match(request: Request, current: str | None, *, required: bool) -> None:
    """Check that the caller has seen the present state: ``current`` is its tag, ``None`` if there is no such object.

    Raises ``PreconditionFailedError`` (412), or ``PreconditionRequiredError`` (428) for a request without ``If-Match``
    where it is ``required``. Weak tags never match.
    """
    given = request.headers.get("If-Match")
    if given is None:
        if required:
            raise PreconditionRequiredError("Send `If-Match` with the `ETag` of what you read, or `*` for any state.")
        return
    if current is None or not {"*", current} & set(parse_etags(given)):
        raise PreconditionFailedError(
            "The object has changed since you read it. Read it again, then repeat the change."
        )


def is_known(request: Request, current: str) -> bool:
    """Return whether the caller has this state already (``If-None-Match``): answer 304."""
    tags = parse_etags(request.headers.get("If-None-Match", ""))
    return bool({"*", current} & {tag.removeprefix("W/") for tag in tags})
