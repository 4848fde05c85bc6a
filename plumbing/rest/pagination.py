"""Pages by cursor: stable while rows are inserted, and of no use to anybody else.

A cursor is the place of a row in an order, signed together with the tenant and the list it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.core import signing
from django.db import models
from django.db.models import Q
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.errors import CursorError
from plumbing.rest.serializers import Strict

ModelT = TypeVar("ModelT", bound=models.Model)
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_SALT = "pyflow.cursor"


class PageQuery(Strict):
    """Query parameters of a paginated list."""

    limit = serializers.IntegerField(required=False, default=DEFAULT_LIMIT, min_value=1, max_value=MAX_LIMIT)
    cursor = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        help_text="The value of `next` or `previous` of another page of the same list.",
    )


@dataclass(frozen=True, slots=True)
class Page(Generic[ModelT]):
    """Some rows of a list, and the addresses of the pages around them."""

    rows: list[ModelT]
    next: str | None
    previous: str | None

    def response(self, show: Callable[[ModelT], Any], **more: Any) -> Response:
        """``{results, next, previous}`` with ``Link`` headers (RFC 8288)."""
        links = {"next": self.next, "prev": self.previous}
        header = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items() if url is not None)
        body = {"results": [show(row) for row in self.rows], "next": self.next, "previous": self.previous, **more}
        return Response(body, headers={"Link": header} if header else {})


def paginate(
    request: Request,
    rows: models.QuerySet[ModelT],
    query: Mapping[str, Any],
    *,
    tenant_id: UUID,
    order: Sequence[str],
    beside: Sequence[models.QuerySet[ModelT]] = (),
) -> Page[ModelT]:
    """A page of ``rows`` in the given order, whose last field must be unique and all of which must be not null.

    ``beside``: rows of other tables that stand among them; the order is that of one field then. ``query`` is a
    validated ``PageQuery``. Raises ``CursorError``.
    """
    scope = [str(tenant_id), request.path, list(order), _filters(request)]
    backwards, place = _read(query["cursor"], scope, len(order))
    steps = [_turned(field) for field in order] if backwards else list(order)
    found: list[ModelT] = []
    for table in (rows, *beside):
        there = table if place is None else table.filter(_beyond(steps, place))
        found += there.order_by(*steps)[: query["limit"] + 1]
    if beside:
        found.sort(key=lambda row: getattr(row, order[0].lstrip("-")), reverse=steps[0].startswith("-"))
    more, found = len(found) > query["limit"], found[: query["limit"]]
    if backwards:
        found.reverse()

    def address(row: ModelT, *, back: bool) -> str:
        place = [_plain(getattr(row, field.lstrip("-"))) for field in order]
        cursor = signing.dumps([back, place, scope], salt=_SALT, compress=True)
        kept = [(name, value) for name, value in _parameters(request) if name != "cursor"]
        return request.build_absolute_uri(f"{request.path}?{urlencode([*kept, ('cursor', cursor)])}")

    after = more if not backwards else place is not None
    before = more if backwards else place is not None
    return Page(
        found,
        address(found[-1], back=False) if found and after else None,
        address(found[0], back=True) if found and before else None,
    )


def _read(cursor: str, scope: list[Any], fields: int) -> tuple[bool, list[Any] | None]:
    if not cursor:
        return False, None
    try:
        backwards, place, its_scope = signing.loads(cursor, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        raise CursorError("The cursor is not valid. Use the `next` or `previous` of a page.") from None
    if its_scope != scope or len(place) != fields:
        raise CursorError("The cursor belongs to another list, order or filter. Start again without a cursor.")
    return backwards, place


def _filters(request: Request) -> list[list[str]]:
    return [[name, value] for name, value in _parameters(request) if name not in {"cursor", "limit"}]


def _parameters(request: Request) -> list[tuple[str, str]]:
    return sorted((name, value) for name, values in request.query_params.lists() for value in values)


def _turned(field: str) -> str:
    return field[1:] if field.startswith("-") else f"-{field}"


def _beyond(order: Sequence[str], place: Sequence[Any]) -> Q:
    """Rows after ``place``: greater in the first field, or equal there and after it in the rest."""
    condition, equal = Q(), Q()
    for field, value in zip(order, place, strict=True):
        name = field.lstrip("-")
        comparison = "lt" if field.startswith("-") else "gt"
        condition |= equal & Q(**{f"{name}__{comparison}": value})
        equal &= Q(**{name: value})
    return condition


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str) else str(value)
