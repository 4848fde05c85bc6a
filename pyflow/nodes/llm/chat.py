"""Executes the ``llm`` node: chat completions of an OpenAI-compatible API."""

from __future__ import annotations

import json
import re
import time
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from pyflow.core.duration import parse_duration
from pyflow.core.errors import NodeError, NonRetryableError, RetryableError
from pyflow.core.messages import said
from pyflow.net.http_client import HttpResponse, HttpTimeoutError, request
from pyflow.nodes.llm.config import TIMEOUT, LlmConfig, LlmOutput, Usage
from pyflow.nodes.schemas import as_text, mismatches

#: Of an answer, bytes: far more than any model writes.
MAX_ANSWER = 4 * 1024 * 1024
#: Statuses that pass: a time-out, a conflict, too early, too many requests (RFC 9110, RFC 8470, RFC 6585).
_PASSING = frozenset((408, 409, 425, 429))
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(?P<inner>.*)\n\s*```\s*\Z", re.DOTALL | re.IGNORECASE)


class LlmUnavailableError(RetryableError):
    """The server is busy or failed."""

    code: ClassVar[str] = "llm_unavailable"


class LlmRefusedError(NonRetryableError):
    """The server does not accept the request, or the model declines to answer it."""

    code: ClassVar[str] = "llm_refused"


class LlmAnswerError(NodeError):
    """The answer does not fit the schema, twice, or is not what the API promises. Another attempt may do better."""

    code: ClassVar[str] = "llm_answer_invalid"


async def ask(config: LlmConfig) -> LlmOutput:
    """The node's output. Raises what ``LlmNode`` says."""
    seconds = TIMEOUT if config.timeout is None else parse_duration(config.timeout)
    chat = _Chat(config, seconds)
    messages = _messages(config)
    answer = await chat.complete(messages)
    if config.schema_ is None:
        return chat.output(answer)
    data, wrong = _parsed(answer.text, config.schema_)
    if wrong:
        messages += [
            {"role": "assistant", "content": answer.text},
            {
                "role": "user",
                "content": f"That does not fit: {said(wrong, 2000)}\nAnswer with the corrected JSON only.",
            },
        ]
        answer = await chat.complete(messages)
        data, wrong = _parsed(answer.text, config.schema_)
    if wrong:
        short = " (it was cut off at `max_tokens`)" if answer.finish_reason == "length" else ""
        raise LlmAnswerError(f"the answer does not fit the schema{short}: {said(wrong)}", kind=LlmAnswerError.code)
    return chat.output(answer, data)


class _Answer:
    """The first choice of a completion."""

    def __init__(self, body: Any) -> None:
        try:
            choice = body["choices"][0]
            message = choice["message"]
            text = message.get("content")
        except (TypeError, LookupError, AttributeError):
            raise LlmAnswerError("the server's answer has no `choices` with a message") from None
        if not text and message.get("refusal"):
            raise LlmRefusedError(f"the model declined: {said(message['refusal'], 500)}", kind="refusal")
        self.text = _joined(text)
        self.finish_reason = _text_or_none(choice.get("finish_reason"))
        self.model = _text_or_none(body.get("model"))
        self.usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}


class _Chat:
    """The requests of one node: one deadline, and what they cost together."""

    def __init__(self, config: LlmConfig, seconds: float) -> None:
        self._config = config
        self._url = endpoint(config.url)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._tokens = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)

    async def complete(self, messages: list[dict[str, Any]]) -> _Answer:
        """Send the conversation."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HttpTimeoutError(f"no complete answer within {self._seconds:g} s")
        key = self._config.api_key
        response = await request(
            "POST",
            self._url,
            headers={"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            json_body=self._body(messages),
            timeout=left,
            max_bytes=MAX_ANSWER,
            allow_private_networks=bool(self._config.allow_private_networks),
        )
        if not response.is_success:
            raise _failure(response)
        answer = _Answer(response.data())
        self._count(answer.usage)
        return answer

    def output(self, answer: _Answer, data: Any = None) -> LlmOutput:
        """The node's output for an answer."""
        return LlmOutput(
            text=answer.text,
            data=data,
            usage=Usage(**self._tokens),
            model=answer.model or self._config.model,
            finish_reason=answer.finish_reason,
        )

    def _body(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": messages}
        if config.temperature is not None:
            body["temperature"] = float(config.temperature)
        if config.max_tokens is not None:
            body["max_tokens"] = int(config.max_tokens)
        if config.schema_ is not None:
            form = {"name": "answer", "schema": config.schema_}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        # The answer is read as a whole, whatever `extra` says.
        return {**body, **config.extra, "stream": False}

    def _count(self, usage: dict[str, Any]) -> None:
        sent, received = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
        self._tokens["prompt_tokens"] += sent
        self._tokens["completion_tokens"] += received
        self._tokens["total_tokens"] += _number(usage.get("total_tokens")) or sent + received


def endpoint(url: str) -> str:
    """The URL of the chat completions, from itself or from the base of the API; ``/v1`` where the base has no path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # the client says what is wrong with it
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path or '/v1'}/chat/completions"
    return urlunsplit(parts._replace(path=path))


def _messages(config: LlmConfig) -> list[dict[str, Any]]:
    if isinstance(config.messages, list):
        return [message.model_dump() for message in config.messages]
    system = [] if config.system is None else [{"role": "system", "content": _joined(config.system)}]
    return [*system, {"role": "user", "content": _joined(config.prompt)}]


def _joined(content: Any) -> str:
    """Text as it is, the text of a list of parts, other data as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    return json.dumps(content, ensure_ascii=False, default=str)


def _parsed(text: str, schema: dict[str, Any]) -> tuple[Any, str]:
    """The data in an answer, and what is wrong with it."""
    # Some models put JSON into a code block, whatever the prompt says.
    fenced = _FENCE.match(text)
    try:
        data = json.loads(fenced["inner"] if fenced else text)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    return data, as_text(mismatches(schema, data))


def _failure(response: HttpResponse) -> RetryableError | NonRetryableError:
    """The error of an answer that is none. ``kind`` is left to the status: ``http_429``, ``http_5xx``."""
    body = response.data()
    error = body.get("error") if isinstance(body, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    why = f": {said(text, 500)}" if isinstance(text, str) else ""
    message = f"the model's server answered {response.status}{why}"
    if response.status in _PASSING or response.status >= 500:
        return LlmUnavailableError(message, retry_after=response.retry_after, status=response.status)
    return LlmRefusedError(message, status=response.status)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
