"""What is sent again, when, and what never is."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from pyflow_client import ConnectionFailed, ProblemError, Retries
from pyflow_client.answers import retry_after

EMPTY = {"results": []}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(server, ask, status):
    server.answer(status, {})
    server.answer(status, {})
    server.answer(200, EMPTY)
    assert ask("workflows") == []
    assert len(server.asked) == 3


def test_a_broken_connection_is_tried_again(server, ask):
    server.answer(0, b"")
    server.answer(200, EMPTY)
    assert ask("workflows") == []


def test_putting_a_workflow_is_tried_again(server, ask):
    server.answer(0, b"")
    server.answer(404, {})
    with pytest.raises(ProblemError):
        ask("put_workflow", "hello", "name: hello")
    assert [asked.method for asked in server.asked] == ["PUT", "PUT"]


def test_attempts_end(server, ask):
    server.answer(503, {})
    with pytest.raises(ProblemError) as caught:
        ask("workflows")
    assert caught.value.status == 503
    assert len(server.asked) == 3


@pytest.mark.parametrize("method", ["create_workflow", "start_run"])
@pytest.mark.parametrize("status", [0, 503])
def test_what_may_have_begun_is_not_sent_twice(server, ask, method, status):
    server.answer(status, {})
    with pytest.raises((ProblemError, ConnectionFailed)):
        ask(method, "hello")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500])
def test_a_refusal_is_final(server, ask, status):
    server.answer(status, {})
    with pytest.raises(ProblemError):
        ask("workflows")
    assert len(server.asked) == 1


def test_retry_after_is_waited_for(server, ask):
    server.answer(429, {}, {"Retry-After": "1"})
    server.answer(200, EMPTY)
    began = time.monotonic()
    ask("workflows")
    assert time.monotonic() - began >= 1


def test_a_retry_after_beyond_our_patience_is_not_waited_for(server, ask):
    server.answer(429, {}, {"Retry-After": "3600"})
    with pytest.raises(ProblemError) as caught:
        ask("workflows")
    assert caught.value.retry_after == 3600
    assert len(server.asked) == 1


def test_retry_after_may_be_a_date():
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    seconds = retry_after(httpx2.Headers({"Retry-After": at}))
    assert seconds == pytest.approx(30, abs=2)


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "Wed, 99 Foo"])
def test_a_retry_after_that_says_nothing_is_ignored(value):
    assert retry_after(httpx2.Headers({"Retry-After": value})) is None


def test_a_date_in_the_past_means_now():
    assert retry_after(httpx2.Headers({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})) == 0


def test_other_errors_are_not_ours_to_retry():
    assert Retries().wait_after(ValueError()) is False
