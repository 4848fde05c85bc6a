"""Node types that misbehave in every way, for a child process to execute."""
# Blocking the event loop is what they are for:
# ruff: noqa: ASYNC220, ASYNC240, ASYNC251

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode
from pyflow.net.files import current_root
from pyflow_sdk.errors import NodeError, NonRetryableError, RetryableError
from pyflow_sdk.node import BaseNodeV2, NodeContext


class BusyError(RetryableError):
    code = "busy"


class Anything(BaseModel):
    do: str = ""
    value: Any = None


class Doer(BaseNodeV2[Anything]):
    """Does what `do` says, on the event loop."""

    node_type = "doer"
    Config = Anything

    async def run(self, config: Anything, ctx: NodeContext) -> object:
        value = config.value
        match config.do:
            case "echo":
                return {"value": value, "attempt": ctx.attempt, "key": ctx.idempotency_key, "pid": os.getpid()}
            case "secret":
                return ctx.secret(value)
            case "environment":
                return dict(os.environ)
            case "root":
                return str(current_root.get())
            case "progress":
                ctx.progress(0.5, "half way")
                return None
            case "print":
                print("to standard output")
                print("to standard error", file=sys.stderr)
                ctx.logger.info("to the logger")
                return None
            case "large":
                return "x" * value
            case "object":
                return object()
            case "busy":
                raise BusyError("come back later", retry_after=7.5, kind="http_503", status=503)
            case "never":
                raise NonRetryableError("no use")
            case "plain":
                raise ValueError("not ours")
            case "slow_peer":
                raise TimeoutError("no answer")
            case "key":
                raise KeyError("colour")
            case "broken":
                raise UnspeakableError
            case "memory":
                return len(bytearray(value))
            case "cpu":
                while True:
                    pass
            case "regex":  # holds the interpreter lock in C
                return re.match(r"(a+)+$", "a" * 64 + "b") is None
            case "stubborn":
                for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(number, signal.SIG_IGN)
                Path(value).write_text(str(os.getpid()))
                while True:
                    time.sleep(1)
            case "offspring":
                child = subprocess.Popen(["sleep", "600"])
                Path(value).write_text(str(child.pid))
                time.sleep(600)
            case "leave_offspring":
                return subprocess.Popen(["sleep", "600"]).pid
            case "leave_thread":
                threading.Thread(target=time.sleep, args=(600,)).start()
                return "done"
            case "suicide":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
        raise NodeError(f"what is {config.do!r}?")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Blocking(BaseNodeV2[Anything]):
    """A plain `def run`."""

    node_type = "blocking"
    Config = Anything

    def run(self, config: Anything, ctx: NodeContext) -> object:
        if config.do == "sleep":
            time.sleep(600)
        return {"value": config.value, "thread": threading.current_thread() is not threading.main_thread()}


class Older(BaseNode):
    """A v1 class, which looks at the results of others."""

    node_type = "older"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        if config.get("block"):
            time.sleep(config["block"])
        if config.get("nap"):
            await asyncio.sleep(config["nap"])
        return {
            "seen": context.get_result("other"),
            "scope": sorted(context.scope or ()),
            "thread": threading.get_ident(),
        }


class Fetcher(BaseNode):
    """Comes to know a token while it runs, as a node does that signs in somewhere."""

    node_type = "fetcher"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        for token in config["tokens"]:
            context.redactor.add(token)
        if config.get("long"):
            print("x " * 6000 + config["tokens"][0], flush=True)
        for token in config["tokens"][:2]:
            print(f"it is {token}", flush=True)
            print(f"it is {token}", file=sys.stderr, flush=True)
        if config.get("fail"):
            raise NodeError(f"refused: {config['tokens'][0]}")
        return {"token": config["tokens"][0]}


class Outer:
    class Inner(BaseNodeV2[Anything]):
        node_type = "inner"
        Config = Anything

        async def run(self, config: Anything, ctx: NodeContext) -> object:
            return "inner"
