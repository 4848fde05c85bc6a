"""The options in a database's URL."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL

from pyflow.core.messages import said
from pyflow.nodes.sql.config import SqlRefusedError


def url_options(url: URL, allowed: frozenset[str]) -> dict[str, Any]:
    """The options of a URL. Most that drivers know name files of this machine or another host to connect to."""
    refused = sorted(set(url.query) - allowed)
    if refused:
        raise SqlRefusedError(f"the URL has options that are not allowed: {said(', '.join(refused), 200)}")
    options: dict[str, Any] = {}
    for name, value in url.query.items():
        if not isinstance(value, str):
            raise SqlRefusedError(f"the URL has the option {name} twice")
        options[name] = value
    return options
