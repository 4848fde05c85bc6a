"""The API under load: WSGI (gunicorn's threads) and ASGI (uvicorn), a PostgreSQL that survives a crash, and Redis.

No worker runs: what is measured is accepting runs and reading them. Sections are functions of a ``Platform``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.load import Connection, load
from benchmarks.measure import ROOT, Row, interleaved, rows
from benchmarks.processes import await_url, running
from tests.support.servers.launcher import free_port, postgres, redis

#: Requests of each run, and how many of them are under way at a time.
COUNT, CONNECTIONS = 400, 8
BATCH = 100
HELLO = """\
version: 2
name: hello
inputs: {who: string}
outputs: {greeting: "{{ greet }}"}
nodes:
  - {id: greet, type: transform, config: {input: "Hello {{ input.who }}", expression: $}}
"""
START = {"input": {"who": "Ada"}}
RUNS = "/api/v1/workflows/hello/runs"


@dataclass(frozen=True, slots=True)
class Platform:
    """Servers of the API on one database, by how they are served; ``floors`` are those of ``benchmarks.floor``."""

    servers: Mapping[str, str]
    floors: Mapping[str, str]
    headers: Mapping[str, str]
    env: Mapping[str, str]


def measure(runs: int) -> Iterator[Row]:
    """Every section, on one platform."""
    with platform() as served:
        for section in SECTIONS:
            yield from section(served, runs)


def post_runs(platform: Platform, runs: int) -> Iterator[Row]:
    """Starts a second, and their share of what the floor stores."""
    body = json.dumps(START).encode()
    for name, url in platform.servers.items():
        ours = partial(_per_second, url, RUNS, body=body, headers=platform.headers)
        floor = partial(_per_second, platform.floors[name], "/runs", body=body)
        taken = interleaved({"floor": floor, "pyflow": ours}, runs)
        yield from rows(taken, "requests/s", f"api/post_runs/{name}/", to="floor")


def get_run(platform: Platform, runs: int) -> Iterator[Row]:
    """Reads of one run a second."""
    connection = Connection(platform.servers["wsgi"])
    answer = connection.send(RUNS, json.dumps(START).encode(), {"Content-Type": "application/json", **platform.headers})
    connection.close()
    path = f"/api/v1/runs/{json.loads(answer)['id']}"
    subjects = {
        name: partial(_per_second, url, path, method="GET", headers=platform.headers)
        for name, url in platform.servers.items()
    }
    yield from rows(interleaved(subjects, runs), "requests/s", "api/get_run/")


def batch(platform: Platform, runs: int) -> Iterator[Row]:
    """Runs a second that are started by the hundred."""
    body = json.dumps({"runs": [START] * BATCH}).encode()
    subjects = {
        name: partial(_per_second, url, f"{RUNS}/batch", body=body, headers=platform.headers, count=COUNT // 10)
        for name, url in platform.servers.items()
    }
    yield from rows(interleaved(subjects, runs), "runs/s", f"api/batch_of_{BATCH}/", scale=BATCH)


def auth(platform: Platform, runs: int) -> Iterator[Row]:
    """The 99th percentile of telling whose key it is, in a process that has met it before."""
    yield from rows({"key_p99": [_authentication(platform) for _ in range(runs)]}, "ms", "api/auth/")


def _authentication(platform: Platform) -> float:
    key = {"PYFLOW_BENCHMARK_KEY": platform.headers["Authorization"].removeprefix("Bearer ")}
    command = [sys.executable, "-m", "benchmarks.authentication"]
    env = {**os.environ, **platform.env, **key}
    return float(subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


SECTIONS: tuple[Callable[[Platform, int], Iterator[Row]], ...] = (post_runs, get_run, batch, auth)


def _per_second(
    url: str,
    path: str,
    *,
    body: bytes | None = None,
    method: str = "POST",
    headers: Mapping[str, str] = {},
    count: int = COUNT,
) -> float:
    answered = load(url, path, count, connections=CONNECTIONS, body=body, method=method, headers=headers)
    return count / answered.seconds


@contextmanager
def platform() -> Iterator[Platform]:
    """The servers of both kinds and their floors, each with two processes, until the block ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres(durable=True))
        env = {
            "DATABASE_URL": database,
            "REDIS_URL": stack.enter_context(redis()),
            "PYFLOW_HOME": str(folder / "home"),
            "PYFLOW_EXECUTOR": "celery",
        }
        _manage(env, "migrate", "-v", "0")
        headers = {"Authorization": f"Bearer {_manage(env, 'createkey').strip()}"}
        # Requests are counted, as everywhere, but none is refused.
        limits = ("--limit", "api_requests_per_minute=1000000000", "--limit", "key_requests_per_minute=1000000000")
        _manage(env, "setplan", "default", "enterprise", *limits)
        servers = {kind: stack.enter_context(_serving(kind, "pyflow_site", env, folder)) for kind in _SERVERS}
        first = Connection(servers["wsgi"])
        first.send("/api/v1/workflows", HELLO.encode(), {"Content-Type": "application/yaml", **headers})
        first.close()
        floor = env | {"FLOOR_ROWS": _rows_of_hello(database), "DJANGO_SETTINGS_MODULE": "benchmarks.floor"}
        floors = {kind: stack.enter_context(_serving(kind, "floor", floor, folder)) for kind in _SERVERS}
        yield Platform(servers, floors, headers, env)


_GUNICORN = "gunicorn -w 2 -k gthread --threads 8 -b 127.0.0.1:{port} --log-level warning --no-control-socket"
_UVICORN = "uvicorn --workers 2 --port {port} --log-level warning"
_SERVERS = {"wsgi": f"{_GUNICORN} pyflow_site.wsgi:application", "asgi": f"{_UVICORN} pyflow_site.asgi:application"}


@contextmanager
def _serving(kind: str, name: str, env: Mapping[str, str], folder: Path) -> Iterator[str]:
    port, log = free_port(), folder / f"{name}-{kind}.log"
    command = [sys.executable, "-m", *_SERVERS[kind].format(port=port).split()]
    with running(command, cwd=ROOT, env=env, log=log) as process:
        url = f"http://127.0.0.1:{port}"
        await_url(f"{url}/runs" if name == "floor" else f"{url}/api/v1/health/live", [process], log)
        yield url


def _manage(env: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _rows_of_hello(database: str) -> str:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT tenant_id, workflow_id, id FROM workflows_version").fetchone()
    assert row is not None
    return ",".join(map(str, row))
