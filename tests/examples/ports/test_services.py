"""Ports that call services: repeating, compensating, limiting, and cleaning up."""

import pytest

from pyflow.core.suspension import Signal
from tests.support.factories.stage import states
from tests.support.ports import Ports
from tests.support.servers.scripted import Answer, Asked, Scripted


async def test_the_job_poller_asks_until_the_job_has_ended(ports: Ports, service: Scripted):
    service.answers["POST /jobs"] = {"id": "j-1"}
    running = [{"status": "RUNNING"}, Answer(503, "busy"), {"status": "RUNNING"}]
    service.answers["GET /jobs/j-1"] = [*running, {"status": "SUCCEEDED", "result": 42}]
    result = await ports.run("stepfunctions-job-poller", command="sort")
    assert result.outputs == {"job": "j-1", "result": 42}
    assert states(result) == {"submit": "succeeded", "poll": "succeeded", "refuse": "skipped"}
    assert service.lines == ["POST /jobs"] + ["GET /jobs/j-1"] * 4
    assert service.bodies("POST /jobs") == [{"command": "sort"}]
    assert service.asked[0].headers["idempotency-key"] == result.run_id

    service.answers["GET /jobs/j-1"] = {"status": "FAILED", "reason": "disk full"}
    failed = await ports.run("stepfunctions-job-poller", command="sort")
    assert (failed.state, failed.error.message) == ("failed", "job j-1 has failed: disk full")

    service.answers["GET /jobs/j-1"] = {"status": "RUNNING"}
    late = await ports.run("stepfunctions-job-poller", command="sort")
    assert (late.state, late.error.code, late.nodes["poll"].state) == ("failed", "until_timeout", "timed_out")


async def test_the_trip_is_booked_whole_or_undone_in_reverse_order(ports: Ports, service: Scripted):
    for thing in ("car", "hotel", "flight"):
        service.answers[f"POST /{thing}s"] = {"id": f"{thing}-1"}
        service.answers[f"DELETE /{thing}s/{thing}-1"] = {}
    service.answers["POST /messages"] = {}
    booked = await ports.run("temporal-trip-saga", traveller="Ada")
    assert booked.outputs == {"car": "car-1", "hotel": "hotel-1", "flight": "flight-1"}
    assert service.lines == ["POST /cars", "POST /hotels", "POST /flights"]

    service.asked.clear()
    service.answers["POST /flights"] = Answer(409, {"error": "sold out"})
    service.answers["DELETE /hotels/hotel-1"] = [Answer(503), {}]
    undone = await ports.run("temporal-trip-saga", traveller="Ada")
    assert (undone.state, undone.compensation) == ("failed", "succeeded")
    bookings = ["POST /cars", "POST /hotels", "POST /flights"]
    assert service.lines == [*bookings, *["DELETE /hotels/hotel-1"] * 2, "DELETE /cars/car-1", "POST /messages"]
    assert service.bodies("POST /messages") == [{"to": "Ada", "text": "No trip: flight, http_409"}]

    service.asked.clear()
    service.answers["POST /cars"] = Answer(500)
    nothing = await ports.run("temporal-trip-saga", traveller="Ada")
    assert (nothing.compensation, nothing.nodes["car"].attempts) == (None, 4)
    assert service.lines == ["POST /cars"] * 4 + ["POST /messages"]
    assert service.bodies("POST /messages") == [{"to": "Ada", "text": "No trip: car, http_500"}]


async def test_the_exit_handler_runs_in_any_case(ports: Ports, service: Scripted):
    def cleaned(asked: Asked) -> dict[str, str]:
        return {}

    service.answers |= {
        "POST /builds": {"id": 7},
        "POST /publications": {"url": "https://docs.test"},
        "POST /chat": "ok",
    }
    service.answers["DELETE /workspaces/r-1"] = cleaned
    done = await ports.run("argo-exit-handler", run_id="r-1", site="docs")
    assert (done.state, done.outputs) == ("succeeded", {"url": "https://docs.test"})
    assert service.lines[-2:] == ["DELETE /workspaces/r-1", "POST /chat"]
    assert service.bodies("POST /chat") == [{"text": "docs is published"}]

    service.asked.clear()
    service.answers["POST /publications"] = Answer(403, {"error": "no"})
    failed = await ports.run("argo-exit-handler", run_id="r-1", site="docs")
    assert failed.state == "failed"
    assert service.lines == ["POST /builds", "POST /publications", "POST /chat", "DELETE /workspaces/r-1"]
    assert service.bodies("POST /chat") == [{"text": "docs is not published: publish, http_403"}]
    assert states(failed)["celebrate"] == "skipped"


@pytest.mark.parametrize("decision", ["approved", "rejected", "forgotten"])
async def test_a_deployment_reaches_production_only_after_a_review(ports: Ports, service: Scripted, decision: str):
    def deploy(asked: Asked) -> dict[str, str]:
        return {"url": f"{service.url}/{asked.body['to']}"}

    service.answers |= {
        "POST /deployments": deploy,
        "GET /staging/health": [Answer(503), "ok"],
        "POST /statuses/c0ffee": {},
    }
    given = {"approved": decision == "approved", "by": "ada"}
    signals = [] if decision == "forgotten" else [Signal("approval:review", given)]
    result = await ports.run("github-deploy-approval", *signals, sha="c0ffee")
    deployed = [body["to"] for body in service.bodies("POST /deployments")]
    assert result.nodes["smoke"].attempts == 2
    if decision == "approved":
        assert result.outputs == {"production": f"{service.url}/production", "reviewed_by": "ada"}
        assert deployed == ["staging", "production"]
    else:
        assert (result.state, deployed) == ("failed", ["staging"])
    assert service.bodies("POST /statuses/c0ffee") == [{"state": result.state}]


async def test_the_limit_holds_and_answers_are_reused(ports: Ports, service: Scripted):
    ports.secrets["CODE_HOST"] = "sesame-open"
    repositories = [f"acme/{name}" for name in "abcdef"]
    for stars, name in enumerate(repositories):
        service.answers[f"GET /repos/{name}"] = {"name": name, "stars": stars}
    service.answers["GET /repos/acme/a"] = [
        Answer(429, headers=(("Retry-After", "7"),)),
        {"name": "acme/a", "stars": 99},
    ]
    result = await ports.run("prefect-rate-limited", repositories=repositories)
    ranking = ["acme/a", *reversed(repositories[1:])]
    assert (result.outputs, ports.stored("artifacts/ranking.json")) == ({"ranking": ranking}, ranking)
    assert service.most <= 2
    assert {asked.headers["authorization"] for asked in service.asked} == {"Bearer sesame-open"}
    assert len(service.asked) == 7

    service.answers["GET /repos/acme/f"] = Answer(404)
    failed = await ports.run("prefect-rate-limited", repositories=["acme/f"])
    assert (failed.state, failed.error.code, failed.nodes["stars"].items[0].attempts) == ("failed", "items_failed", 1)


async def test_some_of_the_group_may_stay_at_home_but_not_all(ports: Ports, service: Scripted):
    def fly(asked: Asked) -> object:
        return Answer(409) if asked.body["for"] == "Bob" else {"id": f"flight-{asked.body['for']}"}

    service.answers |= {"POST /cars": {"id": "c"}, "POST /hotels": {"id": "h"}, "POST /flights": fly}
    service.answers |= {"DELETE /cars/c": {}, "DELETE /hotels/h": {}, "POST /messages": {}}
    result = await ports.run("temporal-child-workflows", travellers=["Ada", "Bob", "Cid"])
    assert result.outputs == {"booked": {"Ada": "flight-Ada", "Cid": "flight-Cid"}, "failed": ["Bob"]}
    assert [line for line in service.lines if line.startswith("DELETE")] == ["DELETE /hotels/h", "DELETE /cars/c"]

    alone = await ports.run("temporal-child-workflows", travellers=["Bob"])
    assert (alone.state, alone.error.message) == ("failed", "nobody of Bob has a trip")


async def test_each_country_is_announced_unless_it_is_small(ports: Ports, service: Scripted):
    service.answers["POST /chat"] = [Answer(503), "ok"]
    countries = [
        {"country": "DE", "orders": 2, "revenue": 14.75},
        {"country": "FR", "orders": 1, "revenue": 3},
    ]
    result = await ports.run("kestra-flow-trigger", report="reports/x.csv", countries=countries)
    assert (result.state, result.nodes["announce"].items[0].attempts) == ("succeeded", 2)
    assert service.bodies("POST /chat") == [{"text": "DE: 14.75 from 2 orders"}] * 2

    service.answers["POST /chat"] = Answer(400)
    tolerated = await ports.run("kestra-flow-trigger", report="reports/x.csv", countries=countries)
    items = [item.state for item in tolerated.nodes["announce"].items.values()]
    assert (tolerated.state, items) == ("succeeded", ["failed", "skipped"])
