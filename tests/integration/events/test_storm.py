"""Fan-out storms: many runs end, and each end reaches each stream, starts one run and is delivered, once."""

import os
import time
from pathlib import Path

import pytest

from events.webhooks.sender import WebhookSender
from runs.notify.current import of_settings, using
from runs.worker.inprocess import InProcessExecutor
from tenants.models import Tenant
from tests.support.factories.rows import make_api_key
from tests.support.processes.platform import Beat, Uvicorn, Worker, environment
from tests.support.servers import asgi
from tests.support.servers.receiver import Receiver
from tests.support.storm import Storm, Streams
from triggers.event_ticker import EventTicker

pytestmark = pytest.mark.django_db(transaction=True)
RUNS, STREAMS = 10_000, 200


@pytest.mark.database
def test_each_end_reaches_each_follower_once(tenant: Tenant, receiver: Receiver):
    storm, credential = Storm(tenant), f"Bearer {make_api_key(tenant)[1]}"
    storm.follow(receiver)
    members = (InProcessExecutor(), EventTicker(), WebhookSender())
    with asgi.serving("uvicorn") as server, Streams(server, credential, 8) as streams:
        for member in members:
            member.start()
        try:
            runs, _ = storm.pass_over(60)
            storm.assert_nothing_is_lost(runs, streams, receiver)
        finally:
            for member in members:
                member.stop()


@pytest.mark.fleet
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_ten_thousand_runs_end_while_two_hundred_streams_follow(
    tenant: Tenant, receiver: Receiver, settings, tmp_path: Path
):
    """Prints how many runs ended a second, alone and while they were followed: `pytest -s` shows it."""
    storm, credential = Storm(tenant), f"Bearer {make_api_key(tenant)[1]}"
    keys = {"PYFLOW_MASTER_KEYS": settings.PYFLOW_MASTER_KEYS, "REDIS_URL": os.environ["REDIS_URL"]}
    env = environment(tmp_path, PYFLOW_EXECUTOR="celery", PYFLOW_LOG_LEVEL="WARNING", **keys)
    with (
        using(of_settings()),
        Worker(env, tmp_path / "worker.log"),
        Beat(env, tmp_path / "beat.log"),
        Uvicorn(env, tmp_path / "uvicorn.log", credential.partition(" ")[2]) as server,
    ):
        storm.pass_over(1_000)  # all is loaded
        _, alone = storm.pass_over(RUNS, 600)
        storm.follow(receiver)
        with Streams(f"127.0.0.1:{server.port}", credential, STREAMS) as streams:
            began = time.monotonic()
            runs, followed = storm.pass_over(RUNS, 600)
            ended = time.monotonic()
            storm.assert_nothing_is_lost(runs, streams, receiver, 1200)
            caught_up = time.monotonic() - ended
    print(f"{RUNS} runs: {alone:.0f} a second alone, {followed:.0f} followed ({followed / alone:.2f})")
    print(f"started and ended in {ended - began:.1f} s, all followers {caught_up:.1f} s later")
