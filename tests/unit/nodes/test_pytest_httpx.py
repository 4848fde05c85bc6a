"""v1 users mock the requests of their workflows with pytest-httpx, too, which patches httpx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from pyflow.core.context import ExecutionContext
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.http.node import HttpNode

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

pytest_plugins = ["pytest_httpx"]

CONTEXT = ExecutionContext(workflow_name="w", run_id="r")
RATES = "https://api.no-such-host.example/rates"


async def test_it_answers_the_http_node_without_dns(httpx_mock: HTTPXMock):
    httpx_mock.add_response(url=RATES, json={"rate": 1.5}, headers={"X-From": "mock"})
    result = await HttpNode().execute({"url": RATES}, CONTEXT)
    assert (result["status"], result["body"], result["headers"]["x-from"]) == (200, {"rate": 1.5}, "mock")


async def test_it_matches_method_headers_and_body(httpx_mock: HTTPXMock):
    httpx_mock.add_response(method="POST", url=RATES, match_headers={"X-To": "bank"}, match_json={"a": 1}, text="done")
    config = {"url": RATES, "method": "POST", "headers": {"X-To": "bank"}, "body": {"a": 1}}
    assert (await HttpNode().execute(config, CONTEXT))["body"] == "done"
    sent = httpx_mock.get_request()
    assert sent is not None
    assert (sent.method, sent.read()) == ("POST", b'{"a":1}')


async def test_it_sees_what_the_alert_node_sends(httpx_mock: HTTPXMock):
    httpx_mock.add_response(url="https://hooks.no-such-host.example/x")
    config = {"webhook_url": "https://hooks.no-such-host.example/x", "message": "hello"}
    assert (await AlertNode().execute(config, CONTEXT))["sent"] is True


async def test_an_error_status_raises_httpx_own_error(httpx_mock: HTTPXMock):
    httpx_mock.add_response(url=RATES, status_code=503)
    with pytest.raises(httpx.HTTPStatusError):
        await HttpNode().execute({"url": RATES}, CONTEXT)


async def test_an_exception_of_httpx_is_raised(httpx_mock: HTTPXMock):
    httpx_mock.add_exception(httpx.ReadTimeout("too slow"))
    with pytest.raises(httpx.ReadTimeout):
        await HttpNode().execute({"url": RATES}, CONTEXT)


@pytest.fixture
def lets_through(request: pytest.FixtureRequest) -> None:
    # The mark exists once the plugin is loaded, which is after this module is.
    request.node.add_marker(pytest.mark.httpx_mock(should_mock=lambda request: False))


async def test_what_it_lets_through_is_sent_and_checked(lets_through: None, httpx_mock: HTTPXMock):
    with pytest.raises(Exception, match="no-such-host") as caught:
        await HttpNode().execute({"url": RATES}, CONTEXT)
    assert type(caught.value).__module__.startswith(("httpcore2", "httpx2", "pyflow"))
    assert httpx_mock.get_requests() == []


async def test_another_patch_of_httpx_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    async def elsewhere(transport: object, request: object) -> httpx.Response:
        raise AssertionError("the request left by way of httpx, where nothing checks addresses")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", elsewhere)
    with pytest.raises(Exception, match="no-such-host"):
        await HttpNode().execute({"url": RATES}, CONTEXT)
