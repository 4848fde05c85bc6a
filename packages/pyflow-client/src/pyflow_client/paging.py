"""Reading a list page by page, without I/O: what to ask for next, and what has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

from pyflow_client.calls import Call, Filter, query
from pyflow_client.models import Page

ItemT = TypeVar("ItemT")


class Pages(Generic[ItemT]):
    """All pages of one list: ``call()`` and ``take()`` in turn until ``done``."""

    def __init__(self, path: str, answer: type[Page[ItemT]], filters: Mapping[str, Filter] | None = None) -> None:
        self._path, self._answer, self._params = path, answer, query(filters or {})
        self.done = False

    def call(self) -> Call[Page[ItemT]]:
        """The request of the next page."""
        return Call("GET", self._path, self._answer, params=self._params)

    def take(self, page: Page[ItemT]) -> list[ItemT]:
        """Return the items of a page."""
        cursor = parse_qs(urlsplit(page.next or "").query).get("cursor")
        if cursor:
            self._params["cursor"] = cursor[0]
        self.done = not cursor
        return page.results
