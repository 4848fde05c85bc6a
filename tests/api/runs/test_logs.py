"""`GET /api/v1/runs/{id}/logs`."""

from datetime import timedelta
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import RunLog
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand

OPERATION = "runs_logs"
pytestmark = [pytest.mark.api, written_by_hand]
#: node, attempt, item, level, message
LINES = [
    ("a", 1, None, 20, "begins"),
    ("a", 1, None, 10, "thinks"),
    ("b", 1, 7, 30, "doubts\nand says why"),
    ("b", 2, 7, 40, "fails"),
    ("", 0, None, 30, "cut"),
]


@pytest.fixture
def path(tenant) -> str:
    run = make_run(tenant)
    RunLog.objects.bulk_create(
        RunLog(
            tenant=tenant, run=run, seq=seq, node_id=node, attempt=attempt, item=item, level=level, message=message,
            at=run.created_at.replace(microsecond=0) + timedelta(seconds=seq),
        )
        for seq, (node, attempt, item, level, message) in enumerate(LINES, 1)
    )  # fmt: skip
    return f"/api/v1/runs/{run.pk}/logs"


def seqs(api: Api, address: str) -> list[int]:
    return [line["seq"] for line in read(api.get(address))["results"]]


def test_lines_come_in_their_order_page_by_page(api: Api, path: str):
    seen, page = [], f"{path}?limit=2"
    while page is not None:
        body = read(api.get(page))
        assert body["state"] == "queued"
        seen += [(x["node_id"], x["attempt"], x["item"], x["level"], x["message"]) for x in body["results"]]
        page = body["next"]
    names = {10: "debug", 20: "info", 30: "warning", 40: "error"}
    expected = [(n or None, a or None, i, names[level], text) for n, a, i, level, text in LINES]
    assert seen == expected


def test_they_can_be_filtered(api: Api, path: str):
    assert seqs(api, f"{path}?node=a") == [1, 2]
    assert seqs(api, f"{path}?level=warning") == [3, 4, 5]
    assert seqs(api, f"{path}?level=error&node=a") == []
    assert seqs(api, f"{path}?after=3") == [4, 5]
    assert seqs(api, f"{path}?after=5") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("level=loud", "/level"),
        ("level=", "/level"),
        ("after=-1", "/after"),
        ("after=x", "/after"),
        ("limit=0", "/limit"),
    ],
)
def test_a_wrong_query_is_refused(api: Api, path: str, query: str, pointer: str):
    body = assert_problem(api.get(f"{path}?{query}"), 422, "input_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_as_text_it_is_a_line_each_and_links_to_the_next_page(api: Api, path: str):
    response = api.get(f"{path}?limit=4", accept="text/plain")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    lines = response.content.decode().splitlines()
    texts = [line.partition(" ")[2] for line in lines]
    assert texts[:2] == ["INFO a: begins", "DEBUG a: thinks"]
    assert (texts[2], lines[3], texts[4]) == ("WARNING b[7]: doubts", "and says why", "ERROR b[7] (attempt 2): fails")
    assert 'rel="next"' in response.headers["Link"]
    last = api.get(f"{path}?after=4", accept="text/plain")
    assert last.content.decode().endswith("+00:00 WARNING cut\n")
    assert "Link" not in last.headers


def test_a_problem_is_one_for_who_wants_text_too(api: Api, path: str):
    assert_problem(api.get(f"{path}?limit=0", accept="text/plain"), 422, "input_invalid")


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.get(path, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert len(read(response)["results"]) == len(LINES)


def test_the_run_links_to_it(api: Api, path: str):
    response = api.get(path.removesuffix("/logs"))
    assert f'{path}>; rel="logs"' in response.headers["Link"]


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.get(f"/api/v1/runs/{new_id()}/logs"), 404, "run_not_found")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/logs")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get(path)
    with django_assert_num_queries(2):  # the run, its lines
        assert api.get(path).status_code == 200
