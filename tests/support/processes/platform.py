"""Real processes of the platform, on the database of the running test: started, killed, started again."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from django.db import connection

from pyflow.isolation.parent import end_with_parent
from tests.support import waiting
from tests.support.processes.forked import Forked
from tests.support.servers import launcher

ROOT = Path(__file__).parents[3]
#: Short, so that a take-over takes few seconds, yet long enough to be renewed in time on a busy machine.
LEASE_SECONDS = 3.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that works on the test's own database, with short leases."""
    kept = {key: value for key, value in os.environ.items() if key not in {"REDIS_URL", "PYTHONDONTWRITEBYTECODE"}}
    return kept | {
        "DATABASE_URL": database_url(),
        "PYFLOW_HOME": str(home),
        "PYFLOW_LEASE_SECONDS": str(LEASE_SECONDS),
        "PYFLOW_SWEEP_SECONDS": "0.2",
        "PYFLOW_ALLOWED_NETWORKS": "127.0.0.0/8",
        **more,
    }


def database_url() -> str:
    """The URL of the database that Django's tests use."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    login = values["USER"] + (f":{values['PASSWORD']}" if values["PASSWORD"] else "")
    return f"postgresql://{login}@{values['HOST']}:{values['PORT']}/{values['NAME']}"


class Process:
    """A child with a log file, in a process group of its own; none outlives the ``with`` block or the tests."""

    #: Whether the fork server starts it, which spares what it has to import; it is the same program otherwise.
    is_forked = False

    def __init__(self, command: list[str], env: dict[str, str], log: Path, **options: Any) -> None:
        self.command = command
        self._env = env
        self._log_path = log
        self._options = options
        self._log: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it (again), and return when it is of use."""
        self._log = self._log_path.open("ab")
        self.process = self._forked() if self.is_forked else self._popen()
        waiting.until(self._is_up_or_gone, what=f"readiness of {' '.join(self.command)}")
        if self.process.poll() is not None:
            raise AssertionError(f"{' '.join(self.command)} ended:\n{self.log()}")

    def _forked(self) -> Forked:
        assert not self._options, "the fork server has no others"
        assert self._log is not None
        return Forked(self.command, self._env, self._log, self._log)

    def _popen(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self._env,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
            **{"stdout": self._log, **self._options},
        )

    def kill(self) -> None:
        """SIGKILL to it and its children: no handler runs, nothing is handed back."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout, self._log):
                if stream is not None:
                    stream.close()
            self.process = None

    def log(self) -> str:
        """What it has written so far."""
        return self._log_path.read_text()

    def is_ready(self) -> bool:
        """Whether it is of use by now."""
        return True

    def _is_up_or_gone(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.is_ready()


class WebServer(Process):
    """A server of the API on a port of its own, which is asked with ``key``."""

    is_forked = True

    def __init__(self, command: list[str], env: dict[str, str], log: Path, key: str) -> None:
        self.port = launcher.free_port()
        self.key = key
        super().__init__([sys.executable, "-m", *(part.format(port=self.port) for part in command)], env, log)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self.call("GET", "/api/v1/health/live")[0] == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request and return the status and the data of its answer. Headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"} | named,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


class Server(WebServer):
    """The ASGI server, as production runs it."""

    def __init__(self, env: dict[str, str], log: Path, key: str) -> None:
        super().__init__(["daphne", "-b", "127.0.0.1", "-p", "{port}", "pyflow_site.asgi:application"], env, log, key)


class Uvicorn(WebServer):
    """The other ASGI server."""

    def __init__(self, env: dict[str, str], log: Path, key: str) -> None:
        options = ["--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"]
        super().__init__(["uvicorn", *options, "pyflow_site.asgi:application"], env, log, key)


class Gunicorn(WebServer):
    """The WSGI server, as production runs it: two processes of several threads."""

    def __init__(self, env: dict[str, str], log: Path, key: str) -> None:
        options = ["--workers", "2", "--threads", "8", "--worker-class", "gthread", "--no-control-socket"]
        command = ["gunicorn", "-b", "127.0.0.1:{port}", *options, "pyflow_site.wsgi:application"]
        super().__init__(command, env, log, key)


class Worker(Process):
    """A Celery worker with one pool process."""

    is_forked = True

    def __init__(self, env: dict[str, str], log: Path) -> None:
        options = ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]
        super().__init__([sys.executable, "-m", "celery", "-A", "pyflow_site", "worker", *options], env, log)

    def start(self) -> None:
        """Start it with an empty log, in which its readiness is read."""
        self._log_path.write_bytes(b"")
        super().start()

    def is_ready(self) -> bool:
        """Whether it listens to the broker."""
        return " ready." in self.log()


class Beat(Process):
    """Celery beat, which starts the sweeps."""

    is_forked = True

    def __init__(self, env: dict[str, str], log: Path) -> None:
        super().__init__([sys.executable, "-m", "celery", "-A", "pyflow_site", "beat", "-l", "INFO"], env, log)


class Executors(Process):
    """Makes executor processes by forking, each in some milliseconds: for killing many of them."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "tests.support.processes.executors"]
        super().__init__(command, env, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def fork(self) -> int:
        """A new executor process; returns its id. It ends by ``stop``."""
        return int(self._ask("fork"))

    def stop(self, pid: int) -> None:
        """SIGKILL to one of them, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        assert self._ask(f"reap {pid}") == str(-signal.SIGKILL)

    def _ask(self, line: str) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline().decode().strip())


_DRAIN = """
import asyncio, django
django.setup()
from runs.worker.executor import RunExecutor
asyncio.run(RunExecutor().drain())
"""


def drain_elsewhere() -> subprocess.Popen[bytes]:
    """Execute what is due in a process of its own, which can be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", _DRAIN],
        env=os.environ | {"DATABASE_URL": database_url(), "PYFLOW_ALLOWED_NETWORKS": "127.0.0.0/8"},
        preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
    )
