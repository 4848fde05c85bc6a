"""The site of a session, the world of a test, and the seed of its chances."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos import world as worlds
from tests.support import invariants
from tests.support.servers.broker import publishing_to
from tests.support.servers.database_log import unexplained

#: What CI's selection is played with.
SEED = "20"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A connection that the proxy resets while it is being made is nobody's to close.

    These tests come first, and so to one worker: they wait more than they work, and leave the processor to another one.
    """
    ours = {item for item in items if item.path.parent == Path(__file__).parent}
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
    items.sort(key=lambda item: item not in ours)


def pytest_report_header() -> str:
    """Name the seed, so that what failed can be repeated: `make chaos SEED=…`."""
    return f"chaos: seed {seed()}"


def seed() -> str:
    """The seed of this session."""
    return os.environ.get("PYFLOW_TEST_CHAOS", SEED)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[worlds.Site]:
    with worlds.site(tmp_path_factory.mktemp("site")) as site:
        yield site
        assert unexplained(site.postgres.log()) == [], "what PostgreSQL has logged, and no fault explains"


@pytest.fixture
def world(
    site: worlds.Site, tmp_path: Path, request: pytest.FixtureRequest, settings, django_db_blocker
) -> Iterator[worlds.ChaosWorld]:
    with psycopg.connect(site.url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # the audit's trigger would refuse
        connection.execute("TRUNCATE tenants_tenant, chaos_writes CASCADE")
    settings.PYFLOW_EXECUTOR = "celery"
    chance = random.Random(f"{seed()} {request.node.name}")
    broker = f"redis://127.0.0.1:{site.broker.port}/0"
    with django_db_blocker.unblock(), worlds.django_on(site.url), publishing_to(broker):
        world = worlds.ChaosWorld(site, tmp_path, chance)
        world.flush_broker()
        try:
            yield world
        finally:
            world.end()
        wrong = invariants.violations(but=invariants.broken_by(request.node))
        assert not wrong, "\n".join(wrong)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """The node types of the tests' build."""
    from plugins import discovery
    from pyflow.nodes import default_registry
    from tests.chaos import nodes

    registry = default_registry.copy()
    nodes.register(registry)
    with discovery.using(discovery.Discovered(registry, ())):
        yield
