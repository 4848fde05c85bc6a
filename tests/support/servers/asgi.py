"""Both ASGI servers in this process, each with its event loop on a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from django.core.handlers.asgi import ASGIHandler

from events.streams import hub
from pyflow_site.routing import routed
from tests.support import waiting
from tests.support.servers import launcher

SERVERS = ("daphne", "uvicorn")
#: A feed ends with its last stream: the tables of the next test are not read.
hub.PACING = hub.Pacing(idle=0.0)


@contextmanager
def serving(name: str) -> Iterator[str]:
    """A server for a while, or (daphne, whose event loop can run once) for the rest of the process; its address."""
    if name == "uvicorn":
        port = launcher.free_port()
        config = uvicorn.Config(
            routed(ASGIHandler()), port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True, name="uvicorn")
        thread.start()
        waiting.until(lambda: server.started, what="uvicorn")
        yield f"127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)
        return
    if not _daphne:
        _daphne.append(_start_daphne())
    yield f"127.0.0.1:{_daphne[0]}"


_daphne: list[int] = []


def _start_daphne() -> int:
    from daphne.server import Server, twisted_loop

    port = launcher.free_port()

    def run() -> None:
        asyncio.set_event_loop(twisted_loop)
        endpoint = f"tcp:port={port}:interface=127.0.0.1"
        Server(
            routed(ASGIHandler()), endpoints=[endpoint], signal_handlers=False, verbosity=0, ready_callable=is_ready.set
        ).run()

    is_ready = threading.Event()
    threading.Thread(target=run, daemon=True, name="daphne").start()
    assert is_ready.wait(30)
    return port
