"""`GET /api/v1/runs/{id}/nodes/{node}/items`."""

from uuid import UUID

import pytest
from django.utils import timezone

from runs.models import NodeItem
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_run

OPERATION = "run_node_items_list"
pytestmark = pytest.mark.api


@pytest.fixture
def path(tenant) -> str:
    run = make_run(tenant)
    NodeItem.objects.bulk_create(
        NodeItem(
            tenant=tenant, run=run, node_id="greet", index=i, key=str(i), attempts=1, output=i, at=timezone.now(),
            state="failed" if i == 1 else "succeeded",
        )
        for i in reversed(range(5))
    )  # fmt: skip
    return f"/api/v1/runs/{run.pk}/nodes/greet/items"


def test_items_come_in_their_order_page_by_page(api: Api, path: str):
    seen, page = [], f"{path}?limit=2"
    while page is not None:
        body = read(api.get(page))
        seen += [(item["index"], item["key"], item["output"]) for item in body["results"]]
        page = body["next"]
    assert seen == [(i, str(i), i) for i in range(5)]


def test_they_can_be_filtered_by_state(api: Api, path: str):
    assert [item["index"] for item in read(api.get(f"{path}?state=failed"))["results"]] == [1]


def test_an_unknown_node_is_not_found(api: Api, path: str):
    assert_problem(api.get(path.replace("greet", "unknown")), 404, "node_not_found")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    unknown = other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/nodes/greet/items")
    hidden = other_api.get(path)
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get(path)
    with django_assert_num_queries(3):  # the run, the node, the items; the plan is known
        assert api.get(path).status_code == 200
