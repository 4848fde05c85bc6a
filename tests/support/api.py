"""The API as a client sees it, in process, and what every one of its problem documents has."""

import json
from typing import Any
from uuid import UUID

import yaml
from django.http import HttpResponse
from django.test import Client

from pyflow_site.pages import GENERAL
from pyflow_site.problems import TITLES, documented_errors

YAML = "application/yaml"
JSON = "application/json"


def documented() -> set[str]:
    """Return the code of each problem that the documentation page explains."""
    return {str(item["code"]) for item in GENERAL} | {cls.code for cls in documented_errors()}


#: Of the problems `quota_exceeded` and `plan_limit_reached`.
QUOTA_MEMBERS = {"quota", "limit", "used", "resets_at"}
#: Of those that refuse a verb because of the run's state.
STATE_MEMBERS = {"state", "possible"}
#: What some problems have besides.
MEMBERS = {
    "events_removed": {"oldest"},
    "quota_exceeded": QUOTA_MEMBERS,
    "plan_limit_reached": QUOTA_MEMBERS,
    "run_finished": STATE_MEMBERS,
    "run_state": STATE_MEMBERS,
    "run_undone": STATE_MEMBERS,
    "signal_not_awaited": {"awaited"},
}

#: Shared: loading the middleware lists every static file there is, which costs more than most tests.
_handler = Client().handler


class Api:
    """Requests with one API key (or none)."""

    def __init__(self, key: str | None = None) -> None:
        # What a view raises must come out as the answer that a client would get.
        self._client = Client(raise_request_exception=False)
        self._client.handler = _handler
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def get(self, path: str, **headers: str) -> HttpResponse:
        """``GET``. Headers are named with underscores: ``accept="application/yaml"``."""
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, content_type: str = JSON, **headers: str) -> HttpResponse:
        """``POST``; a body that is neither text nor bytes is sent as JSON."""
        return self.send("POST", path, body, content_type, **headers)

    def put(self, path: str, body: Any = None, content_type: str = JSON, **headers: str) -> HttpResponse:
        """``PUT``, as ``post``."""
        return self.send("PUT", path, body, content_type, **headers)

    def send(self, method: str, path: str, body: Any = None, content_type: str = JSON, **headers: str) -> HttpResponse:
        """Any request."""
        data = b"" if body is None else body if isinstance(body, str | bytes) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response: HttpResponse = self._client.generic(  # type: ignore[assignment] # the test client's own subclass
            method, path, data, content_type if data else "", headers=self._headers | named
        )
        return response


def read(response: HttpResponse) -> Any:
    """The data of an answer, JSON or YAML by its ``Content-Type``."""
    content_type = response.headers["Content-Type"]
    if content_type.endswith("json"):
        return json.loads(response.content)
    assert content_type.endswith("yaml"), content_type
    return yaml.safe_load(response.content)


def assert_problem(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """Assert that an answer is a complete problem document (RFC 9457), and return it."""
    body: dict[str, Any] = read(response)
    assert response.status_code == status, body
    assert body["code"] == code, body
    assert response.headers["Content-Type"] in {"application/problem+json", "application/problem+yaml"}
    assert body["status"] == status
    assert body["title"] == TITLES[status]
    assert body["type"].endswith(f"/api/docs/problems#{code}")
    assert code in documented(), f"the problem {code} is explained nowhere"
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == response.headers["X-Request-ID"]
    members = MEMBERS.get(code, set())
    assert body.keys() >= members
    assert body.keys() <= {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"} | members
    assert b"Traceback" not in response.content
    for error in body.get("errors", ()):
        assert {"pointer", "code", "detail"} <= error.keys()
        assert error["pointer"] == "" or error["pointer"].startswith("/")
    return body


def assert_same_answer(one: HttpResponse, other: HttpResponse) -> None:
    """Assert that two answers differ in nothing but the request id and what the request itself named."""
    assert one.status_code == other.status_code
    assert {name: value for name, value in one.headers.items() if name not in _OWN_HEADERS} == {
        name: value for name, value in other.headers.items() if name not in _OWN_HEADERS
    }
    assert _anonymous(read(one)) == _anonymous(read(other))


_OWN_HEADERS = {"X-Request-ID", "Content-Length", "RateLimit"}


def _anonymous(body: dict[str, Any]) -> dict[str, Any]:
    named = body["instance"].split("/")
    text = json.dumps({key: value for key, value in body.items() if key not in {"request_id", "instance"}})
    for part in named[4:5]:  # /api/v1/<collection>/<the object>/…
        text = text.replace(part, "<named>")
    anonymous: dict[str, Any] = json.loads(text)
    return anonymous


def is_uuid7(text: str) -> bool:
    """Whether this is a UUID of version 7."""
    return UUID(text).version == 7
