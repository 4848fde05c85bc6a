"""Every case of the corpus `auth_tenancy`: nobody sees, does or delays what is not theirs."""

import pytest

from tests.support import corpora
from tests.support.corpora import auth_tenancy
from tests.support.corpora import auth_tenancy_credentials as _credentials  # noqa: F401 - its rules are registered
from tests.support.corpora import auth_tenancy_inside as _inside  # noqa: F401 - its rules are registered

pytestmark = pytest.mark.database


@pytest.mark.breaks_invariant(
    "a_run_is_queued_first_and_again_by_each_retry",
    "events_are_numbered_without_a_gap",
    "runs_per_day_are_those_of_rows",
    "stored_bytes_are_those_of_rows",
    reason="its rows are put into the tables as they are",
)
@corpora.each("auth_tenancy")
def test_the_corpus(case: corpora.Case, request: pytest.FixtureRequest, transactional_db):
    auth_tenancy.play(auth_tenancy.AttackedTenants(request), case)
