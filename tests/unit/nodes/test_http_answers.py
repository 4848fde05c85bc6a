"""The `http` node and servers that answer in awkward ways."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from pyflow.core.ports import MappingSecrets
from pyflow.core.result import NodeRun
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from tests.unit.nodes.web import Asked, Reply, Web, node, serving

JSON = ("Content-Type", "application/json")


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


async def ask(web: Web, path: str = "/", **config: Any) -> NodeRun:
    return await node("http", {"url": f"{web.url}{path}", "allow_private_networks": True, **config})


async def output(web: Web, path: str = "/", **config: Any) -> Any:
    ended = await ask(web, path, **config)
    assert ended.error is None, ended.error.message
    json.dumps(ended.output, allow_nan=False)
    return ended.output


def error_of(ended: NodeRun) -> tuple[str, str]:
    assert ended.error is not None, ended.output
    return ended.error.code, ended.error.message


# --- headers


async def test_a_header_value_is_sent_in_utf_8(web: Web):
    await output(web, headers={"X-Name": "Zoë 🙂"})
    assert web.asked[0].headers["x-name"].encode("latin-1").decode() == "Zoë 🙂"


@pytest.mark.parametrize("value", ["a\ud800b", "a\nb"])
async def test_a_header_value_that_cannot_be_sent_names_the_header(web: Web, value: str):
    code, message = error_of(await ask(web, headers={"X-Name": value}))
    assert (code, "X-Name" in message, web.asked) == ("invalid_request", True, [])


async def test_repeated_headers_are_distinguished(web: Web):
    sent = [("Set-Cookie", "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT"), ("Set-Cookie", "b=2"), ("X-One", "1, 2")]
    web.answer = lambda asked: Reply({}, headers=sent)
    answer = await output(web)
    assert answer["header_values"]["set-cookie"] == [value for name, value in sent if name == "Set-Cookie"]
    assert answer["header_values"]["x-one"] == ["1, 2"]
    assert answer["headers"]["set-cookie"].startswith("a=1; ")


# --- cookies


def redirecting(*steps: tuple[str, list[tuple[str, str]]]) -> Any:
    """Answers the first requests with redirects that set cookies."""
    left = list(steps)

    def answer(asked: Asked) -> Reply:
        if not left:
            return Reply({"cookie": asked.headers.get("cookie")})
        location, headers = left.pop(0)
        return Reply(b"", 302, [("Location", location), *headers])

    return answer


@pytest.mark.parametrize(
    ("set_cookie", "to", "sent"),
    [
        ("sid=xyz; Path=/", "/in", "sid=xyz"),
        ("sid=xyz", "/in", "sid=xyz"),
        ("sid=xyz; Path=/in", "/in/side", "sid=xyz"),
        ("sid=xyz; Path=/in", "/inside", None),
        ("sid=xyz; Secure", "/in", None),
        ("sid=xyz; Domain=example.com", "/in", None),
        ("sid=xyz; Max-Age=0", "/in", None),
        ("sid=xyz; Expires=Wed, 21 Oct 2015 07:28:00 GMT", "/in", None),
    ],
)
async def test_a_cookie_of_a_redirect_goes_where_it_is_for(web: Web, set_cookie: str, to: str, sent: str | None):
    web.answer = redirecting((to, [("Set-Cookie", set_cookie)]))
    assert (await output(web, "/login"))["body"] == {"cookie": sent}


async def test_cookies_of_several_redirects_join_those_of_the_author(web: Web):
    steps = [("/2", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]), ("/3", [("Set-Cookie", "b=3")])]
    web.answer = redirecting(*steps)
    sent = (await output(web, "/1", headers={"Cookie": "own=x; a=0"}))["body"]["cookie"]
    assert sorted(sent.split("; ")) == ["a=1", "b=3", "own=x"]


async def test_no_cookie_goes_to_another_host(web: Web):
    elsewhere = web.url.replace("127.0.0.1", "localhost")
    web.answer = redirecting((f"{elsewhere}/in", [("Set-Cookie", "sid=xyz; Path=/")]))
    assert (await output(web, "/login", headers={"Cookie": "own=x"}))["body"] == {"cookie": None}


async def test_no_cookie_goes_to_another_request(web: Web):
    web.answer = redirecting(("/in", [("Set-Cookie", "sid=xyz")]))
    await output(web, "/login")
    assert (await output(web))["body"] == {"cookie": None}


# --- numbers


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ('{"a": {"b": [1, NaN]}}', "NaN, which JSON does not have, at body.a.b[1]"),
        ('{"a": 1, "b": -Infinity}', "-Infinity, which JSON does not have, at body.b"),
        ('{"e": 1e400}', "Infinity, which JSON does not have, at body.e"),
        ('{"a": "\\ud83d"}', "a lone surrogate, which cannot be stored, at body.a"),
    ],
)
async def test_what_is_not_json_in_an_answer_is_named_by_its_place(web: Web, sent: str, said: str):
    web.answer = lambda asked: Reply(sent.encode(), headers=[JSON])
    code, message = error_of(await ask(web))
    assert code == "output_not_json"
    assert message.endswith(said)


@pytest.mark.parametrize("response", ["auto", "json"])
async def test_numbers_that_are_none_are_null_where_the_author_says_so(web: Web, response: str):
    web.answer = lambda asked: Reply(b'{"a": NaN, "b": [1e400, 1.5], "c": 12345678901234567890123}', headers=[JSON])
    answer = await output(web, non_finite="null", response=response)
    assert answer["body"] == {"a": None, "b": [None, 1.5], "c": 12345678901234567890123}


# --- bodies

COMPRESS = zlib.compressobj(9, zlib.DEFLATED, -15)
BODIES: dict[str, tuple[bytes, str | None, Any]] = {
    "latin-1": ("café".encode("latin-1"), "text/plain; charset=iso-8859-1", "café"),
    "an unknown charset": ("café".encode(), "text/plain; charset=utf8mb4", "café"),
    "a codec that is no charset": ("café".encode(), "text/plain; charset=hex", "café"),
    "a codec of escapes": (b"caf\\u00e9", "text/plain; charset=unicode_escape", "caf\\u00e9"),
    "punycode": ("café".encode(), "text/plain; charset=idna", "café"),
    "a charset that is no name": ("café".encode(), 'text/plain; charset="\x7f\x7f"', "café"),
    "no charset": ("café".encode("latin-1"), "text/plain", "caf\ufffd"),
    "utf-16": (json.dumps({"a": "café"}, ensure_ascii=False).encode("utf-16"), "application/json", {"a": "café"}),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', "application/json", {"a": 1}),
    "a name twice": (b'{"a": 1, "a": 2}', "application/json", {"a": 2}),
    "a vendor's type": (b'{"a": 1}', "application/vnd.acme.v1+json", {"a": 1}),
    "no type": (b'{"a": 1}', None, {"a": 1}),
    "lines of JSON": (b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson", '{"a": 1}\n{"a": 2}\n'),
    "nothing": (b"", "application/json", ""),
    "HTML as JSON": (b"<html>", "application/json", "<html>"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_is_read_whatever_the_server_calls_it(web: Web, case: str):
    sent, kind, body = BODIES[case]
    web.answer = lambda asked: Reply(sent, headers=[] if kind is None else [("Content-Type", kind)])
    assert (await output(web))["body"] == body


async def test_compressed_bodies(web: Web):
    web.answer = lambda asked: Reply(gzip.compress(b"0" * 60_000_000), headers={"Content-Encoding": "gzip"})
    assert error_of(await ask(web))[0] == "response_too_large"
    web.answer = lambda asked: Reply(b"not gzip", headers={"Content-Encoding": "gzip"})
    assert error_of(await ask(web))[1]
    raw = COMPRESS.compress(b'{"a":1}') + COMPRESS.flush()
    web.answer = lambda asked: Reply(raw, headers={"Content-Encoding": "deflate"})
    assert (await output(web))["body"] == {"a": 1}


@pytest.mark.parametrize("location", ["/café?n=ü", "caf%C3%A9?n=%C3%BC"])
async def test_a_redirect_may_be_written_in_utf_8(web: Web, location: str):
    web.answer = redirecting((location.encode().decode("latin-1"), []))
    await output(web, "/start")
    assert web.asked[-1].path == "/caf%C3%A9?n=%C3%BC"


async def test_a_redirect_without_a_place_is_its_own_answer(web: Web):
    web.answer = lambda asked: Reply(b"", 302)
    code, message = error_of(await ask(web))
    assert (code, "302" in message) == ("http_status", True)


# --- answers that fail


FAILING = """
version: 2
name: asks
nodes:
  - id: ask
    type: http
    isolation: %s
    config: {url: "%s", allow_private_networks: true, headers: {X-Key: "{{ secrets.KEY }}"}}
on_failure:
  - id: report
    type: template
    config: {template: {kind: "{{ run.error.kind }}", status: "{{ run.error.status }}", body: "{{ run.error.body }}"}}
"""


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_the_body_of_a_failed_answer_is_in_the_error_and_masked(web: Web, isolation: str):
    web.answer = lambda asked: Reply({"code": "locked", "you_sent": "sesame-open"}, 409, [JSON])
    engine = WorkflowEngine(secrets=MappingSecrets({"KEY": "sesame-open"}))
    result = await engine.execute(parse_workflow(FAILING % (isolation, web.url)))
    seen = {"kind": "http_409", "status": 409, "body": {"code": "locked", "you_sent": "***"}}
    assert result.nodes["report"].output == seen
    assert result.nodes["ask"].error.as_record().items() >= seen.items()
    assert "sesame" not in json.dumps(result.as_dict())


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"x" * 20_000, 8192),
        (b"y" * 1_000_000, 8192),
        (json.dumps(["z" * 9000]).encode(), 8192),
        (b"\x00\x01", None),
        (b"", 0),
    ],
)
async def test_the_recorded_body_of_a_failed_answer_is_bounded(web: Web, content: bytes, kept: int | None):
    web.answer = lambda asked: Reply(content, 500)
    body = (await ask(web)).error.body
    assert (None if body is None else len(body)) == kept


async def test_an_error_without_an_answer_has_a_kind_and_no_body():
    with serving() as gone:
        pass
    ended = await ask(gone)
    assert (ended.error.kind, ended.error.status, ended.error.body) == ("network", None, None)
