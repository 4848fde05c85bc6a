"""For the OpenAPI document: problems that only some operations answer with."""

from __future__ import annotations

from collections.abc import Mapping

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

Responses = Mapping[tuple[int, str], OpenApiResponse]


def problem(status: int, description: str) -> Responses:
    """One entry of ``responses``."""
    return {(status, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description=description)}


MISSED = problem(412, "The object has changed since it was read")
UNCONDITIONAL = problem(428, "`If-Match` is missing")
