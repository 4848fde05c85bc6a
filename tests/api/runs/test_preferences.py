"""`Prefer: wait=N` wherever a run is answered."""

import threading

import pytest

from runs.models import Run
from runs.services import awaiting
from runs.services.cancel import cancel_run
from tests.support.api import Api, read
from tests.support.factories.rows import make_api_key, make_run, make_tenant, make_workflow
from tests.support.processes.running import executing, operator

WAITS = """
version: 2
name: waits
nodes: [{id: a, type: signal, config: {name: go}}]
"""
pytestmark = [pytest.mark.api, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world():
    tenant = make_tenant()
    return tenant, Api(make_api_key(tenant)[1])


def test_a_run_is_read_once_it_has_ended(world):
    tenant, api = world
    run = make_run(tenant)
    with executing():
        response = api.get(f"/api/v1/runs/{run.pk}", prefer="wait=60")
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=60")
    body = read(response)
    assert (body["state"], [node["state"] for node in body["nodes"]]) == ("succeeded", ["succeeded"])


def test_what_was_known_is_answered_anew_after_the_wait(world):
    tenant, api = world
    run = make_run(tenant)
    tag = api.get(f"/api/v1/runs/{run.pk}?fields=id,state").headers["ETag"]
    with executing():
        response = api.get(f"/api/v1/runs/{run.pk}?fields=id,state", prefer="wait=60", if_none_match=tag)
    assert (response.status_code, read(response)["state"]) == (200, "succeeded")


def test_a_run_that_does_not_end_is_answered_as_it_is(world):
    tenant, api = world
    run = make_run(tenant)
    response = api.get(f"/api/v1/runs/{run.pk}", prefer="wait=1")
    assert (response.status_code, read(response)["state"]) == (200, "queued")
    assert "Preference-Applied" not in response.headers


def test_a_cancelled_run_is_answered_once_it_is(world):
    tenant, api = world
    run = make_run(tenant, WAITS)
    with executing():
        response = api.post(f"/api/v1/runs/{run.pk}/cancel", prefer="wait=60")
    assert (response.status_code, read(response)["state"]) == (200, "cancelled")
    assert response.headers["Preference-Applied"] == "wait=60"


def test_a_pause_is_waited_for(world):
    tenant, api = world
    run = make_run(tenant, WAITS)
    response = api.post(f"/api/v1/runs/{run.pk}/pause", prefer="wait=60")
    assert (response.status_code, read(response)["state"]) == (200, "paused")


def test_a_retry_and_a_rerun_are_waited_for(world):
    tenant, api = world
    run = make_run(tenant, WAITS)
    cancel_run(by=operator(run), run_id=run.pk)
    with executing():
        api.get(f"/api/v1/runs/{run.pk}", prefer="wait=60")
        assert read(api.get(f"/api/v1/runs/{run.pk}"))["state"] == "cancelled"
        again = api.post(f"/api/v1/runs/{run.pk}/retry", prefer="wait=1")
        assert (again.status_code, read(again)["state"] in {"queued", "running", "waiting"}) == (202, True)
        make_workflow(tenant)
        hello = make_run(tenant)
        response = api.post(f"/api/v1/runs/{hello.pk}/rerun", {}, prefer="wait=60")
    assert (response.status_code, read(response)["state"]) == (200, "succeeded")
    assert read(response)["id"] != str(hello.pk)


def test_a_batch_is_answered_once_all_of_it_has_ended(world):
    tenant, api = world
    make_workflow(tenant)
    starts = [{"input": {"who": str(number)}} for number in range(3)] + [{"input": {}}]
    with executing():
        response = api.post("/api/v1/workflows/hello/runs/batch", {"runs": starts}, prefer="wait=60")
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=60")
    results = read(response)["results"]
    assert [result["status"] for result in results] == [200, 200, 200, 422]
    assert {result["run"]["state"] for result in results[:3]} == {"succeeded"}


def test_requests_that_wait_are_limited(world, monkeypatch: pytest.MonkeyPatch):
    tenant, api = world
    run = make_run(tenant)
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(awaiting, "_places", places)
    with places:
        response = api.get(f"/api/v1/runs/{run.pk}", prefer="wait=600")
    assert (response.status_code, read(response)["state"]) == (200, "queued")
    assert Run.objects.across_tenants().get().state == "queued"
