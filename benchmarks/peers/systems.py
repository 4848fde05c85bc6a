"""Starts each peer and gives it work."""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.peers.environments import HERE, python_environment
from benchmarks.processes import await_url, running
from benchmarks.service import PyFlow
from benchmarks.workload import Kind, Request, Sizes, Subject, System
from tests.support.servers.launcher import free_port, postgres, redis


@dataclass(frozen=True, slots=True)
class QuerySubject:
    """A peer whose application takes what to start from the address: see its ``app.py``."""

    url: str
    pids: Sequence[int]
    takes_batches: bool = True

    def start(self, kind: Kind, size: int, *, count: int = 1, wait: bool = False) -> Request:
        """See ``Subject``."""
        query = {"kind": kind, "size": size, "count": count} | ({"wait": 1} if wait else {})
        return Request(f"/runs?{urlencode(query)}", b"{}", {})

    def completed(self) -> int:
        """See ``Subject``."""
        with urllib.request.urlopen(f"{self.url}/completed", timeout=60) as response:
            return int(response.read())


class CeleryChain:
    """Celery alone: a chain of tasks, its results in Redis, nothing durable. Two worker processes, as many as cores."""

    name = "Celery chain"

    @contextmanager
    def running(self) -> Iterator[Subject]:
        """See ``System``."""
        programs, port = python_environment("celery_chain"), free_port()
        with ExitStack() as stack:
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            env = {"BROKER_URL": f"{stack.enter_context(redis())}/0"}
            worker = [programs / "celery", "-A", "app", "worker", "-c", "2", "--without-gossip", "--without-mingle"]
            web = [programs / "gunicorn", "app:application", "-b", f"127.0.0.1:{port}", "-k", "gthread"]
            folder = HERE / "celery_chain"
            started = [
                stack.enter_context(running([*worker, "-l", "WARNING"], cwd=folder, env=env, log=log)),
                stack.enter_context(running([*web, "--threads", "8"], cwd=folder, env=env, log=log)),
            ]
            url = f"http://127.0.0.1:{port}"
            await_url(f"{url}/completed", started, log)
            yield QuerySubject(url, [process.pid for process in started])


class Dbos:
    """DBOS: durable steps in PostgreSQL, executed by the process that serves the requests."""

    name = "DBOS"

    @contextmanager
    def running(self) -> Iterator[Subject]:
        """See ``System``."""
        programs, port = python_environment("dbos_app"), free_port()
        with ExitStack() as stack:
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            env = {"DATABASE_URL": stack.enter_context(postgres(durable=True))}
            command = [programs / "uvicorn", "app:application", "--port", str(port), "--log-level", "warning"]
            web = stack.enter_context(running(command, cwd=HERE / "dbos_app", env=env, log=log))
            url = f"http://127.0.0.1:{port}"
            await_url(f"{url}/completed", [web], log)
            yield QuerySubject(url, [web.pid])


SYSTEMS: dict[str, System] = {"pyflow": PyFlow(Sizes()), "celery": CeleryChain(), "dbos": Dbos()}
