"""The same work for PyFlow and for its peers, started over HTTP: how much of it gets done, and how soon."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.load import Connection, load
from benchmarks.measure import Row

Kind = Literal["chain", "wide"]
CHAIN = 3
#: A measurement that has not ended by then never will. Seconds.
PATIENCE = 300.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """A request that starts runs: where, with what body and which headers."""

    path: str
    body: bytes
    headers: dict[str, str]


class Subject(Protocol):
    """A system that is measured, while it runs."""

    #: Where its HTTP server listens: ``http://127.0.0.1:PORT``.
    url: str
    #: Whether several runs can be started by one request.
    takes_batches: bool
    #: All its processes, servers of data apart.
    pids: Sequence[int]

    def start(self, kind: Kind, size: int, *, count: int = 1, wait: bool = False) -> Request:
        """The request for ``count`` runs of ``size`` no-op nodes; with ``wait`` it is answered when they are done."""

    def completed(self) -> int:
        """Count the runs that have ended since the start."""


class System(Protocol):
    """A system that can be started; ``name`` is what it is called in the table."""

    name: str

    def running(self) -> AbstractContextManager[Subject]:
        """It and its own data servers, from nothing; ends with the block."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The amount of work behind each figure."""

    singles: int = 800
    batches: int = 20
    batch: int = 100
    in_flight: int = 100
    wide: int = 1000
    chain: int = 1000


def throughput(subject: Subject, sizes: Sizes) -> tuple[float, float]:
    """Runs a second, accepted and completed, with a POST for each over 8 connections."""
    request = subject.start("chain", CHAIN)
    before = subject.completed()
    begun = time.perf_counter()
    answered = load(subject.url, request.path, sizes.singles, body=request.body, headers=request.headers)
    _await(subject, before + sizes.singles)
    return sizes.singles / answered.seconds, sizes.singles / (time.perf_counter() - begun)


def batched(subject: Subject, sizes: Sizes) -> tuple[float, float]:
    """As ``throughput``, with so many starts in a request."""
    request = subject.start("chain", CHAIN, count=sizes.batch)
    total = sizes.batch * sizes.batches
    before = subject.completed()
    begun = time.perf_counter()
    answered = load(subject.url, request.path, sizes.batches, connections=2, body=request.body, headers=request.headers)
    _await(subject, before + total)
    return total / answered.seconds, total / (time.perf_counter() - begun)


def latency(subject: Subject, sizes: Sizes) -> tuple[float, float]:
    """Milliseconds from a POST to the answer that its run is done, one at a time: median and 99th percentile."""
    request = subject.start("chain", CHAIN, wait=True)
    load(subject.url, request.path, 5, connections=1, body=request.body, headers=request.headers)
    done = load(subject.url, request.path, sizes.in_flight, connections=1, body=request.body, headers=request.headers)
    return statistics.median(done.latencies) * 1000, statistics.quantiles(done.latencies, n=100)[98] * 1000


def single_run(subject: Subject, kind: Kind, size: int) -> float:
    """Seconds from a POST until its one run of ``size`` nodes is done."""
    request = subject.start(kind, size, wait=True)
    connection = Connection(subject.url)
    begun = time.perf_counter()
    try:
        connection.send(request.path, request.body, {"Content-Type": "application/json", **request.headers})
    finally:
        connection.close()
    return time.perf_counter() - begun


def memory(pids: Sequence[int]) -> float:
    """MiB that only these processes and their children use (proportional share of what they share: PSS)."""
    return sum(_pss(pid) for pid in _families(pids)) / 1024


def measure(systems: Sequence[System], runs: int, sizes: Sizes | None = None) -> Iterator[Row]:
    """All figures of all systems, each started anew for every round; a system after the other within a round."""
    sizes = sizes or Sizes()
    taken: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(runs):
        for system in systems:
            for name, unit, value in _figures(system, sizes):
                taken.setdefault((name, unit, system.name), []).append(value)
    for (name, unit, system_name), values in sorted(taken.items()):
        yield Row(f"{name}: {system_name}", unit, values)


def _figures(system: System, sizes: Sizes) -> Iterator[tuple[str, str, float]]:
    begun = time.perf_counter()
    with system.running() as subject:
        single_run(subject, "chain", CHAIN)
        yield "start to first run done", "s", time.perf_counter() - begun
        time.sleep(2.0)
        yield "memory, idle", "MiB", memory(subject.pids)
        accepted, completed = throughput(subject, sizes)
        yield "runs accepted, one POST each", "1/s", accepted
        yield "runs completed, one POST each", "1/s", completed
        if subject.takes_batches:
            accepted, completed = batched(subject, sizes)
            yield f"runs accepted, batches of {sizes.batch}", "1/s", accepted
            yield f"runs completed, batches of {sizes.batch}", "1/s", completed
        middle, slow = latency(subject, sizes)
        yield "POST to done, one in flight, p50", "ms", middle
        yield "POST to done, one in flight, p99", "ms", slow
        yield f"one run of {sizes.wide} parallel nodes", "s", single_run(subject, "wide", sizes.wide)
        each = single_run(subject, "chain", sizes.chain) / sizes.chain
        yield f"cost of a node, chain of {sizes.chain}", "ms", each * 1000


def _await(subject: Subject, total: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (done := subject.completed()) < total:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{total - done} of the runs were not done after {PATIENCE:g} s")
        time.sleep(POLL_SECONDS)


def _families(pids: Sequence[int]) -> set[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(folder.name))
    family, generation = set(pids), list(pids)
    while generation:
        generation = [child for pid in generation for child in parents.get(pid, ()) if child not in family]
        family.update(generation)
    return family


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
