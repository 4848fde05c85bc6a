"""Every operation of the API has a method of the client, or a reason why it has none."""

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from pyflow_client import Client, ClientError, Retries, Start
from tests.support.operations import Operation, operations

WITHOUT = {
    "auth_jwks": "for services that check access tokens: their libraries read it from its address",
    "health_live": "for who starts and stops processes; `health()` tells whether they can work",
    "workflow_runs_list": "`runs(workflow=…)` lists the same",
}
ARGUMENTS: dict[str, Any] = {
    "action": "cancel",
    "after": 2,
    "before": 1,
    "begin": datetime(2026, 1, 1, tzinfo=UTC),
    "end": datetime(2026, 1, 2, tzinfo=UTC),
    "changes": {},
    "document": {"version": 2, "name": "w", "nodes": []},
    "number": 1,
    "starts": [Start()],
    "level": "run",
}
#: What methods are given besides what they must be.
BESIDES: dict[str, list[dict[str, Any]]] = {
    "send_event": [{"id": "1"}],
    "act_on_runs": [{"runs": ["01a21726-cc1b-71e0-87a9-e546b1d60720"]}],
    "pause_schedule": [{}, {"if_match": "*"}],
    "output_of": [{}, {"item": 0}],
}
METHODS = sorted(name for name in dir(Client) if not name.startswith("_") and name != "close")
TRIED = [(method, more) for method in METHODS for more in BESIDES.get(method, [{}])]


def arguments_of(method: Any) -> dict[str, Any]:
    """Something for each argument that a method needs."""
    parameters = list(inspect.signature(method).parameters.values())
    needed = [item for item in parameters if item.default is item.empty and item.kind is not item.VAR_KEYWORD]
    return {item.name: ARGUMENTS.get(item.name, item.name) for item in needed if item.name != "self"}


def found(method: str, path: str) -> Iterator[Operation]:
    """The operations that a request may mean."""
    for operation in operations().values():
        pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(operation.path))
        if operation.method == method and re.fullmatch(pattern, path):
            yield operation


@pytest.fixture
def asked(server) -> dict[str, set[str]]:
    """The operations that each method asks for, of a server that has nothing."""
    asked: dict[str, set[str]] = {}
    server.answer(404, {"code": "not_found", "status": 404})
    with Client(server.url, "key", timeout=5, retries=Retries(attempts=1)) as client:
        for name, more in TRIED:
            method, before = getattr(client, name), len(server.asked)
            with suppress(ClientError):
                result = method(**arguments_of(method) | more)
                assert inspect.isgenerator(result), f"{name} is content with 404"
                list(result)
            requests = [(item.method, item.path.partition("?")[0]) for item in server.asked[before:]]
            assert requests, f"{name} asks for nothing"
            for request in requests:
                best = min(found(*request), key=lambda operation: operation.path.count("{"), default=None)
                assert best is not None, f"{name}: there is no {request}"
                asked.setdefault(name, set()).add(best.id)
    return asked


def test_every_operation_has_a_method_or_a_reason(asked: dict[str, set[str]]):
    assert operations().keys() - set().union(*asked.values()) == WITHOUT.keys()
