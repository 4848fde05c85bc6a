"""`python -m tests.support.processes.fork_server SOCKET`: starts Python programs by forking, which costs no imports.

A program then is what `python -m MODULE` or `python FILE` would have made of its arguments, environment, folder and
streams; `forked` asks for it. What is imported here reads no settings of Django and makes no threads, so that a program
reads its own. A guardian between server and program waits for its end, and tells the exit status to who has asked.
"""

import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyflow.isolation.parent import end_with

IMPORTED_ONCE = (
    "autobahn.twisted.websocket",
    "celery.app",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.worker",
    "django.contrib.auth.checks",
    "django.contrib.postgres.fields",
    "django.core.management",
    "django.db.backends.postgresql.psycopg_any",
    "django.db.migrations.executor",
    "django.template.defaulttags",
    "django.urls",
    "django_stubs_ext",
    "jwt",
    "kombu.transport.redis",
    "psycopg_pool",
    "pydantic_settings",
    "pyflow.compare.drawing",
    "pyflow.net.http_client",
    "pyflow.nodes",
    "pyflow.validation.lint.rules",
    "redis.asyncio",
    "structlog",
    "twisted.internet.posixbase",
    "twisted.web.http",
    "uvicorn.main",
)


def main(path: str) -> None:
    """Serve orders until the process is killed: it ends with the tests."""
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    wrong = {"twisted.internet.reactor", "pyflow_site.settings"} & set(sys.modules)
    assert not wrong, f"a forked process would share {wrong}"
    assert threading.active_count() == 1, "only the thread that forks lives on in a forked process"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets guardians that have ended
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            text, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            if os.fork() == 0:
                listening.close()
                if order := _guard(connection, text, streams, os.getppid()):
                    return _be(order)
                os._exit(0)
            connection.close()
            for stream in streams:
                os.close(stream)


def _guard(connection: socket.socket, text: bytes, streams: list[int], server: int) -> dict[str, Any] | None:
    """Fork the program, and return its order in it; in the guardian, return when it has ended."""
    end_with(server)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    guardian = os.getpid()
    pid = os.fork()
    if pid == 0:
        end_with(guardian)
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        connection.sendall(b"%d\n" % os.getpid())  # it can be sent signals from now on
        connection.close()
        order: dict[str, Any] = json.loads(text)
        return order
    for stream in (*streams, 0, 1, 2):  # a reader waits until the last one has closed them
        os.close(stream)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody waits for it any more
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return None


def _be(order: dict[str, Any]) -> None:
    """Be the program of an order."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    random.seed()
    option, *arguments = order["arguments"]
    if option == "-m":
        sys.argv = arguments
        sys.path[0] = order["cwd"]
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [option, *arguments]
        sys.path[0] = str(Path(option).resolve().parent)
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
