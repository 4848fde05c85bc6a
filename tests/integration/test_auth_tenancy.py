"""Every case of the corpus `auth_tenancy`: nobody sees, does or delays what is not theirs."""

import pytest

from tests.support import auth_tenancy, corpora
from tests.support import auth_tenancy_inside as _inside  # noqa: F401 - its rules are registered

CASES = corpora.load("auth_tenancy")
pytestmark = pytest.mark.database


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_the_corpus(case: auth_tenancy.Case, request: pytest.FixtureRequest, transactional_db):
    auth_tenancy.play(auth_tenancy.World(request), case)
