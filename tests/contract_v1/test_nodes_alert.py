"""v1's `alert` node."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.http import SSRFError


class Chat(BaseHTTPRequestHandler):
    """Takes messages; a path of digits is the status to answer with."""

    received: list[Any] = []  # noqa: RUF012 - emptied by the fixture

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(int(self.path[1:] or 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def chat() -> Iterator[str]:
    Chat.received.clear()
    with HTTPServer(("127.0.0.1", 0), Chat) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


async def run(**config: Any) -> dict[str, Any]:
    return await AlertNode().execute(config, ExecutionContext(workflow_name="w", run_id="r"))


async def test_it_posts_the_message_as_text(chat: str):
    result = await run(webhook_url=chat, message="Rate is 5", allow_private_networks=True)
    assert result == {"status": 200, "sent": True}
    assert Chat.received == [{"text": "Rate is 5"}]


async def test_an_error_status_is_not_sent_and_does_not_raise(chat: str):
    assert await run(webhook_url=f"{chat}500", message="x", allow_private_networks=True) == {
        "status": 500,
        "sent": False,
    }


async def test_a_network_failure_does_not_raise():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = await run(webhook_url=f"http://127.0.0.1:{port}/", message="x", allow_private_networks=True)
    assert (result["status"], result["sent"]) == (0, False)
    assert "cannot connect" in result["error"]


async def test_a_name_that_does_not_resolve_does_not_raise():
    result = await run(webhook_url="https://hooks.example.com/x", message="x")
    assert (result["status"], result["sent"]) == (0, False)
    assert "hooks.example.com" in result["error"]


@pytest.mark.parametrize("config", [{"message": "x"}, {"webhook_url": "https://hooks.example.com/x"}])
async def test_a_missing_key_is_a_key_error(config: dict[str, str]):
    with pytest.raises(KeyError):
        await run(**config)


async def test_a_private_target_is_refused():
    with pytest.raises(SSRFError, match="localhost"):
        await run(webhook_url="http://localhost/", message="x")
