"""``make run``: the single-node server with a first run, from nothing but a checkout.

Migrates SQLite, makes the first API key and an admin user, starts the server, sends it ``examples/order-report.yaml``
over HTTP and follows the run. Everything is kept in ``PYFLOW_HOME``, so that a second start finds it again.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import django
import httpx2
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connections

from pyflow.net.files import make_private
from pyflow_client import Client, ClientError, Event, Run
from pyflow_site.environment import BASE_DIR
from pyflow_site.processes import (
    Child,
    Stopped,
    end_all,
    first_to_end,
    is_free,
    port_of,
    stopped_by_signals,
    web_command,
)

HOST = "127.0.0.1"
START_SECONDS = 60.0
WORKFLOW = BASE_DIR / "examples" / "order-report.yaml"
INPUT = BASE_DIR / "examples" / "data" / "orders.json"
#: Whatever the shell or a ``.env`` file says about a fleet or about production, this is neither.
SINGLE_NODE = {
    "DATABASE_URL": "",
    "REDIS_URL": "",
    "PYFLOW_ENV": "development",
    "PYFLOW_EXECUTOR": "inprocess",
    "PYFLOW_ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
}


class QuickstartError(Exception):
    """It cannot go on; the message is for whoever started it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, the private file that keeps it, and whether it was made just now."""

    text: str
    path: Path
    is_new: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit status: 0 when asked to stop, 1 for what went wrong."""
    try:
        port = _port(arguments)
        home = Path(os.environ.get("PYFLOW_HOME") or BASE_DIR / "var").absolute()
        with stopped_by_signals(), _only_one(home, port):
            _check_port(port)
            _serve(home, port)
    except Stopped:
        _say("\nStopped.")
    except (QuickstartError, ClientError, ImproperlyConfigured, DatabaseError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


def _port(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pyflow_site.quickstart", description="PyFlow with a first run.")
    parser.add_argument("--port", help="the port to listen on; default PYFLOW_PORT, else 8000")
    text = parser.parse_args(arguments).port or os.environ.get("PYFLOW_PORT") or "8000"
    try:
        return port_of(text)
    except ValueError as error:
        raise QuickstartError(str(error)) from None


@contextmanager
def _only_one(home: Path, port: int) -> Iterator[None]:
    """Hold the home for this process. The lock ends with the process, however that ends."""
    make_private(home)
    with os.fdopen(os.open(home / "quickstart.lock", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            where = lock.read().strip() or "already"
            raise QuickstartError(
                f"PyFlow runs {where}, from {home}. Stop it, or start another with PYFLOW_HOME=… and --port …."
            ) from None
        lock.truncate(0)
        lock.write(f"at http://{HOST}:{port}/ as process {os.getpid()}")
        lock.flush()
        yield


def _check_port(port: int) -> None:
    if not is_free(HOST, port):
        raise QuickstartError(f"port {port} is in use by another program (or not ours to use); choose one with --port.")


def _serve(home: Path, port: int) -> None:
    os.environ.update(SINGLE_NODE, PYFLOW_HOME=str(home))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    _say(f"PyFlow keeps everything in {home}")
    key, password = _prepare(home)
    server = Child("the server", web_command(HOST, port), env=os.environ)
    try:
        url = f"http://{HOST}:{port}"
        # A transport of our own: a proxy that the environment names has no way back to this machine.
        with Client(url, key.text, transport=httpx2.HTTPTransport()) as client:
            _wait_until_ready(client, server)
            _show_run(client)
        _show_addresses(url, home, key, password)
        first_to_end([server])
        raise QuickstartError(f"the server ended by itself (exit status {server.exit_code}).")
    finally:
        end_all([server])


# --- what is there before the server starts ----------------------------------------------------------------------


def _prepare(home: Path) -> tuple[Secret, Secret | None]:
    """Bring the database up to date; the first API key, and the admin's password if we know it."""
    django.setup()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the run's progress says as much
    call_command("migrate", interactive=False, verbosity=0)
    try:
        return _first_key(home / "first-api-key"), _admin(home / "admin-password")
    finally:
        connections.close_all()


def _first_key(path: Path) -> Secret:
    # Models can be imported only after django.setup().
    from tenants.api_keys import create_api_key, free_name  # noqa: PLC0415
    from tenants.authentication import authenticate_key  # noqa: PLC0415
    from tenants.errors import InvalidKeyError  # noqa: PLC0415
    from tenants.models import Tenant  # noqa: PLC0415
    from tenants.services import create_tenant  # noqa: PLC0415

    if path.exists():
        text = path.read_text().strip()
        with suppress(InvalidKeyError):
            authenticate_key(text=text)
            return Secret(text, path, is_new=False)
    tenant = Tenant.objects.filter(slug="default").first() or create_tenant(slug="default")
    _, text = create_api_key(tenant=tenant, name=free_name(tenant, "first key"))
    _keep(path, text)
    return Secret(text, path, is_new=True)


def _admin(path: Path) -> Secret | None:
    from django.contrib.auth.models import User  # noqa: PLC0415 - see above

    if not User.objects.filter(is_superuser=True).exists() and not User.objects.filter(username="admin").exists():
        password = secrets.token_urlsafe(15)
        # Kept first: a password that is in the database alone is lost.
        _keep(path, password)
        User.objects.create_superuser("admin", password=password)
        return Secret(password, path, is_new=True)
    return Secret(path.read_text().strip(), path, is_new=False) if path.exists() else None


def _keep(path: Path, text: str) -> None:
    """Write a private file (mode 600), whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    new.replace(path)


# --- the first run -----------------------------------------------------------------------------------------------


def _wait_until_ready(client: Client, server: Child) -> None:
    deadline = time.monotonic() + START_SECONDS
    last = "it does not answer"
    while time.monotonic() < deadline:
        if server.exit_code is not None:
            raise QuickstartError(f"the server ended while it started (exit status {server.exit_code}); see above.")
        try:
            health = client.health()
        except ClientError as error:
            last = str(error)
        else:
            if health.ok:
                return
            last = str(health.checks)
        time.sleep(0.05)
    raise QuickstartError(f"the server is not ready after {START_SECONDS:g} s: {last}")


def _show_run(client: Client) -> None:
    name = WORKFLOW.stem
    stored = client.put_workflow(name, WORKFLOW.read_text(encoding="utf-8"))
    _say(f"\nPUT {WORKFLOW.relative_to(BASE_DIR)}: workflow {name}, version {stored.version}")
    run = client.start_run(name, json.loads(INPUT.read_bytes()))
    _say(f"POST /api/v1/workflows/{name}/runs with {INPUT.relative_to(BASE_DIR)}: run {run.id}\n")
    for event in client.follow(run.id):
        _say(_line(event, run))
    finished = client.run(run.id)
    if not finished.succeeded:
        # The example is at fault, not the server: that goes on.
        _say(f"\nThe run {finished.state}: {finished.error.message if finished.error else 'no error was recorded'}")
        return
    _say("\nResult:\n" + _indent(json.dumps(finished.outputs, indent=2, ensure_ascii=False)))


def _line(event: Event, run: Run) -> str:
    seconds = (event.at - run.created_at).total_seconds()
    reason = event.data.get("reason") or (event.data.get("error") or {}).get("message") or ""
    return f"  {seconds:7.3f} s  {event.type:<14}  {event.node_id or ''}  {reason}".rstrip()


# --- what to do next ---------------------------------------------------------------------------------------------


def _show_addresses(url: str, home: Path, key: Secret, password: Secret | None) -> None:
    createkey = f"{shlex.quote(sys.executable)} {shlex.quote(str(BASE_DIR / 'manage.py'))} createkey --name NAME"
    if home != BASE_DIR / "var":
        createkey = f"PYFLOW_HOME={shlex.quote(str(home))} {createkey}"
    lines = [
        "",
        f"API       {url}/api/docs/   (Redoc: {url}/api/docs/redoc)",
        f"Admin     {url}/admin/   {_login(password)}",
        f"Health    {url}/api/v1/health/ready",
        f"API key   {_shown(key)}",
        f"          another: {createkey}",
        "",
        "Start a run yourself:",
        "",
        curl(url, key.path),
        "",
        "Follow everything that happens, in another terminal:",
        "",
        curl_stream(url, key.path),
        "",
        "Ctrl-C stops the server.",
    ]
    _say("\n".join(lines))


def _login(password: Secret | None) -> str:
    if password is None:
        return "with the password of a superuser of yours"
    return f"user admin, password {_shown(password)}"


def _shown(secret: Secret) -> str:
    """The secret when it is new; from then on only where it is kept: terminals are recorded."""
    return f"{secret.text} (kept in {secret.path})" if secret.is_new else f"in {secret.path}"


def curl(url: str, key_file: Path) -> str:
    """A command that starts the example's run, in any directory. The key stays out of the shell's history."""
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(key_file))})"'
    body = f'"{{\\"input\\": $(cat {shlex.quote(str(INPUT))})}}"'
    return (
        f"curl -sS -X POST {url}/api/v1/workflows/{WORKFLOW.stem}/runs \\\n"
        f"  -H {key} \\\n  -H 'Content-Type: application/json' \\\n  -d {body}"
    )


def curl_stream(url: str, key_file: Path) -> str:
    """A command that prints events as they happen. The key stays out of the shell's history."""
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(key_file))})"'
    return f"curl -sS -N '{url}/api/v1/events?after=now' \\\n  -H {key} \\\n  -H 'Accept: text/event-stream'"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
