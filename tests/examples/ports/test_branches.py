"""Ports that choose: branches and joins, retries by what an answer says, fallbacks, callbacks, matrices."""

import pytest

from pyflow.core.suspension import Signal
from tests.support.factories.stage import states
from tests.support.ports import Ports
from tests.support.servers.scripted import Answer, Asked, Scripted


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
