"""``python -m benchmarks.authentication``: the time of authenticating a key that this process has cached.

Prints the 99th percentile in milliseconds. The key is in ``PYFLOW_BENCHMARK_KEY``; the calls take longer than the cache
believes a key, so the re-reading of its row is among them.
"""

from __future__ import annotations

import os
import time

import django

SECONDS = 12.0
#: So many a second, as a busy server would: the calls that find the cache warm must not drown the others.
RATE = 500


def main() -> None:
    """Authenticate for ``SECONDS``."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    django.setup()
    from tenants.authentication import authenticate_key  # noqa: PLC0415 - needs the settings

    key, taken = os.environ["PYFLOW_BENCHMARK_KEY"], []
    authenticate_key(text=key)
    end = time.perf_counter() + SECONDS
    while (begun := time.perf_counter()) < end:
        authenticate_key(text=key)
        taken.append(time.perf_counter() - begun)
        time.sleep(max(0.0, 1 / RATE - taken[-1]))
    print(1000 * sorted(taken)[int(len(taken) * 0.99)])


if __name__ == "__main__":
    main()
