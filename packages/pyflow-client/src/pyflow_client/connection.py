"""Configuration that both clients share."""

from __future__ import annotations

from typing import TypedDict
from urllib.parse import urlsplit

import httpx2

from pyflow_client.calls import AnswerT, Call, Param

USER_AGENT = "pyflow-client/2.0"


class Options(TypedDict):
    """Keyword arguments that ``httpx2.Client`` and ``httpx2.AsyncClient`` share."""

    base_url: str
    headers: dict[str, str]
    timeout: float


def options(base_url: str, api_key: str | None, timeout: float) -> Options:
    """The arguments for a server.

    Raises ``ValueError`` unless ``base_url`` is an address of HTTP, and for a key that no header can hold.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"base_url is something like 'https://pyflow.example', not {base_url!r}")
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    if api_key is not None:
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            # Not shown: what httpx2 says of such a header holds all of it.
            raise ValueError("the API key holds white space, a line end or a character beyond ASCII")
        headers["Authorization"] = f"Bearer {api_key}"
    return {"base_url": base_url.rstrip("/") + "/", "headers": headers, "timeout": timeout}


class RequestArguments(TypedDict):
    """Keyword arguments of ``build_request``, which both of httpx2's clients have."""

    method: str
    url: str
    params: dict[str, Param] | None
    content: bytes | None
    headers: dict[str, str]
    timeout: float


def arguments(call: Call[AnswerT], timeout: float) -> RequestArguments:
    """Return httpx2's arguments for ``call``, which may take ``timeout`` seconds and those that it asked for."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params) or None,
        "content": call.content,
        "headers": dict(call.headers) | ({} if call.content is None else {"Content-Type": call.content_type}),
        "timeout": timeout + call.patience,
    }


def no_answer(error: httpx2.RequestError) -> str:
    """The message of a ``ConnectionFailed``."""
    what = str(error) or type(error).__name__
    return f"no answer from {error.request.url.host}:{_port(error.request.url)}: {what}"


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
