"""The reader of PostgreSQL's log knows what nobody has explained."""

from tests.support.servers.database_log import in_the_way, unexplained

LOG = """\
2026-01-01 00:00:00.000 UTC [7] LOG:  expected in this session: deadlock detected
2026-01-01 00:00:00.001 UTC [7] ERROR:  deadlock detected
2026-01-01 00:00:00.002 UTC [7] DETAIL:  Process 7 waits for ShareLock on transaction 9; blocked by process 8.
2026-01-01 00:00:00.003 UTC [8] ERROR:  deadlock detected
2026-01-01 00:00:00.004 UTC [8] ERROR:  could not serialize access due to concurrent update
2026-01-01 00:00:00.005 UTC [8] ERROR:  duplicate key value violates unique constraint "run_key"
2026-01-01 00:00:00.006 UTC [8] STATEMENT:  SELECT 'ERROR: deadlock detected'
2026-01-01 00:00:00.007 UTC [9] FATAL:  the database system is starting up
"""


def test_each_expectation_excuses_one_line():
    lines = [line.partition("] ")[2] for line in in_the_way(LOG)]
    assert lines == ["ERROR:  deadlock detected", "ERROR:  could not serialize access due to concurrent update"]


def test_a_session_that_is_broken_on_purpose_explains_only_what_it_breaks():
    lines = [line.partition("] ")[2].partition(" value")[0] for line in unexplained(LOG)]
    assert lines == [
        "ERROR:  deadlock detected",
        "ERROR:  could not serialize access due to concurrent update",
        "ERROR:  duplicate key",
    ]
