"""Streams of server-sent events, from both ASGI servers."""

from threading import Thread

import httpx2
import pytest
from django.db import connection

from events.streams import sources, sse
from events.streams import stream as streams
from tests.support import waiting
from tests.support.factories.records import record
from tests.support.factories.rows import make_api_key, make_run, make_tenant
from tests.support.streams import SSE, following, happen, remove_events

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def test_a_run_is_followed_to_its_end(server: str, tenant, credential: str):
    run = make_run(tenant)
    with following(server, f"/api/v1/runs/{run.pk}/events", credential) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert "RateLimit" in headers
        assert 1000 <= int(stream.next().retry or 0) <= 3000
        [queued] = stream.events(1)
        assert (queued.event, queued.id, queued.data["run_id"]) == ("run.queued", "1", str(run.pk))
        record(run)
        *events, end = stream.rest()
    assert [frame.id for frame in events] == ["2", "3", "4", "5"]
    assert [frame.data["seq"] for frame in events] == [2, 3, 4, 5]
    assert [frame.event for frame in events] == [frame.data["type"] for frame in events]
    assert (end.event, end.id, end.data["reason"], end.data["state"]) == ("end", None, "run_ended", "succeeded")


def test_a_run_that_ends_while_it_is_read_ends_its_stream(server: str, tenant, credential: str, monkeypatch):
    """The read sees the state from before the end, and the events from after it."""
    run, find_run = make_run(tenant), sources.find_run

    def find_and_end(**given):
        found = find_run(**given)
        monkeypatch.setattr(sources, "find_run", find_run)
        ending = Thread(target=lambda: (record(run), connection.close()))
        ending.start()
        ending.join()
        return found

    monkeypatch.setattr(sources, "find_run", find_and_end)
    with following(server, f"/api/v1/runs/{run.pk}/events", credential) as stream:
        ids = [stream.events(1)[0].id for _ in range(6)]
    assert ids == ["1", "2", "3", "4", "5", None]


def test_a_stream_goes_on_after_what_the_client_received_last(server: str, tenant, credential: str):
    run = make_run(tenant)
    record(run)
    path = f"/api/v1/runs/{run.pk}/events"
    with following(server, f"{path}?after=3", credential) as stream:
        assert [frame.id for frame in stream.rest()] == ["4", "5", None]
    with following(server, f"{path}?after=1", credential, Last_Event_ID="4") as stream:
        assert [frame.id for frame in stream.rest()] == ["5", None]


def test_the_log_of_a_tenant_is_followed_by_cursors(server: str, tenant, credential: str):
    happen(tenant, "custom.before")
    with following(server, "/api/v1/events", credential) as stream:
        [before] = stream.events(1)
        happen(tenant, "custom.now", 3)
        now = stream.events(3)
    assert [frame.data["type"] for frame in (before, *now)] == ["custom.before", *["custom.now"] * 3]
    with following(server, "/api/v1/events", credential, Last_Event_ID=str(now[1].id)) as stream:
        happen(tenant, "custom.later")
        assert [frame.data["type"] for frame in stream.events(2)] == ["custom.now", "custom.later"]
    with following(server, "/api/v1/events?after=now&type=custom.*", credential) as stream:
        stream.next()
        happen(tenant, "other.kind")
        happen(tenant, "custom.last")
        assert [frame.data["type"] for frame in stream.events(1)] == ["custom.last"]


def test_only_rows_of_the_log_have_ids(server: str, tenant, credential: str, monkeypatch):
    monkeypatch.setattr(sse.frames, "__kwdefaults__", {"heartbeat": 0.05, "longest": 0.5})
    with following(server, "/api/v1/events", credential) as stream:
        frames = [stream.next()]
        happen(tenant)
        while frames[-1].event != "end":
            frames.append(stream.next())
    assert [frame.id is not None for frame in frames if frame.event not in {None, "end"}] == [True]
    assert any(frame.comment == "heartbeat" for frame in frames)
    assert frames[-1].data["reason"] == "time_limit"
    assert all(frame.id is None for frame in frames if frame.event in {None, "end"})


def test_progress_is_delivered_and_has_no_id(server: str, tenant, credential: str, bus):
    from runs.notify.notifications import progress_topic

    run = make_run(tenant)
    with following(server, f"/api/v1/runs/{run.pk}/events", credential) as stream:
        stream.events(1)
        bus.publish(progress_topic(run.pk), '{"id":null,"type":"node.progress","data":{"fraction":0.5}}')
        [progress] = stream.events(1)
    assert (progress.event, progress.id, progress.data["data"]) == ("node.progress", None, {"fraction": 0.5})


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/api/v1/events", {"Authorization": "Bearer pyf_live_wrong"}, 401, "authentication_failed"),
        ("/api/v1/events", {}, 401, "not_authenticated"),
        ("/api/v1/events?token=x", None, 422, "input_invalid"),
        ("/api/v1/events?after=guessed", None, 400, "cursor_invalid"),
        ("/api/v1/runs/0198b2f0-7c3a-7e5f-8a51-3f1de5b6d0aa/events", None, 404, "run_not_found"),
    ],
)
def test_what_is_refused_is_a_problem(server: str, credential: str, path: str, headers, status: int, code: str):
    given = {"Authorization": credential} if headers is None else headers
    answer = httpx2.get(f"http://{server}{path}", headers=SSE | given)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_two_tenants_never_see_each_other(server: str, tenant, credential: str):
    other = make_tenant("other")
    run = make_run(other)
    theirs = f"Bearer {make_api_key(other)[1]}"
    path = f"/api/v1/runs/{run.pk}/events"
    assert httpx2.get(f"http://{server}{path}", headers=SSE | {"Authorization": credential}).status_code == 404
    with (
        following(server, "/api/v1/events", credential) as mine,
        following(server, "/api/v1/events?after=now", theirs) as others,
    ):
        others.next()
        happen(other, "custom.theirs", 2)
        happen(tenant, "custom.mine")
        assert [frame.data["type"] for frame in mine.events(1)] == ["custom.mine"]
        assert [frame.data["type"] for frame in others.events(2)] == ["custom.theirs"] * 2
    with following(server, "/api/v1/events", theirs) as others:
        cursor = str(others.events(1)[0].id)
    answer = httpx2.get(f"http://{server}/api/v1/events?after={cursor}", headers=SSE | {"Authorization": credential})
    assert answer.status_code == 400


def test_events_that_are_removed_before_they_are_sent_end_the_stream(server, tenant, credential, monkeypatch):
    monkeypatch.setattr(streams, "MOST_WAITING", 2000)
    monkeypatch.setattr(streams, "FIRST_PAGE", 1)
    lost = []
    fall_behind = streams.Stream.fall_behind
    monkeypatch.setattr(streams.Stream, "fall_behind", lambda self: lost.append(1) or fall_behind(self))
    with following(server, "/api/v1/events?after=now", credential) as stream:
        stream.next()
        happen(tenant, count=40, text="x" * 200_000)
        waiting.until(lambda: lost, what="a full queue")
        remove_events(tenant)
        happen(tenant, "custom.kept")
        *sent, end = stream.rest()
    assert [frame.data["data"]["number"] for frame in sent] == list(range(len(sent)))
    assert len(sent) < 40
    assert (end.event, end.id, end.data["reason"]) == ("end", None, "events_removed")
    with following(server, "/api/v1/events", credential, Last_Event_ID=end.data["oldest"]) as stream:
        assert stream.events(1)[0].event == "custom.kept"
