"""Templates of strangers that take their time, beside requests that want next to nothing of the same server."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.factories.rows import make_api_key, make_tenant
from tests.support.processes.platform import Server, environment
from tests.support.servers import launcher

pytestmark = [pytest.mark.fleet, pytest.mark.e2e]
PATH = "/api/v1/workflows/dry-run"
BOMBS = (
    "{% set a = 'a' * 400000 %}{{ (a ~ 'b' ~ a).rfind(a ~ 'b' ~ 'a' * 300000 ~ 'c') }}",
    "{{ ('\u0101' * 500000).strip('\u0201' * 400000 ~ '\u0101') }}",
    "{% for i in range(9000) %}{% if ('ab' * 99)|upper == '' %}{% endif %}{% endfor %}",
)


@pytest.fixture
def server(tmp_path: Path, transactional_db) -> Iterator[Server]:
    with launcher.redis() as url:
        env = environment(tmp_path, REDIS_URL=url, PYFLOW_EXECUTOR="celery")
        with Server(env, tmp_path / "web.log", key="") as server:
            yield server


def test_templates_that_take_their_time_leave_the_server_to_others(server: Server):
    """One process answers all of it: it is asked whether it is alive while documents of two tenants are planned."""
    keys = [make_api_key(make_tenant(name))[1] for name in ("one", "two")]
    nodes = [
        {"id": f"n{i}", "type": "log", "config": {"message": f"{{# {i} #}}{BOMBS[i % len(BOMBS)]}"}} for i in range(24)
    ]
    body = {"document": {"version": 2, "name": "x", "nodes": nodes}}
    answers: Counter[tuple[int, str | None]] = Counter()

    def plan(key: str) -> None:
        status, answer = server.call("POST", PATH, body, Authorization=f"Bearer {key}")
        answers[status, answer.get("code")] += 1

    planning = [threading.Thread(target=plan, args=(key,)) for key in keys]
    for thread in planning:
        thread.start()
    alive = 0
    while any(thread.is_alive() for thread in planning):
        alive += server.call("GET", "/api/v1/health/live")[0] == 200
    assert answers.total() == 2
    assert answers.keys() <= {(200, None), (422, "computation_limit")}
    # While one such template held the process, it answered nothing at all.
    assert alive >= 5
