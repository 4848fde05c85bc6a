"""``manage.py up``: the whole platform on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

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

CELERY = [sys.executable, "-m", "celery", "-q", "-A", "pyflow_site"]
#: One worker process drives many runs; the messages between Celery's workers (gossip, mingle) are not needed here.
WORKER = [*CELERY, "worker", "--without-gossip", "--without-mingle", "--without-heartbeat", "-c", "1", "-l", "warning"]
BEAT = [*CELERY, "beat", "--pidfile=", "-l", "warning"]


class Command(BaseCommand):
    """Migrates, then runs web, worker and beat as child processes; without Redis the single-node server."""

    help = (
        "Migrate and start the platform: with REDIS_URL web, a Celery worker and beat, else the single-node server. "
        "Ctrl-C or SIGTERM ends all of it. If one of its processes ends, so do the others, with exit status 1."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """``[--host HOST] [--port PORT]``."""
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
        parser.add_argument("--port", help="the port to listen on; default PYFLOW_PORT, else 8000")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal, or until a process ends."""
        host = options["host"]
        try:
            port = port_of(options["port"] or os.environ.get("PYFLOW_PORT") or "8000")
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not is_free(host, port):
            raise CommandError(f"{host}:{port} is in use or not ours; choose another with --port")
        self._migrate()
        try:
            with stopped_by_signals():
                self._run(host, port)
        except Stopped:
            self._say("stopped")

    def _migrate(self) -> None:
        # In a process of its own: connections and their threads are not for a parent that forks.
        command = [sys.executable, str(BASE_DIR / "manage.py"), "migrate", "--noinput", "--verbosity", "0"]
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:  # noqa: S603 - our own
            raise CommandError("the database cannot be migrated; see above")

    def _run(self, host: str, port: int) -> None:
        children: list[Child] = []
        with ExitStack() as stack:
            stack.callback(end_all, children)
            for name, command in _parts(host, port):
                children.append(Child(name, command, env=os.environ, prefix=f"{name:<6} | "))
            self._say(f"{', '.join(child.name for child in children)} started: http://{host}:{port}/")
            self._say("make an API key with `manage.py createkey`; Ctrl-C stops everything")
            ended = first_to_end(children)
            message = f"{ended.name} ended by itself (exit status {ended.exit_code}); stopping the rest"
            self._say(message)
        raise CommandError(f"{ended.name} is gone")

    def _say(self, text: str) -> None:
        self.stdout.write(f"up     | {text}")
        self.stdout.flush()


def _parts(host: str, port: int) -> list[tuple[str, list[str]]]:
    web = ("web", web_command(host, port))
    if settings.PYFLOW_EXECUTOR != "celery":
        return [web]
    return [web, ("worker", WORKER), ("beat", BEAT)]
