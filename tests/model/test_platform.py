"""Random workflows on the platform, on both databases, and what interrupts them there."""

import pytest

from tests.model.conftest import drawn, play_one
from tests.model.nodes import Stage
from tests.model.platform import Play, executors
from tests.support.invariants import violations

pytestmark = pytest.mark.database


@pytest.mark.parametrize(
    "verbs",
    [
        pytest.param((), id="nothing"),
        pytest.param(("pause", "pause-now"), id="pause"),
        pytest.param(("restart", "lapse", "pause", "pause-now"), id="restart"),
        pytest.param(("cancel", "terminate", "restart", "lapse"), id="cancel"),
    ],
)
def test_of_what_interrupts_it_only_a_stop_is_seen(tenant, stage: Stage, verbs: tuple[str, ...]):
    with executors() as made:
        for case in drawn(6, verbs):
            play_one(case, lambda case=case: Play(case, stage, tenant).to_the_end(made))
            assert not violations(), case
