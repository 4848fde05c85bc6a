"""v1's HTTP server: over a real socket, and in process."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from pyflow.core.engine import WorkflowEngine
from pyflow.server import MAX_BODY, App, create_app

GREET = """
name: greet
trigger: {type: webhook, config: {path: /greet}}
nodes:
  - id: name
    type: transform
    config: {input: "{{ trigger }}", expression: $.name}
  - id: long
    type: condition
    depends_on: [name]
    config: {if: "len(name) > 3"}
  - id: never
    type: condition
    when: "1 > 2"
    config: {if: "True"}
  - id: broken
    type: condition
    on_error: skip
    config: {if: "nothing > 1"}
"""
TWO = "name: two\ntrigger: {type: manual}\nnodes: [{id: a, type: condition, config: {if: '1'}}]\n"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYFLOW_API_KEY", raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "greet.yaml").write_text(GREET)
    return tmp_path


@pytest.fixture
def serve() -> Iterator[Callable[[App], str]]:
    """Run an app under uvicorn on a free port in a thread; gives its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: App) -> str:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


def client(app: App) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")  # type: ignore[arg-type]


def test_a_workflow_is_triggered_over_a_real_socket(directory: Path, serve: Callable[[App], str]):
    url = serve(create_app(directory))
    with httpx2.Client(base_url=url) as http:
        assert http.get("/health").json() == {"status": "ok"}
        answer = http.post("/trigger/greet", json={"name": "Ada Lovelace"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
    assert body.keys() == {"run_id", "results"}
    assert body["run_id"]
    assert body["results"] | {"broken": "…"} == {"name": "ok", "long": "ok", "never": "skipped", "broken": "…"}
    assert body["results"]["broken"].startswith("error: ")


def test_many_requests_run_at_once(directory: Path, serve: Callable[[App], str]):
    url = serve(create_app(directory))

    async def main() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=url) as http:
            return await asyncio.gather(*(http.post("/trigger/greet", json={"name": "Ada"}) for _ in range(20)))

    answers = asyncio.run(main())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["run_id"] for answer in answers}) == 20


async def test_workflows_are_listed(directory: Path):
    (directory / "two.yml").write_text(TWO)
    async with client(create_app(directory)) as http:
        assert (await http.get("/workflows")).json() == [
            {"name": "greet", "trigger": "webhook", "nodes": 4},
            {"name": "two", "trigger": "manual", "nodes": 1},
        ]


async def test_a_missing_directory_has_no_workflows(tmp_path: Path):
    async with client(create_app(tmp_path / "none")) as http:
        assert (await http.get("/workflows")).json() == []


@pytest.mark.parametrize("content", [b"", b"  ", b"null", b"{}"])
async def test_the_body_is_optional(content: bytes, directory: Path):
    (directory / "two.yml").write_text(TWO)
    async with client(create_app(directory)) as http:
        assert (await http.post("/trigger/two", content=content)).json()["results"] == {"a": "ok"}


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'"x"', b"5", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff", b"[" * 9999]
)
async def test_a_body_that_is_no_json_object_is_refused(content: bytes, directory: Path):
    async with client(create_app(directory)) as http:
        answer = await http.post("/trigger/greet", content=content)
        assert answer.status_code == 422
        assert answer.json()["detail"]


async def test_a_large_body_is_refused_whether_declared_or_not(directory: Path):
    async def unannounced() -> Any:
        for _ in range(MAX_BODY // 65536 + 2):
            yield b"x" * 65536

    async with client(create_app(directory)) as http:
        for content in (b"x" * (MAX_BODY + 1), unannounced()):
            answer = await http.post("/trigger/greet", content=content)
            assert (answer.status_code, list(answer.json())) == (413, ["detail"])


async def test_an_unknown_workflow_is_not_found(directory: Path):
    async with client(create_app(directory)) as http:
        answer = await http.post("/trigger/nothing")
        assert answer.status_code == 404
        assert "nothing" in answer.json()["detail"]


async def test_a_failure_to_run_names_only_the_run_id(directory: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    async def run(_: object, workflow: object, run_id: str, initial_context: object) -> None:
        seen.append(run_id)
        raise RuntimeError("password is hunter2")

    monkeypatch.setattr(WorkflowEngine, "run", run)
    async with client(create_app(directory)) as http:
        answer = await http.post("/trigger/greet")
    assert answer.status_code == 500
    assert list(answer.json()) == ["detail"]
    assert seen[0] in answer.json()["detail"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/nothing", 404), ("POST", "/trigger/", 404), ("POST", "/trigger/a/b", 404),
     ("GET", "/trigger/greet", 405), ("POST", "/health", 405), ("DELETE", "/workflows", 405), ("GET", "/reload", 405)],
)  # fmt: skip
async def test_other_routes_and_methods_are_refused(method: str, path: str, status: int, directory: Path):
    async with client(create_app(directory)) as http:
        answer = await http.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"])


async def test_reload_rereads_the_directory(directory: Path):
    async with client(create_app(directory)) as http:
        (directory / "two.yml").write_text(TWO)
        assert (await http.post("/trigger/two")).status_code == 404
        assert (await http.post("/reload")).json() == {"status": "ok", "workflows": 2}
        assert (await http.post("/trigger/two")).status_code == 200


async def test_a_reload_that_fails_changes_nothing(directory: Path):
    async with client(create_app(directory)) as http:
        (directory / "bad.yaml").write_text("name: [")
        assert (await http.post("/reload")).status_code == 422
        assert [entry["name"] for entry in (await http.get("/workflows")).json()] == ["greet"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer s3cret-keyx",
        "Basic s3cret-key",
        "s3cret-key",
        "Bearer S3CRET-KEY",
    ],
)
async def test_a_key_is_required_where_one_is_set(
    authorization: str | None, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYFLOW_API_KEY", "s3cret-key")
    headers = {} if authorization is None else {"Authorization": authorization}
    async with client(create_app(directory)) as http:
        for path in ("/trigger/greet", "/trigger/nothing", "/reload"):
            answer = await http.post(path, headers=headers)
            assert (answer.status_code, list(answer.json())) == (401, ["detail"])


async def test_the_right_key_is_let_in_and_health_needs_none(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYFLOW_API_KEY", "s3cret-key")
    app = create_app(directory)
    monkeypatch.setenv("PYFLOW_API_KEY", "changed later")
    async with client(app) as http:
        headers = {"Authorization": "Bearer s3cret-key"}
        assert (await http.post("/reload", headers=headers)).status_code == 200
        assert (await http.post("/trigger/greet", headers=headers, json={"name": "x"})).status_code == 200
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/workflows")).status_code == 200


async def test_a_websocket_is_closed(directory: Path):
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await create_app(directory)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_the_outcome_of_a_failed_node_is_its_error(directory: Path):
    async with client(create_app(directory)) as http:
        answer = await http.post("/trigger/greet", json={"name": 5})
        assert json.loads(answer.content)["results"]["long"].startswith("error: ")
