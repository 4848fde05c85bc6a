"""When a failed attempt is repeated, and how long that waits."""

import json
from typing import Any

import pytest

from pyflow.core.error_kinds import error_kinds
from pyflow.core.events import EventType, posix
from pyflow.core.ports import MappingSecrets
from pyflow.documents.models import RetryDef
from pyflow.execution.retry import RetryPolicy
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from pyflow_sdk.errors import NodeError, NonRetryableError, RetryableError
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow


class Flaky:
    """Fails with the given errors, one after the other, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, *_: Any) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def attempt(flaky: Flaky, retry: dict[str, Any], **fields: Any):
    clock, sink = stage.Clock(), stage.Sink()
    definition = workflow(node("a", "flaky", retry=retry, **fields))
    return await stage.run(definition, {"flaky": flaky}, clock=clock, sink=sink), clock, sink


async def test_attempts_are_counted_with_the_first():
    flaky = Flaky(*[RuntimeError("no")] * 9)
    result, clock, _ = await attempt(flaky, {"max_attempts": 3})
    assert flaky.calls == result.nodes["a"].attempts == 3
    assert clock.slept == [1, 2]
    assert result.state == "failed"


async def test_a_success_ends_the_retries_and_is_the_result():
    result, _, sink = await attempt(Flaky(RuntimeError("no")), {"max_attempts": 5})
    assert result.nodes["a"].output == "done"
    assert result.nodes["a"].attempts == 2
    assert result.succeeded
    assert [line for line in sink.trail() if line.startswith("node")] == [
        "node.started a",
        "node.retrying a",
        "node.started a",
        "node.succeeded a",
    ]


async def test_a_retry_says_when_and_why():
    _, clock, sink = await attempt(Flaky(RuntimeError("no")), {"max_attempts": 2, "initial_interval": "30s"})
    (event,) = sink.of(EventType.NODE_RETRYING)
    assert event.data["attempt"] == 1
    assert posix(event.data["wake_at"]) == clock.now
    assert event.data["error"]["message"] == "no"


async def test_waits_grow_up_to_the_longest():
    retry = {"max_attempts": 6, "initial_interval": 2, "backoff_coefficient": 3, "max_interval": 20}
    _, clock, _ = await attempt(Flaky(*[RuntimeError("no")] * 5), retry)
    assert clock.slept == [2, 6, 18, 20, 20]


@pytest.mark.parametrize(
    ("retry", "error", "calls"),
    [
        ({"retry_on": ["timeout"]}, TimeoutError(), 2),
        ({"retry_on": ["timeout"]}, RuntimeError(), 1),
        ({"retry_on": ["ValueError"]}, ValueError("x"), 2),
        ({"retry_on": ["LookupError"]}, KeyError("x"), 2),
        ({"retry_on": ["network"]}, ConnectionResetError(), 2),
        ({"retry_on": ["http_5xx"]}, NodeError("x", status=503), 2),
        ({"retry_on": ["http_503"]}, NodeError("x", status=503), 2),
        ({"retry_on": ["http_429"]}, NodeError("x", status=503), 1),
        ({"retry_on": ["sold_out"]}, NodeError("x", kind="sold_out"), 2),
        ({"non_retryable": ["http_4xx"]}, NodeError("x", status=404), 1),
        ({"non_retryable": ["http_4xx"]}, NodeError("x", status=500), 2),
        ({"retry_on": ["http_5xx"], "non_retryable": ["http_501"]}, NodeError("x", status=501), 1),
        ({}, NonRetryableError("x"), 1),
        ({"retry_on": ["NonRetryableError"]}, NonRetryableError("x"), 1),
    ],
)
async def test_only_the_kinds_that_are_meant_are_tried_again(retry: dict[str, Any], error: Exception, calls: int):
    flaky = Flaky(error)
    await attempt(flaky, {"max_attempts": 2} | retry)
    assert flaky.calls == calls


async def test_retry_after_is_a_lower_bound():
    _, clock, _ = await attempt(Flaky(RetryableError("x", retry_after=30), RetryableError("x", retry_after=1)), {})
    assert clock.slept == [30, 2]


async def test_a_node_gets_the_number_of_its_attempt():
    seen: list[int] = []

    async def middleware(call: Any, proceed: Any) -> object:
        seen.append(call.attempt)
        return await proceed(call)

    definition = workflow(node("a", "flaky", retry={"max_attempts": 3}))
    await stage.run(
        definition, {"flaky": Flaky(ValueError(), ValueError())}, clock=stage.Clock(), middleware=[middleware]
    )
    assert seen == [1, 2, 3]


async def test_no_attempt_begins_after_the_total_timeout():
    flaky = Flaky(*[RuntimeError("no")] * 9)
    retry = {"max_attempts": 9, "initial_interval": 10, "backoff_coefficient": 1}
    result, clock, _ = await attempt(flaky, retry, total_timeout=25)
    assert clock.slept == [10, 10]
    assert flaky.calls == 3
    assert result.nodes["a"].state == "failed"


async def test_a_timed_out_attempt_is_tried_again():
    calls: list[int] = []

    async def slow_once(*_: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            await stage.Waits().execute({}, None)  # type: ignore[arg-type]
        return "done"

    definition = workflow(node("a", "slow_once", timeout="1ms", retry={"max_attempts": 2, "retry_on": ["timeout"]}))
    result = await stage.run(definition, {"slow_once": slow_once}, clock=stage.Clock())
    assert result.nodes["a"].output == "done"


async def test_a_when_is_decided_once_not_before_each_attempt():
    definition = stage.v1(
        node("a", "flaky", when="flag == 0", on_error="retry", retry={"max_retries": 1, "delay": 0}),
        node("b", "raise_flag"),
    )

    def raise_flag(_: Any, context: Any) -> None:
        context.set_result("flag", 1)

    flaky = Flaky(RuntimeError("no"))
    functions = {"flaky": flaky, "raise_flag": raise_flag}
    result = await stage.run(definition, functions, clock=stage.Clock(), initial_context={"flag": 0})
    assert (result.nodes["a"].state, flaky.calls) == ("succeeded", 2)


class TestPolicy:
    def policy(self, **fields: Any) -> RetryPolicy:
        return RetryPolicy.v2(RetryDef(**fields))

    @pytest.mark.parametrize(("jitter", "between"), [("full", (0, 4)), ("equal", (2, 4))])
    def test_jitter_draws_from_its_range(self, jitter: str, between: tuple[float, float]):
        drawn: list[tuple[float, float]] = []

        def uniform(low: float, high: float) -> float:
            drawn.append((low, high))
            return 3.25

        policy = self.policy(max_attempts=5, initial_interval=1, jitter=jitter)
        assert policy.delay(3, ValueError(), uniform) == 3.25
        assert drawn == [between]

    def test_without_jitter_nothing_is_drawn(self):
        def uniform(*_: float) -> float:
            raise AssertionError

        assert self.policy(max_attempts=5).delay(1, ValueError(), uniform) == 1

    def test_a_huge_attempt_number_does_not_overflow(self):
        policy = self.policy(max_attempts=1000, backoff_coefficient=100, max_interval="1h")
        assert policy.delay(999, ValueError()) == 3600

    def test_the_last_attempt_has_no_delay(self):
        assert self.policy(max_attempts=2).delay(2, ValueError()) is None

    def test_v1_doubles_its_delay_without_a_ceiling(self):
        policy = RetryPolicy.v1(RetryDef(max_retries=12, delay=1))
        assert [policy.delay(n, ValueError()) for n in (1, 2, 3, 12, 13)] == [1, 2, 4, 2048, None]

    def test_v1_keys_are_understood_in_version_2(self):
        policy = self.policy(max_retries=2, delay=5)
        assert [policy.delay(n, ValueError()) for n in (1, 2, 3)] == [5, 10, None]

    def test_the_kinds_of_an_error(self):
        kinds = error_kinds(NodeError("x", kind="sold_out", status=503))
        assert {"sold_out", "http_503", "http_5xx", "NodeError", "PyFlowError", "node_error"} <= kinds
        assert "timeout" in error_kinds(TimeoutError())


# --- an expression over the error


BUSY, GONE = {"status": 409, "body": {"code": "busy"}}, {"status": 409, "body": {"code": "gone"}}
WHEN = {"max_attempts": 5, "when": "error.status == 409 and error.body.code == 'busy' and attempt < 4"}


@pytest.mark.parametrize(
    ("errors", "attempts", "state"),
    [
        ([BUSY, BUSY], 3, "succeeded"),
        ([BUSY, GONE, BUSY], 2, "failed"),
        ([BUSY] * 9, 4, "failed"),
        ([{"status": 503}], 1, "failed"),
    ],
)
async def test_the_body_of_an_error_decides_whether_it_is_retried(errors, attempts: int, state: str):
    flaky = Flaky(*(NodeError("no", **error) for error in errors))
    result, _, _ = await attempt(flaky, WHEN)
    assert (flaky.calls, result.nodes["a"].attempts, result.state) == (attempts, attempts, state)


@pytest.mark.parametrize(("second", "calls"), [(503, 3), (409, 2), (502, 2)])
async def test_kinds_and_the_expression_both_have_to_allow_it(second: int, calls: int):
    flaky = Flaky(*(NodeError("no", status=status) for status in (503, second)))
    await attempt(flaky, {"retry_on": ["http_5xx"], "when": "error.status in (503, 409)"})
    assert flaky.calls == calls


async def test_a_permanent_error_is_not_retried_whatever_the_expression_says():
    flaky = Flaky(NonRetryableError("no"))
    result, _, _ = await attempt(flaky, {"when": "true"})
    assert (flaky.calls, result.state) == (1, "failed")


async def test_an_expression_that_cannot_be_evaluated_fails_the_node_and_names_both_errors():
    flaky = Flaky(NodeError("the door is locked", status=409))
    result, _, _ = await attempt(flaky, WHEN)
    error = result.nodes["a"].error
    assert (flaky.calls, error.code) == (1, "retry_condition")
    assert "the door is locked" in error.message
    assert "code" in error.message


async def test_what_the_expression_sees_of_a_secret_is_masked():
    """Neither whether it is retried, nor what is said of it, tells a secret to others."""
    seen = Flaky(NodeError("the key sesame-open is wrong", body={"key": "sesame-open"}))
    when = "error.body.key == '***' and error.body.nope"
    definition = workflow(node("a", "flaky", retry={"when": when}, config={"k": "{{ secrets.KEY }}"}))
    result = await stage.run(
        definition, {"flaky": seen}, clock=stage.Clock(), secrets=MappingSecrets({"KEY": "sesame-open"})
    )
    assert result.nodes["a"].error.code == "retry_condition"
    assert "sesame-open" not in result.nodes["a"].error.message


async def test_each_item_and_each_compensation_is_retried_by_its_own_error():
    calls: list[Any] = []

    def act(config: dict[str, Any], _: Any) -> Any:
        item = config["value"]
        calls.append(item)
        if calls.count(item) < 3:
            raise NodeError("no", body={"again": item != 2})
        return item

    retry = {"max_attempts": 5, "when": "error.body.again"}
    fan = node("a", "act", retry=retry, for_each=[1, 2, 3], tolerate_failures=1, config={"value": "{{ item }}"})
    result = await stage.run(workflow(fan), {"act": act}, clock=stage.Clock())
    assert result.nodes["a"].output == [1, None, 3]
    assert sorted(calls) == [1, 1, 1, 2, 3, 3, 3]

    undone = Flaky(NodeError("no", status=409), NodeError("no", status=410))
    made = node("a", "echo", compensate={"type": "flaky", "retry": {"when": "error.status == 409"}})
    result = await stage.run(workflow(made, node("b", "fail", "a")), {"flaky": undone}, clock=stage.Clock())
    assert (undone.calls, result.compensation) == (2, "failed")


@pytest.mark.parametrize(
    ("when", "code", "message"),
    [
        ("error.sttus == 4", "unknown_name", "'sttus' of `error`"),
        ("input.again", "unknown_name", "sees `error` and `attempt` alone"),
        ("{{ error.status == 4 }}", "template_in_expression", "without the braces"),
        ("error.status =", "expression_syntax", "not an expression"),
    ],
)
def test_a_condition_that_is_wrong_is_refused_with_its_place(when: str, code: str, message: str):
    node = f"  - id: a\n    type: log\n    config: {{message: x}}\n    retry: {{when: {json.dumps(when)}}}\n"
    source = f"version: 2\nname: flow\nnodes:\n{node}"
    [problem] = check_workflow(parse_workflow(source), default_registry)
    assert (problem.code, problem.line) == (code, 7)
    assert message in problem.message
