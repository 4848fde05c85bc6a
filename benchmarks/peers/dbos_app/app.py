"""A web application that starts durable DBOS workflows, which its own process executes.

Runs in an environment of its own (``requirements.txt``). ``DATABASE_URL`` names an empty PostgreSQL database.
"""

import asyncio
import os
from urllib.parse import parse_qs

import sqlalchemy
from dbos import DBOS

DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["DATABASE_URL"],
        "log_level": "WARNING",
        "application_version": "1",
    }
)
URL = sqlalchemy.make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
engine = sqlalchemy.create_engine(URL)
COMPLETED = sqlalchemy.text("SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")


@DBOS.step()
async def noop(value=None):
    """A node that does nothing."""
    return value


@DBOS.workflow()
async def chain(size: int):
    """One step after the other."""
    for number in range(size):
        await noop(number)


@DBOS.workflow()
async def wide(size: int):
    """All steps at once."""
    await asyncio.gather(*(noop(number) for number in range(size)))


def completed():
    with engine.connect() as connection:
        return connection.execute(COMPLETED).scalar_one()


async def application(scope, receive, send):
    """``POST /runs?count=&kind=&size=&wait=`` and ``GET /completed``."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.to_thread(DBOS.launch)
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    body = b"{}"
    if scope["path"] == "/completed":
        body = str(await asyncio.to_thread(completed)).encode()
    else:
        workflow = wide if query.get("kind") == "wide" else chain
        for _ in range(int(query.get("count", 1))):
            handle = await DBOS.start_workflow_async(workflow, int(query.get("size", 3)))
        if "wait" in query:
            await handle.get_result()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
