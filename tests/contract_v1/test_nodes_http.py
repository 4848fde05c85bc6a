"""v1's `http` node."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.nodes.http import HttpNode, SSRFError


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked. `/text`, `/big`, `/missing` and `/slow` are special."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode(),
        }
        special = {"/text": b"just text", "/big": b"x" * 20_000, "/missing": b'{"error": "gone"}'}
        content = special.get(self.path, json.dumps(asked).encode())
        if self.path == "/slow":
            self.server.released.wait(5)  # type: ignore[attr-defined]
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("X-Answer", "yes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer  # noqa: N815 - names of the base class

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as httpd:
        httpd.released = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.released.set()  # type: ignore[attr-defined]
        httpd.shutdown()
        thread.join()


async def run(**config: Any) -> dict[str, Any]:
    return await HttpNode().execute(config, ExecutionContext(workflow_name="w", run_id="r"))


async def local(url: str, **config: Any) -> dict[str, Any]:
    return await run(url=url, allow_private_networks=True, **config)


async def test_it_gives_status_headers_and_the_parsed_body(server: str):
    result = await local(f"{server}/a?b=c")
    assert result.keys() == {"status", "headers", "body"}
    assert result["status"] == 200
    assert result["headers"]["x-answer"] == "yes"
    assert (result["body"]["method"], result["body"]["path"]) == ("GET", "/a?b=c")


async def test_a_body_that_is_not_json_is_text(server: str):
    assert (await local(f"{server}/text"))["body"] == "just text"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
async def test_method_headers_and_json_body_are_sent(server: str, method: str):
    result = await local(server, method=method, headers={"X-Mine": "1"}, body={"n": [1, None]})
    assert result["body"]["method"] == method.upper()
    assert json.loads(result["body"]["body"]) == {"n": [1, None]}
    assert result["body"]["headers"]["x-mine"] == "1"
    assert result["body"]["headers"]["content-type"] == "application/json"


async def test_an_error_status_raises(server: str):
    with pytest.raises(Exception, match="404"):
        await local(f"{server}/missing")


async def test_an_error_status_can_be_a_result(server: str):
    result = await local(f"{server}/missing", raise_for_status=False)
    assert (result["status"], result["body"]) == (404, {"error": "gone"})


async def test_a_response_larger_than_allowed_raises(server: str):
    with pytest.raises(ValueError, match="10,000"):
        await local(f"{server}/big", max_response_size=10_000)
    assert len((await local(f"{server}/big", max_response_size=20_000))["body"]) == 20_000


@pytest.mark.parametrize("seconds", [0.2, "200ms"])
async def test_it_gives_up_after_its_timeout(server: str, seconds: float | str):
    with pytest.raises(TimeoutError):
        await local(f"{server}/slow", timeout=seconds)


async def test_localhost_is_refused_by_name():
    with pytest.raises(SSRFError, match="localhost"):
        await run(url="http://localhost:9999/")


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"])
async def test_private_addresses_are_refused_by_address(host: str):
    with pytest.raises(SSRFError, match=f"private/internal.*{host}"):
        await run(url=f"http://{host}/")


async def test_the_refusal_is_a_value_error():
    with pytest.raises(ValueError, match="private/internal"):
        await run(url="http://[::1]/")


async def test_other_schemes_are_refused():
    with pytest.raises(ValueError, match="http"):
        await run(url="file:///etc/passwd")


async def test_a_missing_url_is_a_key_error():
    with pytest.raises(KeyError, match="url"):
        await run(method="GET")


async def test_unknown_keys_do_not_matter(server: str):
    assert (await local(server, colour="blue"))["status"] == 200


async def test_no_connection_raises():
    with pytest.raises(Exception, match="cannot connect"):
        await local("http://127.0.0.1:59998/")
