"""Ports that choose: branches and joins, retries by what an answer says, fallbacks, callbacks, matrices."""

import pytest

from pyflow.core.suspension import Signal
from tests.support.factories.stage import states
from tests.support.ports import Ports
from tests.support.servers.scripted import Answer, Asked, Scripted


@pytest.mark.parametrize("published", [True, False])
async def test_the_best_model_is_published_or_all_are_discarded(ports: Ports, service: Scripted, published: bool):
    accuracies = {"linear": 0.61, "forest": 0.93, "boosted": 0.9}

    def train(asked: Asked) -> dict[str, object]:
        return {"model": asked.body["model"], "accuracy": accuracies[asked.body["model"]]}

    service.answers |= {
        "POST /trainings": train,
        "PUT /models/current": {},
        "DELETE /trainings": {},
        "POST /reports": {},
    }
    result = await ports.run("airflow-branch-join", threshold=0.8 if published else 0.99)
    assert result.outputs == {"model": "forest", "published": published}
    taken, other = ("publish", "discard") if published else ("discard", "publish")
    assert (states(result)[taken], states(result)[other], states(result)["report"]) == (
        "succeeded",
        "skipped",
        "succeeded",
    )
    assert service.bodies("PUT /models/current") == ([{"model": "forest"}] if published else [])
    [report] = service.bodies("POST /reports")
    assert (report["best"], report["published"]) == ("forest", published)
    assert [row["model"] for row in report["ranking"]] == ["forest", "boosted", "linear"]

    service.answers["DELETE /trainings"] = service.answers["PUT /models/current"] = Answer(500)
    broken = await ports.run("airflow-branch-join", threshold=0.8 if published else 0.99)
    assert (broken.state, states(broken)["report"]) == ("failed", "skipped")


@pytest.mark.parametrize(
    ("answer", "verdict", "then"),
    [
        ({"verdict": "good"}, "good", "POST /refunds"),
        ({"verdict": "damaged", "note": "wet"}, "damaged", "POST /refusals"),
        (None, "not inspected", "POST /refunds"),
    ],
)
async def test_a_callback_decides_or_the_time_does(ports: Ports, service: Scripted, answer, verdict: str, then: str):
    service.answers |= {"POST /inspections": {}, "POST /refunds": {}, "POST /refusals": {}}
    signals = [] if answer is None else [Signal("inspected", answer)]
    began = ports.clock.time()
    result = await ports.run("stepfunctions-callback", *signals, parcel="P-1")
    assert (result.state, result.outputs) == ("succeeded", {"verdict": verdict})
    assert service.lines == ["POST /inspections", then]
    assert service.asked[0].body == {"parcel": "P-1", "report_to": {"run": result.run_id, "signal": "inspected"}}
    assert ports.clock.time() - began == (2 * 86400 if answer is None else 0)
    if verdict == "damaged":
        assert service.bodies(then) == [{"parcel": "P-1", "why": "wet"}]


async def test_the_coin_is_flipped_until_it_shows_heads(ports: Ports):
    result = await ports.run("argo-coinflip", run_id="a-run", chance=0.2)
    assert result.outputs["side"] == "heads"
    assert result.nodes["flip"].attempts > 1
    again = await ports.run("argo-coinflip", run_id="a-run", chance=0.2)
    assert again.nodes["flip"].output == result.nodes["flip"].output

    never = await ports.run("argo-coinflip", chance=0)
    assert (never.state, never.error.code, never.nodes["flip"].attempts) == ("failed", "until_limit", 20)
    assert (states(never)["cheer"], states(never)["give_up"]) == ("skipped", "succeeded")


async def test_one_status_is_retried_or_not_by_the_body(ports: Ports, service: Scripted):
    locked, deleted = Answer(409, {"code": "locked"}), Answer(409, {"code": "deleted"})
    service.answers["GET /exports/e"] = [locked, Answer(503), locked, {"rows": 7}]
    waited = await ports.run("argo-retry-expression", export="e")
    assert (waited.outputs, waited.nodes["fetch"].attempts) == ({"rows": 7, "renewed": False}, 4)

    service.asked.clear()
    service.answers |= {"GET /exports/e": [deleted, {"rows": 8}], "PUT /exports/e": {}}
    renewed = await ports.run("argo-retry-expression", export="e")
    assert renewed.outputs == {"rows": 8, "renewed": True}
    assert service.lines == ["GET /exports/e", "PUT /exports/e", "GET /exports/e"]

    service.answers["GET /exports/e"] = Answer(403)
    refused = await ports.run("argo-retry-expression", export="e")
    assert (refused.state, refused.nodes["fetch"].attempts, states(refused)["renew"]) == ("failed", 1, "skipped")
    assert refused.error.message.startswith("the export is not to be had: ")

    service.answers["GET /exports/e"] = locked
    patient = await ports.run("argo-retry-expression", export="e")
    assert (patient.state, patient.nodes["fetch"].attempts) == ("failed", 10)


@pytest.mark.parametrize("down", [[], ["large-1"], ["large-1", "small-1"]])
async def test_another_model_or_a_person_stands_in(ports: Ports, service: Scripted, down: list[str]):
    def chat(asked: Asked) -> object:
        if asked.body["model"] in down:
            return Answer(503, {"error": {"message": "overloaded"}})
        message = {"role": "assistant", "content": '{"queue": "billing", "urgent": false}'}
        return {"model": asked.body["model"], "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    ports.secrets["LLM_KEY"] = "sesame-open"
    service.answers |= {"POST /v1/chat/completions": chat, "POST /chat": "ok"}
    result = await ports.run("n8n-llm-fallback", ticket="The invoice is wrong")
    by = ["large-1", "small-1", "nobody"][len(down)]
    queue = "person" if by == "nobody" else "billing"
    assert (result.state, result.outputs) == ("succeeded", {"queue": queue, "by": by})
    assert ports.stored(f"tickets/{queue}.json") == [{"ticket": "The invoice is wrong", "by": by}]
    urgent = [{"text": "person: The invoice is wrong"}] if by == "nobody" else []
    assert service.bodies("POST /chat") == urgent
    models = [body["model"] for body in service.bodies("POST /v1/chat/completions")]
    assert models == [["large-1"], ["large-1"] * 3 + ["small-1"], ["large-1"] * 3 + ["small-1"]][len(down)]


async def test_the_matrix_says_which_jobs_failed(ports: Ports, service: Scripted):
    broken = {"linux-3.14"}

    def job(asked: Asked) -> object:
        on = asked.body["on"]
        name = f"{on['os']}-{on['python']}"
        return Answer(500) if name == "macos-3.13" and name in broken else {"passed": name not in broken}

    service.answers |= {"POST /jobs": job, "POST /statuses/c0ffee": {}}
    green = await ports.run("github-matrix-ci", sha="c0ffee")
    jobs = ["linux-3.11", "linux-3.12", "linux-3.13", "macos-3.12", "macos-3.13"]
    assert (green.state, sorted(green.outputs["passed"]), green.outputs["failed"]) == (
        "succeeded",
        jobs,
        ["linux-3.14"],
    )
    assert len(service.bodies("POST /jobs")) == 6
    assert {"os": "linux", "python": "3.14"} in [body["on"] for body in service.bodies("POST /jobs")]
    assert service.most <= 4

    broken |= {"linux-3.12", "macos-3.13"}
    red = await ports.run("github-matrix-ci", sha="c0ffee")
    assert (red.state, red.error.message) == ("failed", "linux-3.12, macos-3.13")
    said = service.bodies("POST /statuses/c0ffee")
    assert [status["state"] for status in said] == ["success", "failure"]
    assert said[1]["description"] == "3 jobs passed"
