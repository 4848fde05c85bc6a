"""Streams over WebSocket, from both ASGI servers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest
from django.db import OperationalError
from httpx2.websockets import WebSocketDisconnect, WebSocketUpgradeError
from wsproto.utilities import LocalProtocolError

from events import consumers
from events.api import views
from events.streams import stream as streams
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.factories.records import record
from tests.support.factories.rows import a_test, make_api_key, make_run, make_tenant
from tests.support.streams import happen, remove_events

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@contextmanager
def connected(server: str, path: str, credential: str | None, **options: Any) -> Iterator[Any]:
    headers = {"Authorization": credential} if credential else {}
    headers |= options.pop("headers", {})
    with (
        httpx2.Client(timeout=20) as client,
        client.websocket(f"ws://{server}{path}", headers=headers, **options) as socket,
    ):
        yield socket


def rest(socket: Any) -> tuple[list[dict[str, Any]], int]:
    """All frames until the server closes, and the code that it closes with."""
    frames = []
    while True:
        try:
            frames.append(json.loads(socket.receive_text(timeout=20)))
        except WebSocketDisconnect as error:
            return frames, error.code


def ticket(server: str, credential: str, **body: Any) -> str:
    answer = httpx2.post(f"http://{server}/api/v1/auth/tickets", json=body, headers={"Authorization": credential})
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["ticket"]
    return text


def test_a_run_is_followed_to_its_end(server: str, tenant, credential: str):
    run = make_run(tenant)
    with connected(server, f"/ws/v1/runs/{run.pk}", credential) as socket:
        first = json.loads(socket.receive_text(timeout=20))
        assert (first["seq"], first["cursor"], first["type"]) == (1, 1, "run.queued")
        record(run)
        frames, code = rest(socket)
    assert [frame["seq"] for frame in frames[:-1]] == [2, 3, 4, 5]
    assert (frames[-1]["type"], frames[-1]["reason"], code) == ("end", "run_ended", 1000)
    with connected(server, f"/ws/v1/runs/{run.pk}?after=4", credential) as socket:
        assert [frame.get("seq") for frame in rest(socket)[0]] == [5, None]


def test_a_log_goes_on_after_a_cursor(server: str, tenant, credential: str):
    happen(tenant, "custom.before", 2)
    with connected(server, "/ws/v1/events", credential) as socket:
        first = json.loads(socket.receive_text(timeout=20))
    with connected(server, f"/ws/v1/events?after={first['cursor']}&type=custom.*", credential) as socket:
        happen(tenant, "custom.now")
        found = [json.loads(socket.receive_text(timeout=20)) for _ in range(2)]
    assert [frame["type"] for frame in found] == ["custom.before", "custom.now"]


@pytest.mark.parametrize(
    ("path", "given", "code"),
    [
        ("/ws/v1/events", "Bearer pyf_live_wrong", 4401),
        ("/ws/v1/events", None, 4401),
        ("/ws/v1/runs/0198b2f0-7c3a-7e5f-8a51-3f1de5b6d0aa", "mine", 4404),
        ("/ws/v1/events", "scopeless", 4403),
        ("/ws/v1/events?token=x", "mine", 4400),
        ("/ws/v1/events?after=guessed", "mine", 4400),
    ],
)
def test_what_is_refused_is_closed_with_its_code(server: str, tenant, credential: str, path: str, given, code: int):
    if given == "scopeless":
        given = f"Bearer {make_api_key(tenant, scopes=['workflows:read'])[1]}"
    with connected(server, path, credential if given == "mine" else given) as socket:
        [end], closed = rest(socket)
    assert (end["type"], closed) == ("end", code)
    assert end["detail"]


def test_another_tenants_run_is_not_there(server: str, credential: str):
    run = make_run(make_tenant("other"))
    with connected(server, f"/ws/v1/runs/{run.pk}", credential) as socket:
        assert rest(socket)[1] == 4404


def test_a_browser_connects_with_a_ticket_once(server: str, tenant, credential: str):
    run = make_run(tenant)
    record(run)
    path, origin = f"/ws/v1/runs/{run.pk}", {"Origin": f"http://{server}"}
    given = ["pyflow.v1", f"ticket.{ticket(server, credential, run=str(run.pk))}"]
    with connected(server, path, None, subprotocols=given, headers=origin) as socket:
        assert socket.subprotocol == "pyflow.v1"
        assert len(rest(socket)[0]) == 6
    with connected(server, path, None, subprotocols=given, headers=origin) as socket:
        assert rest(socket)[1] == 4401
    other = ["pyflow.v1", f"ticket.{ticket(server, credential)}"]
    with connected(server, path, None, subprotocols=other) as socket:
        assert rest(socket)[1] == 4401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_a_foreign_page_may_not_connect(server: str, credential: str, origin: str):
    with (
        pytest.raises(WebSocketUpgradeError) as refused,
        connected(server, "/ws/v1/events", credential, headers={"Origin": origin}),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_no_address_beside_opens_a_websocket(server: str, credential: str):
    with pytest.raises(WebSocketUpgradeError) as refused, connected(server, "/ws/v1/nothing", credential):
        pass
    assert refused.value.response.status_code == 403


def test_a_client_is_sent_a_window_beyond_what_it_acknowledged(server: str, tenant, credential: str, monkeypatch):
    monkeypatch.setattr(consumers, "MOST_UNACKNOWLEDGED", 3)
    monkeypatch.setattr(consumers, "PATIENCE", 0.3)
    monkeypatch.setattr(consumers, "LOOK_WHILE_FULL", 0.05)
    happen(tenant, count=10)
    with connected(server, "/ws/v1/events", credential) as socket:
        frames, code = rest(socket)
    assert (len(frames), frames[-1]["reason"], code) == (4, "not_acknowledged", 4408)
    seen = []
    with connected(server, "/ws/v1/events", credential) as socket:
        while len(seen) < 10:
            seen.append(json.loads(socket.receive_text(timeout=20)))
            socket.send_text(json.dumps({"ack": seen[-1]["cursor"]}))
    assert [frame["data"]["number"] for frame in seen] == list(range(10))


def test_a_message_that_is_no_acknowledgement_is_refused(server: str, credential: str):
    with connected(server, "/ws/v1/events", credential) as socket:
        socket.send_text('{"subscribe": "all"}')
        [end], code = rest(socket)
    assert (end["reason"], code) == ("message_invalid", 4400)


def test_too_many_requests_are_closed_with_4429(server: str, tenant, credential: str):
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.API_REQUESTS_PER_MINUTE.value: 1}, by=a_test(tenant))
    codes = set()
    for _ in range(3):
        with connected(server, "/ws/v1/events?after=guessed", credential) as socket:
            [end], code = rest(socket)
            codes.add((end["reason"], code))
    assert ("rate_limited", 4429) in codes


def test_a_cursor_before_what_was_removed_is_closed_with_4410_and_the_oldest(server: str, tenant, credential: str):
    happen(tenant, count=3)
    with connected(server, "/ws/v1/events", credential) as socket:
        first = json.loads(socket.receive_text(timeout=20))
    remove_events(tenant)
    [kept] = happen(tenant, "custom.kept")
    with connected(server, f"/ws/v1/events?after={first['cursor']}", credential) as socket:
        [end], code = rest(socket)
    assert (end["reason"], code) == ("events_removed", 4410)
    with connected(server, f"/ws/v1/events?after={end['problem']['oldest']}", credential) as socket:
        assert json.loads(socket.receive_text(timeout=20))["id"] == str(kept.pk)


@pytest.mark.parametrize(("error", "code"), [(OperationalError("the server is away"), 4503), (ValueError(), 4500)])
def test_a_server_that_cannot_look_closes_with_a_code_of_its_own(server, credential, monkeypatch, error, code):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(views, "_cursor", fail)
    with connected(server, "/ws/v1/events", credential) as socket:
        [end], closed = rest(socket)
    assert closed == code
    assert end["type"] == "end"


def test_a_stream_that_fails_is_closed_with_4500(server: str, tenant, credential: str, monkeypatch):
    async def fail(*_: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(consumers.EventsConsumer, "_wait_for_room", fail)
    happen(tenant)
    with connected(server, "/ws/v1/events", credential) as socket:
        assert rest(socket) == ([], 4500)


def test_a_client_that_goes_while_it_is_sent_something_is_no_failure(server, tenant, credential, monkeypatch, caplog):
    gone = threading.Event()
    send = consumers.EventsConsumer.send

    async def broken(self, *args: object, **options: object) -> None:
        if options.get("text_data"):
            gone.set()
            raise RuntimeError("as daphne does")
        await send(self, *args, **options)

    monkeypatch.setattr(consumers.EventsConsumer, "send", broken)
    happen(tenant)
    with connected(server, "/ws/v1/events", credential):
        assert gone.wait(20)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_events_that_are_removed_before_they_are_sent_end_the_stream(server, tenant, credential, monkeypatch):
    monkeypatch.setattr(consumers, "MOST_UNACKNOWLEDGED", 1)
    monkeypatch.setattr(streams, "MOST_WAITING", 2000)
    monkeypatch.setattr(streams, "FIRST_PAGE", 1)
    with connected(server, "/ws/v1/events", credential) as socket:
        happen(tenant, count=20)
        first = json.loads(socket.receive_text(timeout=20))
        remove_events(tenant)
        happen(tenant, "custom.kept")
        frames = [first]
        while frames[-1]["type"] != "end":
            with suppress(LocalProtocolError):  # the server has closed by now, and its last frames are still to be read
                socket.send_text(json.dumps({"ack": frames[-1]["cursor"]}))
            frames.append(json.loads(socket.receive_text(timeout=20)))
        _, code = rest(socket)
    assert (frames[-1]["reason"], code) == ("events_removed", 4410)
    assert frames[-1]["oldest"]
    numbers = [frame["data"]["number"] for frame in frames[:-1]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < 20
