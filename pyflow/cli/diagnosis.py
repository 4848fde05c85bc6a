"""`pyflow doctor`: whether this machine has what PyFlow needs."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

import pyflow
from pyflow.cli.console import ExitCode, out, out_json, table
from pyflow.net.files import make_private
from pyflow.nodes import default_registry

#: Seconds to wait for a server.
PATIENCE = 3.0
_OLDEST_PYTHON = (3, 11)
_PORTS = {"redis": 6379, "rediss": 6379, "postgres": 5432, "postgresql": 5432, "mysql": 3306}
#: What each optional part of PyFlow imports.
_PARTS = {
    "platform": ("django", "rest_framework", "channels", "psycopg"),
    "fleet": ("celery", "redis"),
    "server": ("uvicorn",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``state``: ``ok``; ``absent`` (optional, and not there); ``broken``."""

    name: str
    state: Literal["ok", "absent", "broken"]
    detail: str


def doctor(
    format: Annotated[Literal["text", "json"], typer.Option("--format", help="Output format.")] = "text",
) -> None:
    """Check Python, the optional parts, the storage root, and the database and Redis that the environment names.

    Exits with 1 if something that is needed does not work. Passwords are not printed.
    """
    findings = list(_findings())
    broken = [finding for finding in findings if finding.state == "broken"]
    if format == "json":
        out_json({"healthy": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        out("\n".join(table((f.state, f.name, f.detail) for f in findings)))
        out("All required parts work." if not broken else f"{len(broken)} of {len(findings)} are broken.")
    raise typer.Exit(ExitCode.FAILED if broken else ExitCode.OK)


def _findings() -> Iterator[Finding]:
    yield _python()
    yield Finding("pyflow", "ok", pyflow.__version__)
    for name, modules in _PARTS.items():
        yield _part(name, modules)
    for plugin in default_registry.plugins():
        detail = plugin.error or f"{plugin.distribution} {plugin.version}"
        yield Finding(f"plugin {plugin.name}", "broken" if plugin.error else "ok", detail)
    yield _storage(os.environ.get("PYFLOW_STORAGE_ROOT"))
    yield _server("database", os.environ.get("DATABASE_URL"), _reach_database)
    yield _server("redis", os.environ.get("REDIS_URL"), _reach_redis)


def _python() -> Finding:
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    supported = sys.version_info >= _OLDEST_PYTHON
    detail = f"{platform.python_implementation()} {platform.python_version()}"
    return Finding("python", "ok" if supported else "broken", detail if supported else f"{detail}; {wanted} is needed")


def _part(name: str, modules: tuple[str, ...]) -> Finding:
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                return Finding(name, "absent", f"{module} is not installed")
            return Finding(name, "broken", f"{module} needs {error.name}, which is not installed")
        except Exception as error:  # noqa: BLE001 - whatever an installed package does on import is the finding
            return Finding(name, "broken", f"{module} does not import: {type(error).__name__}: {error}")
    return Finding(name, "ok", ", ".join(modules))


def _storage(root: str | None) -> Finding:
    folder = Path(root) if root else Path.cwd()
    detail = f"{folder}" if root else f"{folder} (the working directory; PYFLOW_STORAGE_ROOT confines it)"
    try:
        if root:
            make_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("storage", "ok", f"{detail} is writable")
    except OSError as error:
        return Finding("storage", "broken", f"{detail} cannot be written: {error.strerror}")


def _server(name: str, url: str | None, reach: Callable[[str], str]) -> Finding:
    if not url:
        return Finding(name, "absent", f"{name.upper()}_URL is not set")
    try:
        return Finding(name, "ok", reach(url))
    except Exception as error:  # noqa: BLE001 - every driver has its own errors
        # The driver's message may hold the address with its password: only what it is called is shown of it.
        return Finding(name, "broken", f"{_shown(url)} cannot be reached: {_reason(error)}")


def _reach_database(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        path = Path(urlsplit(url).path.removeprefix("/") or ".")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(f"{path} is not writable")
        return f"{path} is writable"
    if scheme in {"postgres", "postgresql"}:
        psycopg = importlib.import_module("psycopg")
        with psycopg.connect(url, connect_timeout=int(PATIENCE)) as connection:
            version = connection.execute("SHOW server_version").fetchone()[0]
        return f"{_shown(url)} answers: PostgreSQL {version}"
    return _reach_port(url)


def _reach_redis(url: str) -> str:
    redis = importlib.import_module("redis")
    with redis.Redis.from_url(url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
        return f"{_shown(url)} answers: Redis {client.info('server')['redis_version']}"


def _reach_port(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if parts.hostname is None or port is None:
        raise ValueError("the address names no host and port")
    with socket.create_connection((parts.hostname, port), timeout=PATIENCE):
        return f"{_shown(url)} takes connections"


def _shown(url: str) -> str:
    """An address without user and password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError | ValueError):
        return str(error)
    return type(error).__name__
