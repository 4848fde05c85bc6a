"""``python -m benchmarks.drain [--runs N] [--workers N]``: many runs at once, and whether the last go like the first.

A row for each tenth of the runs, in the order of their ends: runs a second, how long a run took from its start to its
end, and the memory of the workers (PSS) when the tenth was done.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from bisect import bisect_left

import psycopg

from benchmarks.load import load
from benchmarks.measure import environment
from benchmarks.service import PyFlow, Service
from benchmarks.workload import CHAIN, Sizes, memory

BATCH = 500
SAMPLE_SECONDS = 1.0
TENTHS = """
    SELECT tenth, count(*), extract(epoch FROM max(finished_at))::float8,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.99) WITHIN GROUP (ORDER BY took)
    FROM (
        SELECT finished_at, 1000 * extract(epoch FROM finished_at - started_at)::float8 AS took,
            ntile(10) OVER (ORDER BY finished_at) AS tenth
        FROM runs_run WHERE state = 'succeeded'
    ) AS ended
    GROUP BY tenth ORDER BY tenth
"""


def main() -> None:
    """Start them all, wait for all of them, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description="Drain very many runs.")
    parser.add_argument("--runs", type=int, default=100_000, help="how many (default 100,000)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    arguments = parser.parse_args()
    count = max(1, arguments.runs // BATCH) * BATCH
    with PyFlow(Sizes(), workers=arguments.workers).running() as service:
        begun = time.time()
        accepting = threading.Thread(target=_accept, args=(service, count), daemon=True)
        accepting.start()
        samples = [(begun, memory(service.workers))]
        while service.completed() < count:
            time.sleep(SAMPLE_SECONDS)
            samples.append((time.time(), memory(service.workers)))
        _print(service, begun, samples)


def _accept(service: Service, count: int) -> None:
    request = service.start("chain", CHAIN, count=BATCH)
    begun = time.perf_counter()
    load(service.url, request.path, count // BATCH, connections=2, body=request.body, headers=request.headers)
    print(f"accepted {count} runs at {count / (time.perf_counter() - begun):.0f} a second", flush=True)


def _print(service: Service, begun: float, samples: list[tuple[float, float]]) -> None:
    print(f"{'tenth':>5} {'runs/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'MiB':>7}")
    times = [at for at, _ in samples]
    with psycopg.connect(service.database) as connection:
        for tenth, count, end, median, last in connection.execute(TENTHS).fetchall():
            used = samples[min(bisect_left(times, end), len(samples) - 1)][1]
            print(f"{tenth:>5} {count / (end - begun):>8.0f} {median:>8.0f} {last:>8.0f} {used:>7.0f}")
            begun = end
    print(json.dumps(environment()))


if __name__ == "__main__":
    main()
