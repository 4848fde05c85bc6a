"""Problem documents become typed errors."""

import pytest

from pyflow_client import (
    Client,
    ClientError,
    Conflict,
    ConnectionFailed,
    Invalid,
    NotAuthenticated,
    NotFound,
    ProblemError,
    Retries,
)

PROBLEM = {"Content-Type": "application/problem+json"}


def document(status: int, **more) -> dict:
    return {"type": "x", "title": "t", "status": status, "detail": "why", "code": "some_code", "request_id": "q"} | more


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, NotAuthenticated),
        (403, ProblemError),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (500, ProblemError),
    ],
)
def test_a_status_has_its_class(server, ask, status, kind):
    server.answer(status, document(status), PROBLEM)
    with pytest.raises(ClientError) as caught:
        ask("workflow", "hello")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.request_id) == (status, "some_code", "why", "q")
    assert len(server.asked) == 1


def test_everything_that_is_wrong_is_reported(server, ask):
    wrong = [
        {"pointer": "/nodes/0/type", "code": "unknown_node_type", "detail": "no such type", "line": 3, "column": 5}
    ]
    server.answer(422, document(422, errors=wrong), PROBLEM)
    with pytest.raises(Invalid) as caught:
        ask("create_workflow", "name: x")
    (item,) = caught.value.errors
    assert (item.pointer, item.line, item.column) == ("/nodes/0/type", 3, 5)
    assert str(caught.value) == "422 some_code: why\n  /nodes/0/type: no such type"


@pytest.mark.parametrize("body", [b"<h1>Bad gateway</h1>", b"[1]", b"{", b""])
def test_an_error_page_of_a_proxy_is_a_problem_too(server, ask, body):
    server.answer(418, body)
    with pytest.raises(ProblemError) as caught:
        ask("workflow", "hello")
    assert (caught.value.status, caught.value.code) == (418, "http_418")
    assert caught.value.detail


def test_a_proxy_that_is_not_ready_is_a_problem_of_health(server, ask):
    server.answer(503, b"no backend", {"Content-Type": "text/plain"})
    with pytest.raises(ProblemError, match="no backend"):
        ask("health")


def test_a_redirect_is_not_followed_with_the_key(server, ask):
    server.answer(302, b"", {"Location": "http://127.0.0.1:1/"})
    with pytest.raises(ProblemError) as caught:
        ask("workflows")
    assert caught.value.status == 302


def test_errors_of_an_unknown_shape_are_kept(server, ask):
    server.answer(422, document(422, errors=["odd"]), PROBLEM)
    with pytest.raises(Invalid) as caught:
        ask("workflow", "hello")
    assert caught.value.errors[0].detail == "odd"


def test_no_server_is_a_failed_connection(free_port):
    client = Client(f"http://127.0.0.1:{free_port}", retries=Retries(attempts=1))
    with client, pytest.raises(ConnectionFailed, match=f"no answer from 127.0.0.1:{free_port}") as caught:
        next(client.workflows())
    assert caught.value.__cause__ is not None
