"""The `llm` node, against a local server that behaves like the API."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pyflow.core.result import NodeRun
from pyflow.nodes.llm.chat import LlmAnswerError, LlmRefusedError, LlmUnavailableError, ask
from pyflow.nodes.llm.node import LlmNode
from tests.unit.nodes.web import Asked, Reply, Web, node, run, serving

SCHEMA = {
    "type": "object",
    "required": ["urgent"],
    "properties": {"urgent": {"type": "boolean"}},
    "additionalProperties": False,
}


class Model:
    """Gives one prepared answer after the other, the last one for ever."""

    def __init__(self, web: Web, *answers: str | Reply) -> None:
        self.web, self.answers = web, list(answers)
        web.answer = self.answer

    def answer(self, asked: Asked) -> Reply:
        if asked.path != "/v1/chat/completions" or asked.method != "POST":
            return Reply({"error": {"message": "unknown route", "type": "invalid_request_error"}}, 404)
        if asked.headers.get("authorization") not in (None, "Bearer key-1"):
            return Reply({"error": {"message": "Incorrect API key provided"}}, 401)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return given if isinstance(given, Reply) else Reply(completion(given))

    @property
    def sent(self) -> Any:
        return self.web.asked[-1].json()


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "small-1-2026",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as started:
        yield started


def request_to(web: Web, **more: Any) -> dict[str, Any]:
    given = {"url": f"{web.url}/v1", "model": "small-1", "prompt": "Hello?", "allow_private_networks": True, **more}
    return {key: value for key, value in given.items() if value is not None}


async def ended(web: Web, **more: Any) -> NodeRun:
    return await node("llm", request_to(web, **more))


async def output(web: Web, **more: Any) -> dict[str, Any]:
    run_ = await ended(web, **more)
    assert run_.error is None, run_.error.message
    assert isinstance(run_.output, dict)
    return run_.output


async def test_a_prompt_is_answered(web: Web):
    model = Model(web, "Hi!")
    assert await output(web, system="Be brief.", temperature=0.5, max_tokens=20, api_key="key-1") == {
        "text": "Hi!",
        "data": None,
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        "model": "small-1-2026",
        "finish_reason": "stop",
    }
    assert model.sent == {
        "model": "small-1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        "temperature": 0.5,
        "max_tokens": 20,
        "stream": False,
    }
    assert web.asked[0].headers["authorization"] == "Bearer key-1"


async def test_a_conversation_goes_as_it_is_and_extra_fields_with_it(web: Web):
    model = Model(web, "Hi!")
    parts = [{"type": "text", "text": "What is this?"}]
    messages = [{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": parts}]
    await output(web, prompt=None, messages=messages, extra={"seed": 1, "stream": True})
    assert model.sent["messages"] == messages
    assert (model.sent["seed"], model.sent["stream"]) == (1, False)
    assert "authorization" not in web.asked[0].headers


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_the_url_may_be_the_base_or_the_whole(web: Web, path: str):
    Model(web, "Hi!")
    assert (await output(web, url=web.url + path))["text"] == "Hi!"


async def test_an_answer_with_a_schema_is_parsed(web: Web):
    model = Model(web, '{"urgent": true}')
    answer = await output(web, schema=SCHEMA)
    assert answer["data"] == {"urgent": True}
    assert model.sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    }


async def test_a_code_block_around_the_json_is_taken_off(web: Web):
    Model(web, '```json\n{"urgent": false}\n```')
    assert (await output(web, schema=SCHEMA))["data"] == {"urgent": False}


@pytest.mark.parametrize("wrong", ["Sure! It is urgent.", '{"urgent": "yes"}', "[]", '{"urgent": true, "why": 1}'])
async def test_an_answer_that_does_not_fit_is_asked_for_once_more(web: Web, wrong: str):
    model = Model(web, wrong, '{"urgent": true}')
    answer = await output(web, schema=SCHEMA)
    assert answer["data"] == {"urgent": True}
    assert answer["usage"] == {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    repair = model.sent["messages"]
    assert [message["role"] for message in repair] == ["user", "assistant", "user"]
    assert repair[1]["content"] == wrong
    assert len(web.asked) == 2


async def test_a_second_answer_that_does_not_fit_fails(web: Web):
    Model(web, "no", Reply(completion('{"urgent":', "length")))
    error = (await ended(web, schema=SCHEMA)).error
    assert error is not None
    assert error.code == "llm_answer_invalid"
    assert "cut off" in error.message
    assert len(web.asked) == 2


async def test_a_model_may_decline(web: Web):
    Model(web, Reply(completion(None, refusal="I would rather not.")))
    error = (await ended(web, schema=SCHEMA)).error
    assert error is not None
    assert (error.code, error.message) == ("llm_refused", "the model declined: I would rather not.")
    assert len(web.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503, 408])
async def test_a_busy_server_is_worth_another_attempt(web: Web, status: int):
    Model(web, Reply({"error": {"message": "try later"}}, status, {"Retry-After": "7"}))
    config = LlmNode.Config.model_validate(request_to(web))
    with pytest.raises(LlmUnavailableError, match="try later") as caught:
        await ask(config)
    assert caught.value.status == status
    assert caught.value.retry_after == (7.0 if status in (429, 503) else None)


async def test_the_engine_retries_after_the_time_that_was_asked_for(web: Web):
    from pyflow.testing import ManualClock

    Model(web, Reply({"error": {"message": "try later"}}, 429, {"Retry-After": "90"}), "Hi!")
    clock = ManualClock(auto_advance=True)
    started = clock.time()
    definition = {"id": "n", "type": "llm", "config": request_to(web), "retry": {"max_attempts": 2}}
    result = await run(definition, clock=clock)
    assert result.nodes["n"].output["text"] == "Hi!"
    assert clock.time() - started >= 90


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_request_that_is_wrong_stays_wrong(web: Web, status: int):
    Model(web, Reply({"error": {"message": "no such model"}}, status))
    config = LlmNode.Config.model_validate(request_to(web))
    with pytest.raises(LlmRefusedError, match=f"{status}: no such model") as caught:
        await ask(config)
    assert caught.value.status == status


@pytest.mark.parametrize("body", [b"<html>", {}, {"choices": []}, {"choices": [{"message": None}]}, [], "x", None])
async def test_an_answer_of_another_shape_is_an_error_of_ours(web: Web, body: Any):
    Model(web, Reply(body))
    config = LlmNode.Config.model_validate(request_to(web))
    with pytest.raises(LlmAnswerError, match="choices"):
        await ask(config)


async def test_a_server_that_does_not_count_costs_nothing(web: Web):
    Model(web, Reply({"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": "x"}}))
    answer = await output(web)
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert (answer["model"], answer["finish_reason"]) == ("small-1", None)


async def test_both_answers_share_one_time_limit(web: Web):
    def slow(asked: Asked) -> Reply:
        web.released.wait(0.3)
        return Reply(completion("no json"))

    web.answer = slow
    error = (await asyncio.wait_for(ended(web, schema=SCHEMA, timeout=0.5), 60)).error
    assert error is not None
    assert error.code == "http_timeout"


async def test_a_host_that_is_not_public_is_refused(web: Web):
    error = (await ended(web, allow_private_networks=False)).error
    assert error is not None
    assert error.code == "ssrf_blocked"
    assert not web.asked


async def test_the_key_is_in_no_error(web: Web):
    web.answer = lambda asked: Reply({"error": {"message": f"bad key {asked.headers['authorization']}"}}, 401)
    definition = {"id": "n", "type": "llm", "config": request_to(web, api_key="{{ secrets.KEY }}")}
    result = await run(definition, secrets={"KEY": "sk-very-secret"})
    masked = result.context.redactor.redact(result.nodes["n"].error.as_dict() if result.nodes["n"].error else {})
    assert "sk-very-secret" not in str(masked)
    assert "bad key Bearer ***" in str(masked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": None},
        {"messages": [{"role": "user", "content": "x"}]},
        {"prompt": None, "system": "s", "messages": [{"role": "user", "content": "x"}]},
        {"temperature": 3},
        {"max_tokens": 0},
        {"schema": {"type": "nonsense"}},
        {"stream": True},
    ],
)
def test_the_config_is_checked_beforehand(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="LlmConfig"):
        LlmNode.Config.model_validate({"url": "https://x.example/v1", "model": "m", "prompt": "p", **wrong})
