"""What an operator does while runs are executed, and a server that has no connection left."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

from runs.models import Run
from runs.services.start import start_version
from secrets_vault.models import DataKey
from tests.chaos.world import MASTER_KEYS, ChaosWorld
from tests.support.factories.rows import make_tenant, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.processes.platform import LEASE_SECONDS, ROOT

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(900)]

#: So few that no lease ends because the machine has too much to do.
AT_A_TIME = 10
CHAIN = tuple(
    {"id": f"n{i}", "type": "effect", "depends_on": [f"n{i - 1}"] if i else [], "config": {"pace": 0.05}}
    for i in range(3)
)


def test_postgresql_has_no_connection_left_for_longer_than_a_lease(world: ChaosWorld):
    """Whoever has one goes on with it, whoever has none tries again; nothing that was accepted is lost."""
    ours = world.workflow(*CHAIN)
    theirs = make_workflow(make_tenant(), f"version: 2\nname: other\nnodes: {json.dumps(CHAIN)}\n")
    world.workers(2)
    for _ in range(2):
        world.start(ours, 20)
        world.accepted += [start_version(version=theirs, input={}) for _ in range(5)]
        connections["default"].close()
        until = time.monotonic() + 1.5 * LEASE_SECONDS
        with ExitStack() as taken:
            while time.monotonic() < until:
                with suppress(psycopg.OperationalError):  # what others let go meanwhile is taken, too
                    while True:
                        taken.enter_context(psycopg.connect(world.site.url, autocommit=True))
                time.sleep(0.05)
    world.settle(120)
    world.verify()


def test_secrets_are_read_on_two_workers_while_the_master_key_is_rotated_and_the_schema_is_migrated(
    world: ChaosWorld, settings
):
    tenants = [world.tenant, make_tenant()]
    old = MASTER_KEYS.split(",")[1]
    settings.PYFLOW_MASTER_KEYS = old
    for tenant in tenants:
        make_secret(tenant, "TOKEN", "sesame-open-1")
    settings.PYFLOW_MASTER_KEYS = MASTER_KEYS
    graph = [{**node, "config": {"pace": 0.05, "value": "{{ secrets.TOKEN }}"}} for node in CHAIN]
    source = f"version: 2\nname: reads\nnodes: {json.dumps(graph)}\n"
    versions = [make_workflow(tenant, source) for tenant in tenants]
    world.workers(2)
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            if world.unfinished() < AT_A_TIME:
                world.accepted += [start_version(version=version, input={}) for version in versions]
            time.sleep(0.05)
        connections.close_all()

    starting = threading.Thread(target=start)
    starting.start()
    try:
        for _ in range(3):
            effects = len(world.effects()) + 10
            world.until(lambda effects=effects: len(world.effects()) > effects, what="progress")
            call_command("rotate_master_key", "--data-keys", "--batch-size", "1", verbosity=0)
            env = os.environ | {"DATABASE_URL": world.site.url, "PYFLOW_EXECUTOR": "celery"}
            subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True, cwd=ROOT, env=env)
    finally:
        stop.set()
        starting.join()
    world.settle(120)
    world.verify()
    assert set(Run.objects.across_tenants().values_list("state", "tenant")) == {
        ("succeeded", tenant.pk) for tenant in tenants
    }
    assert set(DataKey.objects.across_tenants().values_list("master_key", flat=True)) == {"new"}
