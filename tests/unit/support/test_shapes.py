"""Each test runs in at least one shape, and in both only where a mark says why."""

import pytest

from tests.support import session, shapes


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """Return all tests that were collected, whatever shape they belong to."""
    return request.config.stash[session.COLLECTED]


def test_the_shapes_together_run_every_test(suite: list[pytest.Item]):
    ids = {shape: {item.nodeid for item in suite if shape in shapes.shapes_of(item)} for shape in shapes.SHAPES}
    assert set.union(*ids.values()) == {item.nodeid for item in suite}
    assert len({item.nodeid for item in suite}) == len(suite)


def test_only_what_make_chaos_or_make_model_runs_is_in_neither(suite: list[pytest.Item]):
    long = [item for item in suite if session.is_long(item)]
    beside = ("tests/integration/triggers/test_two_schedulers.py", "tests/integration/events/test_storm.py")
    named = ("tests/chaos/", "tests/model/", *beside)
    assert not [item.nodeid for item in long if not item.nodeid.startswith(named)]


def test_a_test_of_the_api_that_runs_on_both_says_in_which_way_they_differ(suite: list[pytest.Item]):
    ours = [item for item in suite if item.nodeid.startswith(("tests/api/", "tests/generated/"))]
    assert not [item.nodeid for item in ours if item.get_closest_marker("database") is not None], "mark it vendor(why)"
    vendor = [(item.nodeid, mark) for item in suite if (mark := item.get_closest_marker("vendor")) is not None]
    assert not [nodeid for nodeid, mark in vendor if not (len(mark.args) == 1 and " " in mark.args[0])]


MARKS = {
    (): {"single"},
    ("database",): {"single", "fleet"},
    ("fleet",): {"fleet"},
    ("fleet", "database"): {"fleet"},
    ("api",): {"fleet"},
    ("api", "vendor"): {"single", "fleet"},
    ("api", "django_db"): {"fleet"},
    ("api", "django_db(transaction=True)"): {"single", "fleet"},
    ("api", "fleet"): {"fleet"},
}


@pytest.mark.parametrize("marks", MARKS, ids=" ".join)
def test_marks_choose_the_shapes(request: pytest.FixtureRequest, marks: tuple[str, ...]):
    item = pytest.Function.from_parent(request.node.parent, name="test_the_shapes_together_run_every_test")
    for mark in marks:
        name, _, real = mark.partition("(")
        item.add_marker(getattr(pytest.mark, name)(**({"transaction": True} if real else {})))
    assert shapes.shapes_of(item) == MARKS[marks]
