"""`GET /api/v1/runs`."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from runs.models import Run
from runs.services.start import Start, start_run
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.records import record
from tests.support.factories.rows import HELLO, a_test, make_run, make_workflow

OPERATION = "runs_list"
PATH = "/api/v1/runs"
pytestmark = pytest.mark.api


@pytest.fixture
def hello(tenant):
    return make_workflow(tenant)


def start(tenant, count: int = 1, **options) -> list[Run]:
    """Runs of `hello`."""
    begin = Start(input={"who": "Ada"}, **options)
    return [start_run(by=a_test(tenant), workflow_name="hello", start=begin).run for _ in range(count)]


def ids(response) -> list[str]:
    """What is on a page."""
    assert response.status_code == 200, response.content
    return [run["id"] for run in read(response)["results"]]


def test_runs_are_listed_newest_first_without_their_data(api: Api, tenant, hello):
    runs = start(tenant, 3)
    body = read(api.get(PATH))
    assert [run["id"] for run in body["results"]] == [str(run.pk) for run in reversed(runs)]
    assert (body["next"], body["previous"]) == (None, None)
    assert not {"input", "outputs"} & body["results"][0].keys()
    assert body["results"][0]["started_by"]["kind"] == "system"


def test_pages_stay_in_place_while_runs_are_started(api: Api, tenant, hello):
    runs = [str(run.pk) for run in reversed(start(tenant, 5))]
    seen, page = [], read(api.get(f"{PATH}?limit=2"))
    while True:
        seen += [run["id"] for run in page["results"]]
        start(tenant)
        if page["next"] is None:
            break
        page = read(api.get(page["next"]))
    assert seen == runs
    back = read(api.get(page["previous"]))
    assert [run["id"] for run in back["results"]] == runs[2:4]


def test_pages_are_linked(api: Api, tenant, hello):
    start(tenant, 2)
    response = api.get(f"{PATH}?limit=1")
    assert response.headers["Link"] == f'<{read(response)["next"]}>; rel="next"'


@pytest.mark.vendor("each vendor searches JSON and text in its own way")
def test_filters(api: Api, tenant, hello):
    done, low = start(tenant)[0], start(tenant, priority=1, labels={"customer": "7"})[0]
    record(done)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    newer = start(tenant)[0]
    other = make_run(tenant, HELLO.replace("name: hello", "name: other"))
    child = start(tenant)[0]
    Run.objects.for_tenant(tenant).filter(pk=child.pk).update(parent=done, trigger="workflow")
    everything = {run.pk for run in (done, low, newer, other, child)}

    def found(query: str) -> set:
        return {run.pk for run in (done, low, newer, other, child) if str(run.pk) in ids(api.get(f"{PATH}?{query}"))}

    assert found("") == everything
    assert found("state=succeeded") == {done.pk}
    assert found("state=succeeded&state=queued") == everything
    assert found("workflow=other") == {other.pk}
    assert found("workflow=hello&workflow=other") == everything
    assert found("version=2") == {newer.pk, child.pk}
    assert found("trigger=workflow") == found(f"parent={done.pk}") == {child.pk}
    assert found("label=customer:7") == {low.pk}
    assert found("label=customer:7&label=team:nobody") == set()
    assert found("search=THE") == found(f"search={other.pk}") == {other.pk}
    at = timezone.now() - timedelta(days=1)
    long_ago, later = at.strftime("%Y-%m-%dT%H:%M:%SZ"), "2100-01-01T00:00:00Z"
    assert found(f"created_after={long_ago}&created_before={later}") == everything
    assert found(f"created_before={long_ago}") == set()
    assert found(f"finished_after={long_ago}") == {done.pk}
    assert found("ordering=-finished_at") == {done.pk}


def test_the_oldest_first(api: Api, tenant, hello):
    runs = start(tenant, 3)
    assert ids(api.get(f"{PATH}?ordering=created_at")) == [str(run.pk) for run in runs]


@pytest.mark.parametrize(
    "query",
    [
        "stat=queued", "state=done", "version=0", "version=x", "label=team", "label=1:x", "parent=x", "limit=201",
        "ordering=priority", "created_after=yesterday", "created_after=2016-12-31T23:59:60Z",
        "created_after=0001-01-01T00:00:00%2B14:00", "search=%00", "trigger=me", "workflow=%00",
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


def test_a_cursor_of_another_filter_is_refused(api: Api, tenant, hello):
    start(tenant, 2)
    page = read(api.get(f"{PATH}?limit=1"))["next"]
    assert_problem(api.get(f"{page}&state=queued"), 400, "cursor_invalid")


def test_it_answers_in_yaml(api: Api, tenant, hello):
    start(tenant)
    assert len(read(api.get(PATH, accept=YAML))["results"]) == 1


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant, hello):
    [run] = start(tenant)
    for query in ("", "?workflow=hello", f"?search={run.pk}", f"?parent={uuid4()}"):
        assert ids(other_api.get(PATH + query)) == []


def test_its_queries_are_counted(api: Api, tenant, hello, django_assert_num_queries):
    start(tenant, 3)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(ids(api.get(PATH))) == 3
