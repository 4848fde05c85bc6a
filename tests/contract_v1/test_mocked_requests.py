"""v1 users mock the requests of their workflows with respx."""

import httpx
import pytest
import respx

from pyflow.core.context import ExecutionContext
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.http import HttpNode

CONTEXT = ExecutionContext(workflow_name="w", run_id="r")


@respx.mock
async def test_respx_answers_the_http_node_without_dns():
    route = respx.get("https://api.no-such-host.example/rates").mock(
        return_value=httpx.Response(200, json={"rate": 1.5}, headers={"X-From": "respx"})
    )
    result = await HttpNode().execute({"url": "https://api.no-such-host.example/rates"}, CONTEXT)
    assert route.called
    assert (result["status"], result["body"], result["headers"]["x-from"]) == (200, {"rate": 1.5}, "respx")


@respx.mock
async def test_a_mocked_error_status_raises_httpx_own_error():
    respx.get("https://api.no-such-host.example/rates").mock(return_value=httpx.Response(503))
    with pytest.raises(httpx.HTTPStatusError):
        await HttpNode().execute({"url": "https://api.no-such-host.example/rates"}, CONTEXT)


@respx.mock
async def test_respx_sees_what_the_alert_node_sends():
    route = respx.post("https://hooks.no-such-host.example/x").mock(return_value=httpx.Response(200))
    config = {"webhook_url": "https://hooks.no-such-host.example/x", "message": "hello"}
    assert (await AlertNode().execute(config, CONTEXT))["sent"] is True
    assert b'"text"' in route.calls.last.request.content
