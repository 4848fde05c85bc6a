"""`python -m tests.chaos.nursery`: the tests' build of PyFlow, which forks workers in some hundred milliseconds.

It has the node types of `nodes` and the crash points of `crashes`, and tells the database under which epoch an executor
writes. Reads one JSON document a line, answers with another: `{"do": "worker" | "beat" | "starter", "env": {…}, "log":
PATH, "args": […]}` with the process's id, `{"do": "reap"}` with the ids of those that have ended since.

What is slow to import is imported once, here.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import django
from django.db import connection, transaction

from pyflow.isolation.parent import end_with_parent
from tests.chaos.crashes import crash


def install() -> None:
    """Make this process the tests' build."""
    from pyflow.nodes import default_registry
    from runs.notify.notifications import Notifications
    from runs.storage import writer
    from runs.worker import executor, quarantine
    from tests.chaos import nodes

    nodes.register(default_registry)
    claim, store, notify = executor.claim, writer.store, Notifications.notify_queued_now

    def claim_or_die(*args: Any, **options: Any) -> Any:
        crash("claim.before")
        taken = claim(*args, **options)
        if taken:
            crash("claim.after")
        return taken

    def store_or_die(writes: Sequence[writer.Write]) -> Any:
        epochs: dict[str, int] = {}
        for write in writes:
            epochs[str(write.run_id)] = min(write.epoch, epochs.get(str(write.run_id), write.epoch))
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('chaos.epochs', %s, true)", [json.dumps(epochs)])
            fenced = store(writes)
            crash("commit.before")
        crash("commit.after")
        return fenced

    def notify_or_die(notifications: Notifications, queue: str = "") -> None:
        crash("notify.before")
        notify(notifications, queue)
        crash("notify.after")

    quarantine.START = "from tests.chaos.nursery import poison_runs; poison_runs()"
    executor.claim, writer.store = claim_or_die, store_or_die
    Notifications.notify_queued_now = notify_or_die  # type: ignore[method-assign]


def poison_runs() -> None:
    """Be a quarantine of the tests' build."""
    from runs.worker.quarantine_process import main

    django.setup()
    install()
    main()


def celery(*args: str) -> None:
    """Be what Celery makes of a command line."""
    from pyflow_site.celery import app

    app.start([*args])


def worker(*args: str) -> None:
    """A worker of one pool process, or of as many as its arguments say."""
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO")
    celery("worker", *quiet, *(args or ("--concurrency", "1")))


def beat() -> None:
    """Celery's clock."""
    celery("beat", "-l", "INFO")


def starter(version: str, count: str) -> None:
    """Accept runs, one after the other, as a web process does; ends when they are accepted and notified."""
    from runs.notify.current import notifications
    from runs.services.start import start_version
    from workflows.models import Version

    found = Version.objects.across_tenants().select_related("workflow").get(pk=version)
    for _ in range(int(count)):
        start_version(version=found, input={})
    notifications().flush(10)


IMPORTED_ONCE = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "django_celery_beat.schedulers",
    "kombu.transport.redis",
)
CHILDREN = {"worker": worker, "beat": beat, "starter": starter}


def fork(order: dict[str, Any]) -> int:
    """A child that does what the order says, in a process group of its own."""
    ends_with_us = end_with_parent()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if ends_with_us is not None:
            ends_with_us()
        file = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["env"])
        CHILDREN[order["do"]](*order["args"])
    except SystemExit:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def reap() -> list[int]:
    """The children that have ended since the last time."""
    ended: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append(pid)


def main() -> None:
    """Serve the orders until stdin ends."""
    django.setup()
    from plugins.discovery import discover

    install()
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    discover()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(reap() if order["do"] == "reap" else fork(order)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    main()
