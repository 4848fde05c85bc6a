"""2,000 clients of server-sent events on one process: memory of each, and how late each event reaches each of them.

Runs are started over HTTP by another process. The delay of an event is that from the answer to its start, which is
sent once the event is committed, to the client that receives it last but one in a hundred.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.api import RUNS, START, platform
from benchmarks.load import Connection
from benchmarks.measure import ROOT, Row
from benchmarks.processes import await_url, running
from tests.support.servers.launcher import free_port

CLIENTS = 2000
#: Connections that are opened at a time, and seconds between two events.
OPENED, PAUSE = 50, 0.5
#: Both ends of a connection: it is closed with the last reference to its writer.
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_REQUEST = "GET /api/v1/events?after=now HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{headers}\r\n\r\n"


@dataclass
class Arrivals:
    """The time at which each event arrived at each client, by its run."""

    at: dict[str, list[float]] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        """Return when another event has arrived."""
        self._some.clear()
        await self._some.wait()

    def note(self, line: bytes) -> None:
        """Note an event of a start."""
        event = json.loads(line.removeprefix(b"data: "))
        if event["type"] == "run.queued":
            self.at.setdefault(event["run_id"], []).append(time.perf_counter())
            self._some.set()


def measure(runs: int) -> Iterator[Row]:
    """Memory of a client, and the 50th and 99th percentile of the delays of each of ``runs`` events."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with platform() as served, tempfile.TemporaryDirectory() as folder:
        port, log = free_port(), Path(folder) / "uvicorn.log"
        command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "warning"]
        with running([*command, "pyflow_site.asgi:application"], cwd=ROOT, env=served.env, log=log) as process:
            await_url(f"http://127.0.0.1:{port}/api/v1/health/live", [process], log)
            yield from asyncio.run(_measure(port, process.pid, served.servers["wsgi"], served.headers, runs))


async def _measure(port: int, pid: int, starts: str, headers: Mapping[str, str], runs: int) -> list[Row]:
    arrivals, tasks = Arrivals(), []
    lines = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    request = _REQUEST.format(host=f"127.0.0.1:{port}", headers=lines).encode()
    first = await _open(port, request)  # what is loaded once is no client's
    tasks.append(asyncio.create_task(_follow(first, arrivals)))
    before = _memory(pid)
    for _ in range(0, CLIENTS - 1, OPENED):
        opened = await asyncio.gather(*(_open(port, request) for _ in range(OPENED)))
        tasks += [asyncio.create_task(_follow(client, arrivals)) for client in opened]
    await asyncio.sleep(5)
    per_client = (_memory(pid) - before) / len(tasks)
    connection = Connection(starts)
    delays: dict[str, list[float]] = {"p50": [], "p99": []}
    for _ in range(runs + 1):
        answer = await asyncio.to_thread(
            connection.send, RUNS, json.dumps(START).encode(), {"Content-Type": "application/json", **headers}
        )
        answered, run = time.perf_counter(), json.loads(answer)["id"]
        while len(arrivals.at.get(run, ())) < len(tasks):
            await arrivals.wait()
        found = [1000 * (at - answered) for at in arrivals.at[run]]
        delays["p50"].append(statistics.median(found))
        delays["p99"].append(statistics.quantiles(found, n=100)[98])
        await asyncio.sleep(PAUSE)
    connection.close()
    for task in tasks:
        task.cancel()
    return [
        Row(f"streams/{len(tasks)}_clients/memory_of_each", "KiB", [per_client]),
        *(Row(f"streams/{len(tasks)}_clients/delay_{name}", "ms", values[1:]) for name, values in delays.items()),
    ]


async def _open(port: int, request: bytes) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"a stream was refused: {status.decode()} {(await reader.read(2000)).decode()}")
    await reader.readuntil(b"retry: ")
    return reader, writer


async def _follow(client: Client, arrivals: Arrivals) -> None:
    reader, _ = client
    while line := await reader.readline():
        if line.startswith(b"data: "):
            arrivals.note(line.rstrip())


def _memory(pid: int) -> float:
    """The memory of a process that is its own, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
