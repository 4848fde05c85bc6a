"""Random workflows in the library, and what interrupts them there."""

import pytest
from hypothesis import given

from tests.model.conftest import play_one, playing
from tests.model.language import Case, cases
from tests.model.library import play
from tests.model.nodes import Stage


@playing(30)
@given(case=cases())
def test_what_is_written_is_what_happens(stage: Stage, case: Case):
    play_one(case, lambda: play(case, stage))


@pytest.mark.parametrize(
    "verbs",
    [
        pytest.param(("pause", "pause-now"), id="pause"),
        pytest.param(("restart", "restart", "pause", "pause-now"), id="restart"),
        pytest.param(("cancel", "restart", "pause-now"), id="cancel"),
    ],
)
def test_of_what_interrupts_it_only_a_cancellation_is_seen(stage: Stage, verbs: tuple[str, ...]):
    @playing(25)
    @given(case=cases(verbs))
    def each(case: Case) -> None:
        play_one(case, lambda: play(case, stage))

    each()
