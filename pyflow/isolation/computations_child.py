"""The process of ``isolation.computations``: computes what it is asked for, until it is closed."""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import select
import socket
import struct
import sys
import threading
from typing import Any

from pyflow.isolation.environment import address_space


def main() -> None:
    """Serve the socket named by the first argument; the others are the CPU time of a call and the memory of all."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    seconds, memory = int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_caller, args=(connection,), daemon=True).start()
    most = 0
    while True:
        function, args = json.loads(_exactly(connection, struct.unpack("!I", _exactly(connection, 4))[0]))
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
        if not most:  # what is imported by the first call is not counted
            call.prepare()
            most = address_space() + memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        used = resource.getrusage(resource.RUSAGE_SELF)
        # The soft limit kills, whatever holds the interpreter, and can be raised for the next call.
        resource.setrlimit(
            resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds), resource.RLIM_INFINITY)
        )
        body = _answer(call, args)
        # A process whose caches have grown, or that has failed, is replaced by a new one.
        usable = body.startswith(_RESULT) and address_space() < most - memory // 2
        connection.sendall(struct.pack("!I?", len(body), usable) + body)


_RESULT = b'{"result"'


def _answer(call: Any, args: list[Any]) -> bytes:
    try:
        return json.dumps({"result": call(*args)}).encode()
    except MemoryError:
        return b'{"error": "memory"}'
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
        return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


def _end_with_caller(connection: socket.socket) -> None:
    """End this process when the other side of its connection is gone, be it in the middle of a call."""
    poll = select.poll()
    poll.register(connection, getattr(select, "POLLRDHUP", select.POLLHUP))
    poll.poll()
    os._exit(0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        chunk = connection.recv(min(size - len(parts), 1 << 20))
        if not chunk:
            os._exit(0)
        parts += chunk
    return bytes(parts)
