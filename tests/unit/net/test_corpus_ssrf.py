"""Every case of the corpus of addresses through the whole client: what a URL, a name server or a redirect tries."""

import asyncio
import gzip
import itertools
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from pyflow.core.error_kinds import error_kinds
from pyflow.net.addresses import NetworkPolicy, SSRFError, is_denied
from pyflow.net.http_client import HttpTimeoutError, InvalidRequestError, ResponseTooLargeError, request
from tests.support import corpora
from tests.support.servers.wire import Answer, Wire, response, serving

READ = {"url", "method", "headers", "env", "redirects", "response"}
SECRET_HEADERS = {"authorization", "cookie", "x-api-key"}


@dataclass
class Attempt:
    """A request as a case describes it. ``dns``: each name's answers, one after the other."""

    url: str
    method: str = "POST"
    headers: dict[str, str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    redirects: list[tuple[int, str]] = field(default_factory=list)
    response: str = ""
    dns: dict[str, Any] = field(default_factory=dict)
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)

    @classmethod
    def of(cls, case: corpora.Case) -> "Attempt":
        given = case["input"]
        if not isinstance(given, dict) or corpora.is_text(case):
            given = {"url": corpora.text(case)}
        if unknown := given.keys() - READ:
            corpora.unread(case, f"{', '.join(sorted(unknown))} in the input")
        return cls(**given, dns=case.get("dns", {}), policy=_policy(case))

    @property
    def changes_its_mind(self) -> bool:
        """Whether a name has one answer and then another: the first counts, for good."""
        return any(addresses and isinstance(addresses[0], list) for addresses in self.dns.values())

    def hosts(self) -> list[str]:
        """The hosts of the first request and of each redirect."""
        urls = itertools.accumulate((to for _, to in self.redirects), urljoin, initial=self.url)
        return [(urlsplit(url).hostname or "").rstrip(".") for url in urls]


def _policy(case: corpora.Case) -> NetworkPolicy:
    given = case.get("policy")
    if isinstance(given, dict):  # lists of names and networks that are open
        return NetworkPolicy.of([entry for entries in given.values() for entry in entries])
    return NetworkPolicy()  # a text names the rule that the case is about, which is always on


@corpora.each("ssrf")
async def test_a_case_of_the_corpus_ends_as_it_says(case: corpora.Case, monkeypatch: pytest.MonkeyPatch):
    attempt = Attempt.of(case)
    for name, value in attempt.env.items():
        monkeypatch.setenv(name, value)
    if attempt.response:
        assert case["expect"] == "limit", f"{case['id']}: a response like this has no end"
        await _is_cut_off(case, attempt.response)
        return
    wire = Wire(
        monkeypatch, attempt.dns, [response(f"{status} Moved", b"", Location=to) for status, to in attempt.redirects]
    )
    outcome = await _outcome(attempt)
    # `allow_ignoring_proxy`: allowed, and the rest is looked at every time.
    kinds = {expected.partition("_")[0] for expected in case.get("accept", [case["expect"]])}
    if not kinds <= {"allow", "block"}:
        corpora.unread(case, f"the expectation {case['expect']!r}")
    if not (kinds == {"block"} and attempt.changes_its_mind):
        assert outcome in kinds, case["why"]
    _assert_nothing_leaked(attempt, wire)
    if outcome == "allow":
        assert len(wire.dialled) == 1 + len(attempt.redirects)


async def _outcome(attempt: Attempt) -> str:
    try:
        answer = await request(
            attempt.method, attempt.url, headers=attempt.headers, json_body={}, policy=attempt.policy
        )
    except (SSRFError, InvalidRequestError, httpx2.TransportError):
        # The last: a name that nobody knows, or an answer that is none. What matters is what was dialled until then.
        return "block"
    assert answer.status == 200
    return "allow"


def _assert_nothing_leaked(attempt: Attempt, wire: Wire) -> None:
    for host, _ in wire.dialled:
        assert not is_denied(ip_address(host)) or attempt.policy != NetworkPolicy()
    secrets = [value for name, value in (attempt.headers or {}).items() if name.lower() in SECRET_HEADERS]
    if secrets:
        hosts = attempt.hosts()
        for to, sent in zip(hosts, wire.sent, strict=False):
            assert to == hosts[0] or not any(value.encode() in sent for value in secrets)


async def _is_cut_off(case: corpora.Case, words: str) -> None:
    answer = next((answer for pattern, answer in ENDLESS if re.search(pattern, words, re.IGNORECASE)), None)
    if answer is None:
        corpora.unread(case, f"the response {words!r}")
    async with serving(answer) as server:
        with pytest.raises((HttpTimeoutError, ResponseTooLargeError, httpx2.RemoteProtocolError)) as caught:
            await request("GET", server.url, timeout=0.5, max_bytes=1_000_000, allow_private_networks=True)
    if isinstance(caught.value, HttpTimeoutError):
        assert "within 0.5 s" in str(caught.value)
        assert {"timeout", "TimeoutError", "TimeoutException", "http_timeout"} <= error_kinds(caught.value)


def _repeating(head: bytes, part: bytes, pause: float = 0.0) -> Answer:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


async def _silent(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read()


OK_HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = response(body=gzip.compress(b"\0" * 50_000_000), Content_Encoding="gzip")
#: What the words of a response mean, the first that fits.
ENDLESS: list[tuple[str, Answer | bytes]] = [
    (r"header.*(per second|slow|drip)", _repeating(OK_HEAD + b"X: ", b"x", 0.02)),
    (r"per second|slow|drip|trickl", _repeating(OK_HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.02)),
    (r"never|hang|silent|no answer", _silent),
    (r"gzip|deflate|bomb|compress", BOMB),
    (r"header", _repeating(OK_HEAD, b"X-Long: " + b"x" * 8000 + b"\r\n")),
    (r"content-length", OK_HEAD + b"Content-Length: 99999999999\r\n\r\n"),
    (r"chunked", _repeating(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")),
    (
        r"\b[GMT]i?B\b|endless|infinite|unbounded|for ever|forever|large|huge",
        _repeating(OK_HEAD + b"\r\n", b"x" * 65536),
    ),
]
