"""An HTTP load on loopback: a few connections that are kept open, each with one request at a time."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120.0


class LoadError(RuntimeError):
    """A server under load answered with an error: what was measured would mean nothing."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The times that all of it and each request took. Seconds."""

    seconds: float
    latencies: list[float]


class Connection:
    """One connection to a server."""

    def __init__(self, url: str) -> None:
        self._http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)

    def send(self, path: str, body: bytes | None, headers: Mapping[str, str], method: str = "POST") -> bytes:
        """The answer's body. Raises ``LoadError`` unless the status is 2xx."""
        self._http.request(method, path, body, dict(headers))
        response = self._http.getresponse()
        content = response.read()
        if not 200 <= response.status < 300:
            raise LoadError(f"{method} {path}: {response.status} {content[:500]!r}")
        return content

    def close(self) -> None:
        """End it."""
        self._http.close()


def load(
    url: str,
    path: str,
    count: int,
    *,
    connections: int = 8,
    body: bytes | None = b"{}",
    headers: Mapping[str, str] = {},
    method: str = "POST",
) -> Answered:
    """``count`` requests over so many connections. Raises the first error of any of them."""
    left: SimpleQueue[int] = SimpleQueue()
    for number in range(count):
        left.put(number)
    latencies: list[float] = []
    errors: list[Exception] = []
    sent = {"Content-Type": "application/json", **headers}

    def work() -> None:
        connection = Connection(url)
        try:
            while not errors:
                left.get_nowait()
                begun = time.perf_counter()
                connection.send(path, body, sent, method)
                latencies.append(time.perf_counter() - begun)
        except Empty:
            pass
        except Exception as error:  # noqa: BLE001 - raised below, by the thread that asked
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Answered(time.perf_counter() - begun, latencies)
