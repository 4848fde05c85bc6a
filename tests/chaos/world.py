"""A PostgreSQL and a Redis of its own behind proxies, and workers that are born fast and die faster."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from django.db import OperationalError, connections
from django.db.utils import InterfaceError

from pyflow_site.environment import Environment, database
from runs.models import Run
from runs.queue.slots import reconcile
from runs.services.start import start_version
from tenants.models import Tenant
from tests.chaos import crashes, invariants, nodes
from tests.support import waiting
from tests.support.factories.rows import make_tenant, make_workflow
from tests.support.processes import forked, platform
from tests.support.servers import launcher
from tests.support.servers.proxy import Proxy, proxying
from workflows.models import Version

#: What says, in a log, that a worker listens to the broker.
READY = " ready."
#: The current one, and the one that it has replaced.
MASTER_KEYS = ",".join(f"{name}:{base64.b64encode(name[:1].encode() * 32).decode()}" for name in ("new", "old"))


class Nursery(platform.Process):
    """Makes processes of the tests' build by forking; see the module of this name."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "tests.chaos.nursery"]
        super().__init__(command, env, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self) -> None:
        """Start it, and wait for what it has to import."""
        super().start()
        assert self._read() == "ready"

    def fork(self, do: str, log: Path, env: dict[str, str], *args: str) -> int:
        """A new process; returns its id, which is that of its group, too."""
        return int(self._ask({"do": do, "log": str(log), "env": env, "args": args}))

    def reap(self) -> set[int]:
        """The processes that have ended since the last time."""
        return set(json.loads(self._ask({"do": "reap"})))

    def _ask(self, order: dict[str, Any]) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return str(self.process.stdout.readline().decode().strip())


@dataclass(frozen=True, slots=True)
class Site:
    """What all tests of a session share: servers, the proxies in front of them, the nursery."""

    postgres: launcher.Program
    redis: launcher.Program
    database: Proxy
    broker: Proxy
    nursery: Nursery
    url: str
    """Of the database, past the proxy."""


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """Bring everything up; the database has all tables and a witness of what is written."""
    with ExitStack() as stack:
        enter = stack.enter_context
        postgres, broker = enter(launcher.postgres_server(launcher.CRASH_SAFE)), enter(launcher.redis_server())
        to_postgres, to_broker = (enter(proxying(urlsplit(server.url).port or 0)) for server in (postgres, broker))
        env = platform.environment(
            home,
            DATABASE_URL=_through(postgres.url, to_postgres),
            REDIS_URL=_through(broker.url, to_broker),
            PYFLOW_EXECUTOR="celery",
            PYFLOW_DB_POOL="false",
            PYFLOW_LINGER_SECONDS="5",
            PYFLOW_ISOLATED_ENV=nodes.LEDGER,
            PYFLOW_MASTER_KEYS=MASTER_KEYS,
        )
        migrated = forked.run(["manage.py", "migrate", "--verbosity", "0"], env)
        assert migrated.returncode == 0, migrated.stderr
        with psycopg.connect(postgres.url) as connection:
            connection.execute(invariants.WITNESS)
        nursery = enter(Nursery(env, home / "nursery.log"))
        yield Site(postgres, broker, to_postgres, to_broker, nursery, postgres.url)


def _through(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    login = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}").geturl()


@contextmanager
def django_on(url: str) -> Iterator[None]:
    """Let this process's Django work on another database for a while, also in threads that are started meanwhile."""
    before, settings = connections["default"], connections.settings["default"]
    before.close()
    connections.settings["default"] = connections.configure_settings(
        {"default": database(Environment(DATABASE_URL=url, db_pool=False)) | {"CONN_MAX_AGE": 0}}
    )["default"]
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = settings
        connections["default"] = before


@dataclass
class Member:
    """A process of the fleet, and how it was started: whoever supervises it starts it again when it has ended."""

    pid: int
    do: str
    log: Path
    env: dict[str, str]
    args: tuple[str, ...]
    supervised: bool = True


@dataclass
class ChaosWorld:
    """What one test has: a tenant, runs that were accepted, a fleet, and chance."""

    site: Site
    home: Path
    chance: random.Random
    tenant: Tenant = field(default_factory=make_tenant)
    accepted: list[Run] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)

    @property
    def ledger(self) -> Path:
        """Where side effects are written."""
        return self.home / "ledger"

    def effects(self) -> list[nodes.Effect]:
        """The side effects so far."""
        return nodes.read(self.ledger)

    def workflow(self, *graph: dict[str, Any], name: str = "chaos", **sections: Any) -> Version:
        """A workflow out of its nodes."""
        document = {**sections, "nodes": list(graph)}
        lines = ["version: 2", f"name: {name}", *(f"{key}: {json.dumps(value)}" for key, value in document.items())]
        return make_workflow(self.tenant, "\n".join(lines))

    def start(self, version: Version, count: int = 1, **input: Any) -> list[Run]:
        """Have runs accepted. One whose acceptance is not certain, because the database failed, is asked for again."""
        runs = [self._accepted(version, input) for _ in range(count)]
        self.accepted += runs
        return runs

    def _accepted(self, version: Version, input: dict[str, Any]) -> Run:
        deadline = time.monotonic() + 60
        while True:
            try:
                return start_version(version=version, input=input)
            except (OperationalError, InterfaceError):
                connections["default"].close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def add(self, do: str = "worker", *args: str, supervised: bool = True, **env: str) -> Member:
        """A process of the fleet, which is waited for if it is a worker."""
        log = self.home / f"{do}-{len(self.members)}.log"
        member = Member(0, do, log, {nodes.LEDGER: str(self.ledger), **env}, args, supervised)
        self.members.append(member)
        self._fork(member)
        return member

    def workers(self, count: int = 2, **env: str) -> list[Member]:
        """Workers, and beat, which sweeps for lost runs."""
        self.add("beat")
        return [self.add("worker", **env) for _ in range(count)]

    def _fork(self, member: Member, *, wait: bool = True) -> None:
        heard = member.log.read_text().count(READY) if member.log.exists() else 0
        member.pid = self.site.nursery.fork(member.do, member.log, member.env, *member.args)
        if wait and member.do == "worker":
            waiting.until(
                lambda: member.log.exists() and member.log.read_text().count(READY) > heard, 30, "readiness of a worker"
            )

    def crash_at(self, place: str, count: int) -> dict[str, str]:
        """The environment in which the first process that comes to a place for the ``count``-th time dies there."""
        assert place in crashes.PLACES, f"no process comes to {place}"
        return {crashes.PLACE: f"{place}:{count}", crashes.DONE: str(self.home / f"crashed-{place}")}

    def has_crashed(self, place: str) -> bool:
        """Whether it has happened."""
        return (self.home / f"crashed-{place}").exists()

    def kill(self, member: Member) -> None:
        """SIGKILL to a process and its children."""
        self.signal(member, signal.SIGKILL)
        waiting.until(lambda: member.pid in self._gone(), 10, "end of a killed process")

    def signal(self, member: Member, number: signal.Signals) -> None:
        """A signal to a process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(member.pid, number)

    def terminate(self, member: Member) -> None:
        """SIGTERM to a worker alone, as a supervisor sends it, and wait for its end."""
        os.kill(member.pid, signal.SIGTERM)
        waiting.until(lambda: member.pid in self._gone(), 30, "end of a worker that was asked to end")

    def pool(self, member: Member) -> list[int]:
        """The pool processes of a worker."""
        children = Path(f"/proc/{member.pid}/task/{member.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def tend(self) -> None:
        """Start what has ended again, as a supervisor does."""
        for member in self.members:
            if member.supervised and member.pid in self._gone():
                self._fork(member, wait=False)

    def _gone(self) -> set[int]:
        self._ended = getattr(self, "_ended", set()) | self.site.nursery.reap()
        return self._ended

    def until(self, look: Callable[[], object], seconds: float = 60, what: str = "") -> None:
        """Wait for something, and tend the fleet meanwhile."""

        def tended() -> object:
            self.tend()
            time.sleep(0.05)
            return look()

        waiting.until(tended, seconds, what)

    def unfinished(self) -> int:
        """How many runs have not ended."""
        return Run.objects.across_tenants().filter(finished_at=None).count()

    def settle(self, seconds: float = 60) -> None:
        """Wait until every run has ended, and every slot is looked after."""
        try:
            self.until(lambda: self.unfinished() == 0, seconds, "end of all runs")
        except AssertionError as error:
            left = Run.objects.across_tenants().filter(finished_at=None)
            columns = ("pk", "state", "owner", "lease_until", "epoch", "claims", "losses", "wake_at")
            raise AssertionError(f"{error}\n" + "\n".join(map(str, left.values_list(*columns)))) from None
        waiting.until(lambda: reconcile() == 0, 10, "free slots")

    def verify(self, *, states: Sequence[str] = ("succeeded",), thawed: Sequence[int] = ()) -> None:
        """See ``invariants.verify``."""
        invariants.verify(self.accepted, self.ledger, states=states, thawed=thawed)

    def end(self) -> None:
        """Kill the fleet, and mend what a test has broken."""
        self.site.database.heal()
        self.site.broker.heal()
        for member in self.members:
            self.signal(member, signal.SIGKILL)
        waiting.until(lambda: {member.pid for member in self.members} <= self._gone(), 10, "end of the fleet")

    def stop_postgres(self) -> None:
        """PostgreSQL's "immediate shutdown": as a crash, all but the loss of what it left to the operating system."""
        self.site.postgres.end(signal.SIGQUIT)
        connections["default"].close()  # the test's own

    def flush_broker(self) -> None:
        """Empty Redis."""
        with redis.Redis.from_url(self.site.redis.url) as client:
            client.flushall()
