"""What PostgreSQL has logged in a session, and what of it nobody has explained.

A deadlock that was retried, or a statement that was cancelled, hurts no assertion of any test. It is in the log.
"""

import re
from collections import Counter
from collections.abc import Mapping

from django.db import connection

#: What no session may log unless a test has said so by ``expect``: transactions got into each other's way.
NEVER = re.compile(
    "deadlock detected|could not serialize|could not obtain lock|canceling statement due to (lock timeout|conflict)"
    "|PANIC:"
)
#: What else a session may log that breaks everything on purpose, and why.
BROKEN_ON_PURPOSE: Mapping[str, str] = {
    "terminating connection due to administrator command": "a test kills backends, or stops the server in order",
    "terminating connection due to immediate shutdown command": "a test stops the server at once",
    "terminating connection because of unexpected SIGQUIT signal": "the same, seen by a backend",
    "terminating connection due to unexpected postmaster exit": "the same",
    "the database system is (shutting down|starting up|in recovery mode|not yet accepting connections)": "and then",
    "terminating connection due to idle-in-transaction timeout": "a process was frozen, or its link stalled",
    "connection to client lost": "a link was cut",
    "could not (send data to|receive data from) client": "the same",
    "canceling statement due to user request": "a client gave up waiting on a link that was stalled",
    r'role "\w+" does not exist': "whoever waits for the server asks with the name of the system's user",
    "canceling authentication due to timeout": "a link stalled while a connection was being made",
    'violates unique constraint "django_celery_beat_': "two clocks began together, with the same rows",
}
_EXPECTED = "expected in this session: "
_SEVERE = re.compile(r"^\S+ \S+ \S+ \[\d+\] (ERROR|FATAL|PANIC):\s")


def expect(text: str) -> None:
    """Say in the log that a line with ``text`` is going to be logged, once, because a test is about it."""
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE LOG '{_EXPECTED}{text}'; END $$")


def in_the_way(log: str) -> list[str]:
    """The lines that no session may log, but for those that were expected."""
    return _left(log, [line for line in log.splitlines() if _SEVERE.search(line) and NEVER.search(line)])


def unexplained(log: str) -> list[str]:
    """The errors of a session that is broken on purpose, without those that this explains."""
    why = re.compile("|".join(BROKEN_ON_PURPOSE))
    return _left(log, [line for line in log.splitlines() if _SEVERE.search(line) and not why.search(line)])


def _left(log: str, lines: list[str]) -> list[str]:
    expected = Counter(line.partition(_EXPECTED)[2].strip() for line in log.splitlines() if _EXPECTED in line)
    left = []
    for line in lines:
        known = next((text for text, count in expected.items() if count and text in line), None)
        if known is None:
            left.append(line)
        else:
            expected[known] -= 1
    return left
