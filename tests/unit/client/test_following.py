"""Following a run, and waiting for it."""

import json
from time import monotonic

import pytest

from pyflow_client import FOLLOWING, EventsRemoved, LoggedEvent, NotAuthenticated, RunNotFinished
from pyflow_client.calls import MOST_EVENTS
from pyflow_client.following import FIRST_PAUSE, LONGEST_PAUSE, Follower, Waiter
from pyflow_client.models import Event, EventPage

NOW = "2026-11-22T10:00:00Z"


def page(*numbers: int, state: str = "running") -> dict:
    events = [{"seq": n, "type": "node.started", "at": NOW, "node_id": "a", "data": {}} for n in numbers]
    return {"results": events, "state": state}


def model(*numbers: int, state: str = "running") -> EventPage:
    return EventPage.model_validate(page(*numbers, state=state))


def paths(server) -> list[str]:
    return [asked.path.partition("?")[2] for asked in server.asked]


def test_events_come_in_order_until_the_run_ended(server, ask):
    server.answer(200, page(1, 2))
    server.answer(200, page())
    server.answer(200, page(3))
    server.answer(200, page(4, 5, state="succeeded"))
    events = ask("follow", "r1")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert all(isinstance(event, Event) for event in events)
    assert paths(server) == [f"after={after}&limit=1000" for after in (0, 2, 2, 3)]


def test_following_goes_on_where_one_was(server, ask):
    server.answer(200, page(8, state="failed"))
    assert [event.seq for event in ask("follow", "r1", after=7)] == [8]
    assert paths(server) == ["after=7&limit=1000"]


def test_a_full_page_of_an_ended_run_is_not_the_last():
    follower = Follower("r1", 0, FOLLOWING, monotonic)
    follower.take(model(*range(1, MOST_EVENTS + 1), state="succeeded"))
    assert not follower.done
    assert follower.pause == 0
    follower.take(model(MOST_EVENTS + 1, state="succeeded"))
    assert follower.done


def test_pauses_grow_while_nothing_happens_and_shrink_when_something_does():
    follower = Follower("r1", 0, FOLLOWING, monotonic)
    pauses = []
    for _ in range(12):
        follower.take(model())
        pauses.append(follower.pause)
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    follower.take(model(1))
    assert follower.pause == FIRST_PAUSE


def test_waiting_gives_the_finished_run(server, ask):
    run = {"id": "r1", "workflow": "w", "version": 1, "state": "succeeded", "input": {}, "created_at": NOW}
    server.answer(200, page())
    server.answer(200, page(state="succeeded"))
    server.answer(200, run)
    assert ask("wait", "r1", 5).succeeded
    assert paths(server)[:2] == ["after=2147483647&limit=1"] * 2


def test_waiting_ends(server, ask):
    server.answer(200, page())
    with pytest.raises(RunNotFinished, match=r"run r1 is running after 0\.2 s") as caught:
        ask("wait", "r1", 0.2)
    assert isinstance(caught.value, TimeoutError)


def test_the_last_pause_ends_with_the_time():
    now = 0.0
    waiter = Waiter("r1", 0.06, lambda: now)
    waiter.take(model())
    assert waiter.pause == FIRST_PAUSE
    now = 0.05
    waiter.take(model())
    assert waiter.pause == pytest.approx(0.01)
    now = 0.06
    with pytest.raises(RunNotFinished):
        waiter.take(model())


def test_followers_survive_a_restart_without_loss_or_repetition(server, ask, caplog):
    """More failures in a row than other requests are retried for."""
    server.answer(200, page(1, 2))
    for status in (0, 502, 503, 504, 0, 503):
        server.answer(status, {})
    server.answer(200, page(3, 4, state="succeeded"))
    assert [event.seq for event in ask("follow", "r1")] == [1, 2, 3, 4]
    assert paths(server)[1:] == ["after=2&limit=1000"] * 7
    notes = [record.getMessage() for record in caplog.records if record.name == "pyflow_client"]
    assert len(notes) == 6
    assert all("trying again" in note for note in notes)


def test_waiting_survives_a_restart(server, ask):
    run = {"id": "r1", "workflow": "w", "version": 1, "state": "succeeded", "input": {}, "created_at": NOW}
    for status in (0, 502, 503, 504, 503):
        server.answer(status, {})
    server.answer(200, page(state="succeeded"))
    server.answer(200, run)
    assert ask("wait", "r1").succeeded


def test_followers_are_patient_for_minutes_and_waiters_no_longer_than_they_wait():
    assert (FOLLOWING.attempts, FOLLOWING.seconds) == (None, 600)
    assert FOLLOWING.within(5).seconds == 5
    assert FOLLOWING.within(None) == FOLLOWING


def test_who_waits_for_the_answer_asks_the_server_to_wait(server, ask):
    run = {"id": "r1", "workflow": "w", "version": 1, "state": "succeeded", "input": {}, "created_at": NOW}
    server.answer(200, run)
    assert ask("run", "r1", wait=10).succeeded
    assert server.asked[0].headers["Prefer"] == "wait=10"


STREAM = {"Content-Type": "text/event-stream"}


def frames(*numbers: int, end: str = "") -> bytes:
    events = [{"seq": n, "type": "node.started", "at": NOW, "node_id": "a", "data": {}} for n in numbers]
    text = "retry: 1000\n\n: heartbeat\n\n" + "".join(
        f"event: node.started\nid: {event['seq']}\ndata: {json.dumps(event)}\n\n" for event in events
    )
    text += 'event: node.progress\ndata: {"data": {"fraction": 0.5}}\n\n'
    return (text + (f'event: end\ndata: {{"reason": "{end}"}}\n\n' if end else "")).encode()


def test_a_stream_that_breaks_or_ends_is_opened_again_where_it_was(server, ask):
    server.answer(200, frames(1, 2), STREAM)
    server.answer(0, b"")
    server.answer(503, {"code": "database_unavailable", "detail": "away"})
    server.answer(200, frames(2, 3, end="time_limit"), STREAM)
    server.answer(200, frames(4, end="run_ended"), STREAM)
    assert [event.seq for event in ask("follow", "r1")] == [1, 2, 3, 4]
    assert [path.partition("&")[0] for path in paths(server)] == [f"after={n}" for n in (0, 2, 2, 2, 3)]
    assert {asked.headers["Accept"] for asked in server.asked} == {"text/event-stream"}


@pytest.mark.parametrize("status", [406, 501])
def test_a_server_that_cannot_stream_is_polled(server, ask, status: int):
    server.answer(status, {"code": "streams_not_served", "detail": "pages only"})
    server.answer(200, page(1, state="succeeded"))
    assert [event.seq for event in ask("follow", "r1")] == [1]
    assert [asked.headers["Accept"] for asked in server.asked] == ["text/event-stream", "application/json"]


def test_a_stream_that_is_refused_is_an_error(server, ask):
    server.answer(401, {"code": "not_authenticated", "detail": "no"})
    with pytest.raises(NotAuthenticated):
        ask("follow", "r1")


def log(*numbers: int, after: str, has_more: bool = False) -> dict:
    events = [{"id": f"e{n}", "seq": 0, "type": "order.paid", "at": NOW, "data": {"n": n}} for n in numbers]
    return {"results": events, "next": after, "has_more": has_more}


def log_frames(*numbers: int, end: str = "time_limit") -> bytes:
    events = log(*numbers, after="")["results"]
    text = "".join(f"event: order.paid\nid: c{event['data']['n']}\ndata: {json.dumps(event)}\n\n" for event in events)
    text += ': heartbeat\n\nevent: node.progress\ndata: {"data": {"fraction": 0.5}}\n\n'
    return (text + f'event: end\ndata: {{"reason": "{end}"}}\n\n').encode()


GONE = {"code": "events_removed", "detail": "removed", "oldest": "c9"}


def ask_until_refused(ask, *args, **options) -> tuple[list[LoggedEvent], EventsRemoved]:
    """The events that a client yields before the log is gone."""
    seen: list[LoggedEvent] = []
    with pytest.raises(EventsRemoved) as refusal:
        ask("follow_events", *args, into=seen, **options)
    return seen, refusal.value


def test_the_log_is_followed_from_a_cursor_over_breaks_until_it_is_gone(server, ask):
    server.answer(200, log_frames(1, 2), STREAM)
    server.answer(0, b"")
    server.answer(200, log_frames(), STREAM)
    server.answer(200, log_frames(3), STREAM)
    server.answer(410, GONE)
    seen, refusal = ask_until_refused(ask, "c0", type=["order.*"])
    assert [(event.data["n"], event.cursor) for event in seen] == [(1, "c1"), (2, "c2"), (3, "c3")]
    assert [path.split("&")[-1] for path in paths(server)] == [f"after=c{n}" for n in (0, 2, 2, 2, 3)]
    assert {path.split("&")[0] for path in paths(server)} == {"type=order.%2A"}
    assert refusal.oldest == "c9"


def test_the_end_of_the_log_is_asked_for_once(server, ask):
    """Otherwise events between two connections were lost if none had come before."""
    server.answer(200, log(after="c7"))
    server.answer(0, b"")
    server.answer(200, log_frames(8), STREAM)
    server.answer(410, GONE)
    seen, _ = ask_until_refused(ask, "now")
    assert [event.cursor for event in seen] == ["c8"]
    assert [path.split("after=")[1] for path in paths(server)] == ["now", "c7", "c7", "c8"]


def test_the_log_of_a_server_that_cannot_stream_is_polled(server, ask):
    server.answer(406, {"code": "streams_not_served", "detail": "pages only"})
    server.answer(200, log(1, 2, after="c2", has_more=True))
    server.answer(200, log(3, after="c3"))
    server.answer(200, log(after="c4"))
    server.answer(410, GONE)
    seen, refusal = ask_until_refused(ask)
    assert [(event.data["n"], event.cursor) for event in seen] == [(1, None), (2, "c2"), (3, "c3")]
    assert "after" not in paths(server)[0]
    assert [path.split("after=")[1] for path in paths(server)[2:]] == ["c2", "c3", "c4"]
    assert refusal.status == 410
