"""A web application that starts Celery chains: nothing is recorded, and a lost message is a lost run.

Runs in an environment of its own (``requirements.txt``). ``BROKER_URL`` names a Redis database of its own.
"""

import os
from urllib.parse import parse_qs

from celery import Celery, chain, group

app = Celery("chain", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
app.conf.worker_prefetch_multiplier = 4
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop(value=None):
    """A node that does nothing."""
    return value


@app.task
def last(value=None):
    """The last node of a run: counts it, as the driver wants to know when all are done."""
    app.backend.client.incr("completed")
    return value


def start(kind, size):
    if kind == "wide":
        return group(noop.si() for _ in range(size)).apply_async()
    return chain(noop.si(), *(noop.s() for _ in range(size - 2)), last.s()).apply_async()


def application(environ, respond):
    """``POST /runs?count=&kind=&size=&wait=`` and ``GET /completed``."""
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if environ["PATH_INFO"] == "/completed":
        body = str(int(app.backend.client.get("completed") or 0)).encode()
    else:
        for _ in range(int(query.get("count", 1))):
            result = start(query.get("kind", "chain"), int(query.get("size", 3)))
        if "wait" in query:
            result.get(timeout=120)
        body = b"{}"
    respond("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
