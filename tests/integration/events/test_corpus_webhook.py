"""The corpus of webhooks: each case is played by the first rule whose pattern its text matches."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from django.conf import settings
from standardwebhooks import Webhook

from events.models import Delivery, DeliveryAttempt, WebhookEndpoint
from events.webhooks import sending
from events.webhooks.endpoints import find_endpoint, rotate_endpoint_secret
from events.webhooks.errors import RotationOverlapError
from events.webhooks.schedule import JITTER
from events.webhooks.signing import OVERLAP
from pyflow.core.duration import parse_duration
from pyflow.isolation.parent import end_with_parent
from runs.models import EventRecord
from runs.storage.log import append_outside
from runs.worker.executor import RunExecutor
from tenants.models import AuditEntry, Tenant
from tests.integration.events.conftest import Clock
from tests.support import corpora, waiting
from tests.support.factories.rows import a_test, make_run, make_workflow
from tests.support.factories.secrets import forms_of, make_secret
from tests.support.factories.webhooks import advance_all, deliver, make_endpoint
from tests.support.invariants import written_by_hand
from tests.support.processes.platform import ROOT, environment
from tests.support.servers.event_bus import in_one_process
from tests.support.servers.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, written_by_hand]
Case = corpora.Case
RULES: list[tuple[re.Pattern[str], Callable[["Scene", Case, re.Match[str]], None]]] = []
KIB, MIB = 1024, 1024 * 1024


@dataclass
class Scene:
    """What a case is played with."""

    tenant: Tenant
    receiver: Receiver
    clock: Clock
    monkeypatch: pytest.MonkeyPatch
    home: Path

    def endpoint(self) -> str:
        """Make the endpoint; return its secret."""
        self.row, secret = make_endpoint(self.tenant, self.receiver.url)
        return secret

    def emit(self, **data: object) -> EventRecord:
        """Append an event to the log."""
        return append_outside(tenant_id=self.tenant.pk, type="order.paid", at=self.clock.now, data=data)

    def delivery(self) -> Delivery:
        """The one delivery, as it is stored."""
        return Delivery.objects.for_tenant(self.tenant).get()

    def stored(self) -> WebhookEndpoint:
        """The endpoint, as it is stored."""
        return find_endpoint(tenant_id=self.tenant.pk, webhook_id=self.row.pk)

    def attempt(self) -> None:
        """Let the next attempt be due, and make it."""
        advance_all()
        due_at = self.delivery().due_at
        if due_at is not None and due_at > self.clock.now:
            self.clock.now = due_at
        deliver()

    def process(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A process that does something about webhooks."""
        command = [sys.executable, "-m", "tests.support.processes.webhooks", *arguments]
        keys = settings.PYFLOW_MASTER_KEYS
        env = environment(self.home, PYFLOW_MASTER_KEYS=keys)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
        )


@pytest.fixture
def scene(tenant, receiver, clock, monkeypatch, tmp_path) -> Scene:
    return Scene(tenant, receiver, clock, monkeypatch, tmp_path)


def rule(pattern: str):
    """Play the cases whose text matches."""

    def add(play):
        RULES.append((re.compile(pattern), play))
        return play

    return add


@corpora.each("webhook")
def test_a_case_is_as_it_says(scene: Scene, case: Case):
    given = case["input"]
    text = " ".join(map(str, given.values())) if isinstance(given, dict) else str(given)
    for pattern, play in RULES:
        if found := pattern.search(text):
            with in_one_process():
                play(scene, case, found)
            return
    corpora.unread(case, f"the input {text}")


@rule(r"^(\d{3}) in \d+ ms$")
def _answers(scene: Scene, case: Case, found: re.Match[str]) -> None:
    secret = scene.endpoint()
    event = scene.emit(order=7)
    scene.receiver.statuses = [int(found[1])]
    scene.attempt()
    [received] = scene.receiver.received
    assert received.verified(secret)["id"] == str(event.pk)
    assert scene.delivery().state == "delivered"
    assert f"{scene.delivery().attempts} attempt" in case["expect"]


@rule(r"^two active secrets$")
def _two_secrets(scene: Scene, case: Case, found: re.Match[str]) -> None:
    old = scene.endpoint()
    new = rotate_endpoint_secret(by=a_test(scene.tenant), endpoint=scene.row)
    scene.emit()
    scene.attempt()
    [received] = scene.receiver.received
    signatures = received.headers["webhook-signature"].split(" ")
    assert len(signatures) == 2
    for secret, signature in ((new, signatures[0]), (old, signatures[1])):
        headers = received.headers | {"webhook-signature": signature}
        Webhook(secret).verify(received.body, headers)
    assert old != new
    scene.clock.pass_(OVERLAP)
    scene.emit()
    deliver()
    assert " " not in scene.receiver.received[-1].headers["webhook-signature"]


@rule(r"^rotate again inside the overlap$")
def _rotate_again(scene: Scene, case: Case, found: re.Match[str]) -> None:
    first = scene.endpoint()
    by, rows = a_test(scene.tenant), scene.row
    second = rotate_endpoint_secret(by=by, endpoint=rows)
    with pytest.raises(RotationOverlapError) as refused:
        rotate_endpoint_secret(by=by, endpoint=rows)
    assert "409" in case["expect"]
    assert refused.value.category.value == "conflict"
    third = rotate_endpoint_secret(by=by, endpoint=rows, force=True)
    scene.emit()
    scene.attempt()
    [received] = scene.receiver.received
    assert len(received.headers["webhook-signature"].split(" ")) == 2
    received.verified(second)
    received.verified(third)
    with pytest.raises(Exception, match="No matching signature"):
        received.verified(first)


@rule(r"^(\d{3}) x(\d+) then (\d{3})$")
def _fails_for_a_while(scene: Scene, case: Case, found: re.Match[str]) -> None:
    scene.endpoint()
    scene.emit()
    scene.receiver.statuses = [int(found[1])] * int(found[2]) + [int(found[3])]
    while scene.receiver.statuses != [int(found[3])] or scene.delivery().state == "pending":
        advance_all()
        scene.attempt()
    received = scene.receiver.received
    assert f"{len(received)} attempts" in case["expect"]
    assert len({item.id for item in received}) == 1
    for name in ("webhook-timestamp", "webhook-signature"):
        assert len({item.headers[name] for item in received}) == len(received), name
    assert scene.delivery().state == "delivered"


@rule(r"^always (\d{3})$")
def _always_fails(scene: Scene, case: Case, found: re.Match[str]) -> None:
    scene.endpoint()
    scene.emit()
    scene.receiver.statuses = [int(found[1])]
    expected = [parse_duration(text.replace(" ", "")) for text in re.findall(r"\b\d+ (?:s|m|h)\b", case["expect"])]
    assert len(expected) == 9
    advance_all()
    scene.attempt()
    for pause in expected:
        assert scene.delivery().state == "pending"
        before = scene.clock.now
        scene.attempt()
        assert pause <= (scene.clock.now - before).total_seconds() <= pause * (1 + JITTER)
    assert scene.delivery().state == "exhausted"
    assert scene.delivery().due_at is None
    assert len(scene.receiver.received) == len(expected) + 1


@rule(r"^accepts TCP, never answers$")
def _never_answers(scene: Scene, case: Case, found: re.Match[str]) -> None:
    assert f"timeout at {sending.TIMEOUT:g} s" in case["expect"]
    scene.monkeypatch.setattr(sending, "TIMEOUT", 0.2)
    scene.receiver.open.clear()
    scene.endpoint()
    scene.emit()
    [outcome] = deliver()
    assert outcome is not None
    assert outcome.error == "timeout"
    delivery = scene.delivery()
    assert (delivery.state, delivery.leased, delivery.last_error) == ("pending", False, "timeout")


@rule(r"^(\d+) GB response body$")
def _floods(scene: Scene, case: Case, found: re.Match[str]) -> None:
    assert f"{sending.MAX_ANSWER // KIB} KiB" in case["expect"]
    sent = 0

    def flood(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Length", str(int(found[1]) * 1024 * MIB))
        handler.end_headers()
        for _ in range(int(found[1]) * 1024):
            handler.wfile.write(b"x" * MIB)
            sent += 1

    scene.receiver.instead = flood
    scene.endpoint()
    scene.emit()
    [outcome] = deliver()
    assert outcome is not None
    assert (outcome.status, outcome.error) == (200, "")
    assert len(outcome.excerpt) <= sending.MAX_EXCERPT
    assert sent < 64  # MiB: what the buffers of two sockets may hold
    assert scene.delivery().state == "delivered"


@rule(r"^fails 100 % for (\d+) days$")
def _fails_for_days(scene: Scene, case: Case, found: re.Match[str]) -> None:
    scene.receiver.statuses = [500]
    scene.endpoint()
    began = scene.clock.now
    while scene.stored().state == "active":
        scene.emit()
        deliver()
        assert scene.clock.now - began <= timedelta(days=int(found[1]))
        scene.clock.pass_(timedelta(hours=6))
    assert scene.clock.now - began > timedelta(days=int(found[1]))
    assert (scene.stored().state, scene.stored().disabled_reason) == ("disabled", "failing")
    [event] = EventRecord.objects.for_tenant(scene.tenant).filter(type="webhook.disabled")
    assert event.data["webhook"] == str(scene.row.pk)
    entry = AuditEntry.objects.for_tenant(scene.tenant).get(action="webhook.disabled")
    assert entry.target == f"webhook:{scene.row.pk}"
    pending = Delivery.objects.for_tenant(scene.tenant).filter(state="pending")
    assert pending.exists()
    count = len(scene.receiver.received)
    scene.clock.pass_(timedelta(days=2))
    assert deliver() == []
    assert len(scene.receiver.received) == count


@rule(r"^kill -9 sender after POST, before recording$")
def _sender_killed(scene: Scene, case: Case, found: re.Match[str]) -> None:
    scene.endpoint()
    scene.emit()
    scene.receiver.open.clear()
    with scene.process("send") as sender:
        waiting.until(lambda: scene.receiver.received or sender.poll() is not None, what="request of the sender")
        sender.send_signal(signal.SIGKILL)
    assert scene.receiver.received
    scene.receiver.open.set()
    assert deliver() == []  # the lease of the dead one still holds
    assert not DeliveryAttempt.objects.for_tenant(scene.tenant).exists()
    scene.clock.pass_(sending.LEASE + timedelta(seconds=120))
    [outcome] = deliver()
    assert outcome is not None
    assert outcome.status == 200
    first, second = scene.receiver.received
    assert first.id == second.id
    assert first.body == second.body
    assert (scene.delivery().state, scene.delivery().attempts) == ("delivered", 1)


@rule(r"^kill -9 API after run commit$")
def _accepting_process_killed(scene: Scene, case: Case, found: re.Match[str]) -> None:
    scene.endpoint()
    make_workflow(scene.tenant)
    with scene.process("start", "hello") as starter:
        assert starter.wait() == -signal.SIGKILL
    advance_all()
    deliver()
    assert "run.queued" in {json.loads(item.body)["type"] for item in scene.receiver.received}


@rule(r"^payload (\d+) KiB$")
def _large_payload(scene: Scene, case: Case, found: re.Match[str]) -> None:
    most = int(re.search(r"< (\d+) KiB", case["expect"])[1]) * KIB  # type: ignore[index]
    secret = scene.endpoint()
    event = scene.emit(state="paid", text="x" * int(found[1]) * KIB)
    scene.attempt()
    [received] = scene.receiver.received
    assert len(received.body.encode()) < most
    shown = received.verified(secret)
    assert (shown["id"], shown["type"]) == (str(event.pk), "order.paid")
    assert (shown["data"], shown["omitted"]) == ({"state": "paid"}, ["text"])
    assert shown["link"].startswith("/api/v1/events?after=")


@rule(r"^msg id or timestamp containing '\.'$")
def _ids_without_dots(scene: Scene, case: Case, found: re.Match[str]) -> None:
    pattern = re.search(r"ids match (\S+)", case["expect"])[1]  # type: ignore[index]
    scene.endpoint()
    for _ in range(20):
        scene.emit()
    advance_all()
    while deliver():
        pass
    assert len(scene.receiver.received) == 20
    for item in scene.receiver.received:
        assert re.fullmatch(pattern, item.id)
        assert re.fullmatch(r"\d+", item.headers["webhook-timestamp"])


@rule(r"^secret in payload fields$")
def _secret_in_payload(scene: Scene, case: Case, found: re.Match[str]) -> None:
    value = "sesame-open-917"
    make_secret(scene.tenant, "API_KEY", value)
    scene.endpoint()
    source = """\
version: 2
name: leaky
nodes:
  - {id: leak, type: template, config: {template: "the key is {{ secrets.API_KEY }}"}}
"""
    run = make_run(scene.tenant, source, input={})
    asyncio.run(RunExecutor().drain())
    waiting.until(lambda: scene.tenant and _ended(run), what="end of the run")
    while deliver():
        pass
    bodies = [item.body for item in scene.receiver.received]
    assert "node.succeeded" in {json.loads(body)["type"] for body in bodies}
    assert not [form for form in forms_of(value) if any(form in body for body in bodies)]
    assert any("***" in body for body in bodies)


def _ended(run) -> bool:
    run.refresh_from_db()
    return run.finished_at is not None
