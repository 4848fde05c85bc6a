"""How many cases are played, and from which seed."""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings

from pyflow.nodes import default_registry
from tests.model.language import Became, Case
from tests.model.nodes import Stage
from tests.model.reference import complaints

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


def play_one(case: Case, play: Callable[[], Became]) -> None:
    """Play a case, and ask whether the documentation allows what became of it."""
    became = play()
    wrong = complaints(case, became)
    assert not wrong, "\n".join([*wrong, f"became: {became}", f"workflow: {case.document('case')}"])


@pytest.fixture
def stage() -> Stage:
    return Stage(default_registry.copy())
