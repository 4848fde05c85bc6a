"""Node types whose side effect is a line on disk, and some that ruin the process that they are in."""

import asyncio
import itertools
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from pyflow.core.node import NodeRegistry
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.chaos.crashes import crash
from tests.support.factories import poison

#: Names the file that side effects are written to. Not one of PyFlow's: those are kept from isolated nodes.
LEDGER = "CHAOS_LEDGER"


@dataclass(frozen=True, slots=True)
class Effect:
    """A side effect: of which attempt of which node (``run:node:item``), by which process, when (POSIX seconds)."""

    key: str
    attempt: int
    pid: int
    at: float


def read(ledger: Path) -> list[Effect]:
    """The side effects so far, in order."""
    return [Effect(**json.loads(line)) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def note(ctx: NodeContext) -> None:
    """Have a side effect, which is on disk when this returns."""
    line = {"key": ctx.idempotency_key, "attempt": ctx.attempt, "pid": os.getpid(), "at": time.time()}
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


class Pace(BaseModel):
    """How long a node takes after its side effect. Seconds."""

    pace: float = 0.0
    value: Any = None


class Effective(BaseNodeV2[Pace]):
    """Has its side effect, takes its time, and gives its value."""

    node_type = "effect"
    Config = Pace

    async def run(self, config: Pace, ctx: NodeContext) -> object:
        """Its value."""
        crash("effect.before")
        note(ctx)
        crash("effect.after")
        await asyncio.sleep(config.pace)
        return config.value


class Flaky(BaseNodeV2[Pace]):
    """Fails at its first attempt, and gives its value at the next one."""

    node_type = "flaky"
    Config = Pace

    async def run(self, config: Pace, ctx: NodeContext) -> object:
        """Its value."""
        note(ctx)
        await asyncio.sleep(config.pace)
        if ctx.attempt == 1:
            raise ConnectionError("the first attempt fails")
        return config.value


class Poison(BaseNodeV2[Pace]):
    """Kills the process that it is in, after a while."""

    node_type = "poison"
    Config = Pace

    async def run(self, config: Pace, ctx: NodeContext) -> object:
        """Never."""
        note(ctx)
        await asyncio.sleep(config.pace)
        os.kill(os.getpid(), signal.SIGKILL)
        return None


class Way(BaseModel):
    """How not to return."""

    way: Literal["sleep", "c-loop", "deaf"]


class Hanging(BaseNodeV2[Way]):
    """Never returns: it sleeps, it keeps the interpreter in C code, or it ignores signals."""

    node_type = "hang"
    Config = Way

    def run(self, config: Way, ctx: NodeContext) -> object:
        """Never."""
        note(ctx)
        if config.way == "c-loop":
            max(itertools.repeat(0))
        if config.way == "deaf":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            while True:
                re.match(r"(a+)+$", "a" * 24 + "b")
        time.sleep(3600)
        return None


class Size(BaseModel):
    """How many bytes."""

    size: int


class Hungry(BaseNodeV2[Size]):
    """Takes memory and touches all of it."""

    node_type = "gorge"
    Config = Size

    def run(self, config: Size, ctx: NodeContext) -> object:
        """The number of bytes."""
        note(ctx)
        return len(bytearray(os.urandom(4096)) * (config.size // 4096))


class Written(BaseModel):
    """A file and what it gets."""

    path: str
    size: int


class Writing(BaseNodeV2[Written]):
    """Fills a file."""

    node_type = "fill"
    Config = Written

    def run(self, config: Written, ctx: NodeContext) -> object:
        """The number of bytes; what the disk says when it is full."""
        note(ctx)
        return Path(config.path).write_bytes(b"x" * config.size)


def register(registry: NodeRegistry) -> None:
    """Add them to a registry."""
    for kind in (Effective, Flaky, Poison, Hanging, Hungry, Writing):
        registry.register(kind)
    poison.register_poisons(registry)
    poison.register_fatal(registry)
