"""The outgoing client, against real local servers. The corpus is in `test_corpus_ssrf.py`."""

import asyncio
import gzip
import json
import time
from typing import Any

import httpcore2
import httpx
import httpx2
import pytest
import respx

from pyflow.core.error_kinds import error_kinds
from pyflow.execution.retry import RetryPolicy
from pyflow.net import http_client
from pyflow.net.addresses import NetworkPolicy, SSRFError, current_policy
from pyflow.net.http_client import (
    HttpStatusError,
    InvalidRequestError,
    ResponseTooLargeError,
    TooManyRedirectsError,
    request,
)
from tests.support.servers.wire import OK, Wire, response, serving


async def test_every_address_of_a_name_has_to_be_good(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, {"mixed.test": ["1.1.1.1", "2606:4700::1", "127.0.0.1"]}, [])
    with pytest.raises(SSRFError, match=r"mixed\.test resolves to 127\.0\.0\.1"):
        await request("GET", "http://mixed.test/")
    assert wire.dialled == []


async def test_a_name_is_resolved_once_so_that_it_cannot_be_rebound(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, {"ok.test": ["1.1.1.1"]}, [])
    await request("GET", "http://ok.test/")
    assert (wire.looked_up, wire.dialled) == (["ok.test"], [("1.1.1.1", 80)])


async def test_an_unknown_name_is_a_network_failure(monkeypatch: pytest.MonkeyPatch):
    Wire(monkeypatch, {}, [])
    with pytest.raises(httpx2.ConnectError, match=r"gone\.test cannot be resolved") as caught:
        await request("GET", "http://gone.test/")
    assert "network" in error_kinds(caught.value)
    assert http_client.is_network_failure(caught.value)


async def test_the_second_address_is_tried_when_the_first_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, {"two.test": ["1.1.1.1", "1.0.0.1"]}, [])
    answering = httpcore2.AnyIOBackend.connect_tcp

    async def first_is_down(backend: Any, host: str, *args: Any) -> httpcore2.AsyncNetworkStream:
        if host == "1.1.1.1":
            raise httpcore2.ConnectError("down")
        return await answering(backend, host, *args)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", first_is_down)
    assert (await request("GET", "http://two.test/")).status == 200
    assert wire.dialled == [("1.0.0.1", 80)]


async def test_the_original_host_is_sent_to_the_checked_address():
    async with serving(OK) as server:
        port = server.url.rsplit(":", 1)[1].rstrip("/")
        policy = NetworkPolicy.of(["localhost"])
        await request("GET", f"http://localhost:{port}/x?y=z", policy=policy)
        assert server.header("host") == f"localhost:{port}"
        assert server.heads[0].startswith(b"GET /x?y=z HTTP/1.1\r\n")


async def test_sni_is_the_name_not_the_address(monkeypatch: pytest.MonkeyPatch):
    Wire(monkeypatch, {"ok.test": ["1.1.1.1"]}, [])
    names: list[str | None] = []

    async def start_tls(stream: Any, ssl_context: Any, server_hostname: str | None = None, **_: Any) -> Any:
        names.append(server_hostname)
        return stream

    monkeypatch.setattr(httpcore2.AsyncMockStream, "start_tls", start_tls)
    await request("GET", "https://ok.test/")
    assert names == ["ok.test"]


async def test_a_redirect_to_another_origin_takes_no_credentials_along():
    async with serving(OK) as other:
        async with serving(response("302 Found", b"", Location=other.url)) as first:
            headers = {"Authorization": "Bearer s", "X-Api-Key": "s", "Cookie": "a=s", "Accept": "text/plain"}
            await request("GET", first.url, headers=headers, allow_private_networks=True)
        assert first.header("authorization") == "Bearer s"
        assert [other.header(name) for name in ("authorization", "x-api-key", "cookie")] == [None, None, None]
        assert other.header("accept") == "text/plain"


async def test_a_redirect_within_an_origin_keeps_them():
    async def answer(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if b"GET /new" in head else response("301 Moved", b"", Location="/new"))

    async with serving(answer) as server:
        got = await request("GET", server.url, headers={"X-Api-Key": "s"}, allow_private_networks=True)
        assert got.url == server.url + "new"
        assert server.header("x-api-key") == "s"


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [(301, "POST", "GET", b""), (302, "POST", "GET", b""), (303, "PUT", "GET", b""), (307, "POST", "POST", b'{"a":1}'),
     (308, "PUT", "PUT", b'{"a":1}'), (303, "HEAD", "HEAD", b'{"a":1}'), (302, "PUT", "PUT", b'{"a":1}')],
)  # fmt: skip
async def test_methods_after_a_redirect_follow_rfc_9110(status: int, method: str, then: str, body: bytes):
    async def answer(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = b"HTTP/1.1 204 No Content\r\n\r\n"
        writer.write(end if b" /new " in head else response(f"{status} Moved", b"", Location="/new"))

    async with serving(answer) as server:
        await request(method, server.url, json_body={"a": 1}, allow_private_networks=True)
        assert server.heads[1].startswith(then.encode() + b" /new ")
        assert server.bodies[1] == body


async def test_endless_redirects_end():
    async with serving(response("302 Found", b"", Location="/")) as server:
        with pytest.raises(TooManyRedirectsError):
            await request("GET", server.url, allow_private_networks=True)
        assert len(server.heads) == http_client.MAX_REDIRECTS + 1


async def test_redirects_can_be_left_to_the_caller():
    async with serving(response("302 Found", b"", Location="http://169.254.169.254/")) as server:
        got = await request("GET", server.url, allow_private_networks=True, follow_redirects=False)
        assert got.status == 302


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Upgrade", "TE"])
async def test_headers_that_frame_the_message_are_refused(name: str):
    with pytest.raises(SSRFError, match=name):
        await request("GET", "http://1.1.1.1/", headers={name: "1"})


@pytest.mark.parametrize(
    "options",
    [{"headers": {"X": "a\r\nY: b"}}, {"headers": {"X\r\n": "a"}}, {"headers": {"": "a"}}, {"headers": {"X": "\ud800"}},
     {"method": "GET / HTTP/1.1\r\nX: y"}, {"method": "CONNECT"}, {"method": ""}, {"json_body": float("nan")},
     {"json_body": object()}, {"json_body": 1, "content": b""}, {"headers": [("a", "b")]}],
)  # fmt: skip
async def test_what_cannot_be_sent_is_refused(options: dict[str, Any]):
    with pytest.raises(InvalidRequestError):
        await request(**{"method": "GET", "url": "http://1.1.1.1/"} | options)


async def test_a_large_response_is_refused_by_its_declared_length():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n") as server:
        with pytest.raises(ResponseTooLargeError):
            await request("GET", server.url, allow_private_networks=True, timeout=5)


async def test_bytes_are_counted_as_they_come():
    async def endless(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(endless) as server:
        with pytest.raises(ResponseTooLargeError):
            await request("GET", server.url, max_bytes=1_000_000, allow_private_networks=True, timeout=10)


async def test_a_compression_bomb_counts_by_what_it_becomes():
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with serving(response(body=bomb, Content_Encoding="gzip")) as server:
        with pytest.raises(ResponseTooLargeError):
            await request("GET", server.url, max_bytes=1_000_000, allow_private_networks=True)
        got = await request("GET", server.url, max_bytes=60_000_000, allow_private_networks=True)
        assert len(got.content) == 50_000_000


async def test_connections_are_reused_within_a_policy_and_never_across():
    async with serving(OK) as server:
        for _ in range(3):
            await request("GET", server.url, allow_private_networks=True)
        assert server.connections == 1
        with pytest.raises(SSRFError):
            await request("GET", server.url)
        await request("GET", server.url, policy=NetworkPolicy.of(["127.0.0.0/8"]))
        assert server.connections == 2


async def test_many_policies_keep_a_bounded_number_of_pools():
    async with serving(OK) as server:
        for number in range(http_client.MAX_POLICIES + 10):
            await request("GET", server.url, policy=NetworkPolicy.of(["127.0.0.1/32", f"host{number}.example"]))
        assert server.connections == http_client.MAX_POLICIES + 10
        assert len(http_client._pools._loops[asyncio.get_running_loop()]) == http_client.MAX_POLICIES


def test_each_event_loop_has_connections_of_its_own_and_closes_them():
    async def main() -> int:
        async with serving(OK) as server:
            return (await request("GET", server.url, allow_private_networks=True)).status

    # A connection left open would be a ResourceWarning, which fails the test.
    assert [asyncio.run(main()), asyncio.run(main())] == [200, 200]


async def test_no_cookie_is_kept():
    async with serving(response(Set_Cookie="a=b; Path=/")) as server:
        for _ in range(2):
            await request("GET", server.url, allow_private_networks=True)
        assert server.header("cookie") is None


async def test_the_policy_of_the_run_decides():
    async with serving(OK) as server:
        token = current_policy.set(NetworkPolicy(permit_private_networks=False))
        try:
            with pytest.raises(SSRFError):
                await request("GET", server.url, allow_private_networks=True)
        finally:
            current_policy.reset(token)


@pytest.mark.parametrize(("status", "after"), [(503, 7.0), (429, 7.0), (500, None)])
async def test_a_status_error_says_when_to_come_back(status: int, after: float | None):
    async with serving(response(f"{status} No", b"{}", Retry_After="7")) as server:
        got = await request("GET", server.url, allow_private_networks=True)
        with pytest.raises(HttpStatusError, match=f"{status} No") as caught:
            got.raise_for_status()
        assert caught.value.retry_after == after
        assert {f"http_{status}", f"http_{status // 100}xx", "HTTPStatusError"} <= error_kinds(caught.value)
        assert RetryPolicy(initial_interval=1).delay(1, caught.value) == (after or 1)


def test_a_status_error_is_what_v1_code_catches():
    got = http_client.HttpResponse(404, "Not Found", {}, b"{}", "http://x/")
    for kind in (httpx.HTTPStatusError, httpx2.HTTPStatusError, HttpStatusError):
        with pytest.raises(kind) as caught:
            got.raise_for_status()
        assert caught.value.response.status_code == 404


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("0", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("9" * 40, 86400.0), ("-1", None), ("soon", None),
     (None, None), ("1.5", None), ("Wed, 99 Oct 2015", None)],
)  # fmt: skip
def test_retry_after_is_read_by_rfc_9110(header: str | None, seconds: float | None):
    assert http_client._retry_after(header) == seconds


def test_retry_after_may_be_a_date():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
    seconds = http_client._retry_after(date)
    assert seconds is not None
    assert 3000 < seconds <= 3600


async def test_a_body_is_json_where_it_is_json_and_text_elsewhere():
    for body, data in [(b'{"a": 1}', {"a": 1}), (b"plain", "plain"), (b"", ""), (b"[" * 100_000, "[" * 100_000)]:
        async with serving(response(body=body)) as server:
            assert (await request("GET", server.url, allow_private_networks=True)).data() == data
    async with serving(response(body="é".encode("latin-1"), Content_Type="text/plain; charset=iso-8859-1")) as server:
        assert (await request("GET", server.url, allow_private_networks=True)).data() == "é"


async def test_json_is_sent_as_json():
    async with serving(OK) as server:
        await request("POST", server.url, json_body={"ü": [1]}, headers={"X-N": 5}, allow_private_networks=True)
        assert json.loads(server.bodies[0]) == {"ü": [1]}
        assert (server.header("content-type"), server.header("x-n")) == ("application/json", "5")


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
    ids=["none", "noise", "part"],
)
async def test_a_broken_answer_is_a_network_failure(answer: bytes):
    async def broken(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with serving(broken) as server:
        with pytest.raises(httpx2.TransportError) as caught:
            await request("GET", server.url, allow_private_networks=True)
        assert http_client.is_network_failure(caught.value)


async def test_a_transport_mocked_by_pytest_httpx2_needs_no_names(httpx2_mock: respx.Router):
    route = httpx2_mock.post("https://api.example.com/orders").respond(201, json={"id": 7})
    got = await request("POST", "https://api.example.com/orders", json_body={"n": 1})
    assert (got.status, got.data()) == (201, {"id": 7})
    assert json.loads(route.calls.last.request.content) == {"n": 1}
    with pytest.raises(SSRFError):
        await request("GET", "http://localhost/")


async def test_a_transport_mocked_at_httpx2_needs_no_names(monkeypatch: pytest.MonkeyPatch):
    async def answer(_: object, sent: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"url": str(sent.url)})

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    assert (await request("GET", "https://api.example.com/")).data() == {"url": "https://api.example.com/"}
