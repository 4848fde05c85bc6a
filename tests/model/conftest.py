"""How many cases are played, and from which seed."""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from plugins import discovery
from pyflow.core.events import Event
from pyflow.nodes import default_registry
from runs.worker.sink import DatabaseSink
from tenants.models import Tenant
from tests.model.language import KIDS, PADDING, SECRET, Became, Case, cases
from tests.model.nodes import Stage
from tests.model.platform import store
from tests.model.reference import complaints
from tests.support.factories.rows import make_tenant
from tests.support.factories.secrets import make_secret
from tests.support.servers.event_bus import in_one_process

#: Set by `make model`: what the cases are drawn from, and how many of each kind.
SEED = os.environ.get("PYFLOW_TEST_MODEL")
EXAMPLES = int(os.environ.get("PYFLOW_TEST_MODEL_EXAMPLES", "0"))


def playing(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Play so many cases in CI, always the same; others, and more, by `make model`."""
    chosen = settings(
        max_examples=EXAMPLES or examples,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return chosen if SEED is None else lambda test: seed(SEED)(chosen(test))


def drawn(examples: int, verbs: tuple[str, ...]) -> list[Case]:
    """Draw cases to play one after the other.

    Not within hypothesis, which changes the recursion limit of the process: the platform would put that back.
    """
    found: list[Case] = []

    @playing(examples)
    @given(case=cases(verbs))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    return found


def play_one(case: Case, play: Callable[[], Became]) -> None:
    """Play a case, and ask whether the documentation allows what became of it."""
    became = play()
    wrong = complaints(case, became)
    assert not wrong, "\n".join([*wrong, f"became: {became}", f"workflow: {case.document('case')}"])


@pytest.fixture
def stage() -> Stage:
    return Stage(default_registry.copy())


@pytest.fixture
def tenant(transactional_db, stage, settings, tmp_path, monkeypatch) -> Iterator[Tenant]:
    """Return a tenant on a platform that knows the node type of the cases, and keeps large values in files."""
    settings.PYFLOW_SWEEP_SECONDS = 0.1
    settings.PYFLOW_STORAGE_ROOT, settings.PYFLOW_VALUES_ROOT = tmp_path / "storage", tmp_path / "values"
    settings.PYFLOW_LARGE_VALUE_BYTES = len(PADDING) // 2
    commit = DatabaseSink.commit

    async def counted(sink: DatabaseSink, event: Event) -> None:
        await stage.ledger.tick()
        await commit(sink, event)
        await stage.ledger.tick()

    monkeypatch.setattr(DatabaseSink, "commit", counted)
    with discovery.using(discovery.Discovered(stage.registry, ())), in_one_process():
        tenant = make_tenant()
        make_secret(tenant, "TOKEN", SECRET)
        for kid in KIDS.values():
            store(tenant, kid)
        yield tenant
