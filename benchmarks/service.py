"""PyFlow as a service: gunicorn, a Celery worker and beat, on PostgreSQL with fsync and Redis of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.load import Connection
from benchmarks.measure import ROOT, Row
from benchmarks.processes import await_url, running
from benchmarks.workload import CHAIN, Kind, Request, Sizes, Subject
from benchmarks.workload import measure as measure_systems
from tests.support.servers.launcher import free_port, postgres, redis

CELERY = [sys.executable, "-m", "celery", "-q", "-A", "pyflow_site"]
#: As `manage.py up` starts them.
WORKER = [*CELERY, "worker", "--without-gossip", "--without-mingle", "--without-heartbeat", "-c", "1", "-l", "warning"]
BEAT = [*CELERY, "beat", "--pidfile=", "-l", "warning"]
THREADS = 8


@dataclass(frozen=True, slots=True)
class Service:
    """A running PyFlow, with a workflow for every kind and size of run."""

    url: str
    pids: Sequence[int]
    database: str
    key: str
    workers: Sequence[int]
    """The process ids of the workers, which are among ``pids``."""
    takes_batches: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every request needs."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def start(self, kind: Kind, size: int, *, count: int = 1, wait: bool = False) -> Request:
        """See ``Subject``."""
        path = f"/api/v1/workflows/{kind}-{size}/runs"
        headers = {"Authorization": f"Bearer {self.key}"} | ({"Prefer": "wait=60"} if wait else {})
        if count == 1:
            return Request(path, b"{}", headers)
        return Request(f"{path}/batch", json.dumps({"runs": [{}] * count}).encode(), headers)

    def completed(self) -> int:
        """See ``Subject``."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute("SELECT count(*) FROM runs_run WHERE state = 'succeeded'").fetchone()
        return int(row[0]) if row else 0


class PyFlow:
    """The fleet shape, as small as it gets: one web process, one worker process (if not more are wanted), beat."""

    name = "PyFlow"

    def __init__(self, sizes: Sizes, settings: Mapping[str, str] | None = None, *, workers: int = 1) -> None:
        self._workers = workers
        self._sizes = sizes
        self._settings = settings or {}

    @contextmanager
    def running(self) -> Iterator[Subject]:
        """See ``System``: migrated, with an API key and the workflows that the work needs."""
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            database, port = stack.enter_context(postgres(durable=True)), free_port()
            env = {
                "DATABASE_URL": database,
                "REDIS_URL": stack.enter_context(redis()),
                "PYFLOW_HOME": str(home),
                "PYFLOW_LOG_LEVEL": "WARNING",
                **self._settings,
            }
            _manage(env, "migrate", "--noinput", "--verbosity", "0")
            key = _manage(env, "createkey").strip()
            log = home / "log"
            web = [sys.executable, "-m", "gunicorn", "pyflow_site.wsgi", "-b", f"127.0.0.1:{port}", "-k", "gthread"]
            workers = [[*WORKER, "-n", f"worker{number}@%h"] for number in range(self._workers)]
            commands = (*workers, [*web, "--threads", str(THREADS), "--log-level", "warning"], BEAT)
            started = [stack.enter_context(running(command, cwd=ROOT, env=env, log=log)) for command in commands]
            url = f"http://127.0.0.1:{port}"
            await_url(f"{url}/api/v1/health/live", started, log)
            pids = [process.pid for process in started]
            service = Service(url, pids, database, key, pids[: self._workers])
            store(service, "chain", CHAIN)
            for kind, size in (("wide", self._sizes.wide), ("chain", self._sizes.chain)):
                store(service, kind, size)
            yield service


def store(service: Service, kind: str, size: int) -> None:
    """Store the workflow ``KIND-SIZE`` of no-op nodes."""
    nodes = [
        {
            "id": f"n{number}",
            "type": "transform",
            "config": {"input": number, "expression": "$"},
            "depends_on": [f"n{number - 1}"] if kind == "chain" and number else [],
        }
        for number in range(size)
    ]
    document = {"version": 2, "name": f"{kind}-{size}", "nodes": nodes}
    connection = Connection(service.url)
    try:
        path = f"/api/v1/workflows/{document['name']}"
        connection.send(path, json.dumps(document).encode(), service.headers, method="PUT")
    finally:
        connection.close()


def measure(runs: int) -> Iterator[Row]:
    """All figures of the service."""
    sizes = Sizes()
    yield from measure_systems([PyFlow(sizes)], runs, sizes)


def _manage(env: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return done.stdout
