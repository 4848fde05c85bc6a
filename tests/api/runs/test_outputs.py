"""`GET /api/v1/runs/{id}/outputs`."""

from uuid import UUID

import pytest

from runs import values
from runs.models import Run
from runs.values import Owner
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_run

OPERATION = "run_outputs_read"
pytestmark = pytest.mark.database
LARGE = {"text": "é" * 300_000}


@pytest.fixture(autouse=True)
def storage(settings, tmp_path) -> None:
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"


@pytest.fixture
def run(tenant) -> Run:
    run = make_run(tenant)
    run.outputs = {"greeting": "Hello"}
    run.save()
    return run


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}/outputs"


@pytest.fixture
def large(run) -> Owner:
    owner = Owner(run.tenant_id, run.pk)
    run.outputs, run.outputs_ref = None, values.outsource(owner, LARGE)[1].as_dict()
    run.save()
    return owner


def test_a_small_one(api: Api, path: str):
    response = api.get(path)
    assert (response.status_code, read(response)) == (200, {"greeting": "Hello"})
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_a_large_one_is_streamed(api: Api, path: str, large):
    response = api.get(path)
    assert response.streaming
    content = b"".join(response.streaming_content)
    assert content == values.content_of(LARGE)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == str(len(content))
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_one_that_is_gone_is_a_problem_of_its_own(api: Api, path: str, large):
    values.store().delete_all(large)
    assert_problem(api.get(path), 500, "value_missing")


def test_a_large_one_in_yaml(api: Api, path: str, large):
    assert read(api.get(path, accept=YAML)) == LARGE


def test_a_small_one_in_yaml(api: Api, path: str):
    assert read(api.get(path, accept=YAML)) == {"greeting": "Hello"}


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str, large):
    hidden = other_api.get(path)
    unknown = other_api.get(path.replace(str(large.run_id), str(UUID(int=7 << 76 | 2 << 62))))
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, large, django_assert_num_queries):
    b"".join(api.get(path).streaming_content)
    with django_assert_num_queries(1):  # the run
        response = api.get(path)
    assert b"".join(response.streaming_content) == values.content_of(LARGE)


def test_a_run_without_outputs_has_null(api: Api, tenant):
    response = api.get(f"/api/v1/runs/{make_run(tenant).pk}/outputs")
    assert (response.status_code, response.content) == (200, b"null")


def test_the_run_says_where_they_are(api: Api, run, large):
    body = read(api.get(f"/api/v1/runs/{run.pk}"))
    assert (body["outputs"], body["outputs_ref"]) == (None, run.outputs_ref)
