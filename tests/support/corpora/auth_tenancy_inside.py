"""Rules of the corpus `auth_tenancy` for what one tenant tries with another's, and for what processes keep."""

import contextvars
import json
import os
import re
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse

from pyflow.core.ids import new_id
from pyflow_site.settings import ENVIRONMENT
from runs.models import Run
from secrets_vault.errors import SecretUnreadableError
from secrets_vault.models import SecretVersion
from secrets_vault.providers import secrets_of
from tenants import authentication, failures, limits
from tenants.access import Actor, Role
from tenants.keys import check_secret, make_key
from tenants.limits import MemoryLimiter, RedisLimiter
from tenants.models import AuditEntry
from tenants.principals import CACHE_SECONDS
from tenants.quotas import set_plan
from tests.support import operations, waiting
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.corpora.auth_tenancy import ROOT, AttackedTenants, Case, expected_status, rule
from tests.support.factories.members import api_of
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import HELLO, make_api_key, make_member, make_run, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.processes.platform import Server, environment
from tests.support.processes.running import executing
from tests.support.session import CORPUS_DATABASE

Match = re.Match[str]
BODIES = {
    "members": {"role": "viewer"},
    "schedules": {"paused": True},
    "secrets": {"value": "stolen-stolen"},
    "webhooks": {"description": "stolen"},
    "workflows": {"description": "stolen"},
}


@rule(r"keys=.*first (?P<bytes>\d+) bytes")
def _keys_that_begin_alike(world: AttackedTenants, case: Case, match: Match) -> None:
    text = world.key()
    size = int(match["bytes"])
    begins_alike = [text.ljust(size, "x") + tail for tail in ("", "y")] + [
        text[:-1] + ("x" if text[-1] != "x" else "y")
    ]
    assert Api(text).get(f"{ROOT}/workflows").status_code == 200
    for other in begins_alike:
        assert Api(other).get(f"{ROOT}/workflows").status_code == 401
    assert len(make_key().secret.encode()) <= 72


@rule(r"case=(?P<count>\d+) requests with one valid key; concurrency=(?P<threads>\d+)")
def _many_requests_of_one_key(world: AttackedTenants, case: Case, match: Match) -> None:
    asked: list[str] = []

    def check(secret: str, hashed: str) -> bool:
        asked.append(secret)
        return check_secret(secret, hashed)

    world.fixtures.getfixturevalue("monkeypatch").setattr(authentication, "check_secret", check)
    text = world.key()

    def ask(_: int) -> None:
        try:
            authentication.authenticate_key(text=text)
        finally:
            connection.close()

    began = time.monotonic()
    with ThreadPoolExecutor(int(match["threads"])) as threads:
        list(threads.map(ask, range(int(match["count"]))))
    for _ in range(int(match["count"])):
        authentication.authenticate_key(text=text)
    lifetimes = 1 + (time.monotonic() - began) // CACHE_SECONDS
    assert len(asked) <= lifetimes


@rule(r"case=list API keys")
def _keys_are_listed(world: AttackedTenants, case: Case, _: Match) -> None:
    key, text = make_api_key(world.a, scopes=["runs:read"])
    response = world.api_a.get(f"{ROOT}/api-keys")
    listed = next(item for item in read(response)["results"] if item["id"] == str(key.pk))
    assert (listed["prefix"], listed["last4"], listed["scopes"]) == (key.key_id, text[-4:], ["runs:read"])
    for hidden in (text, text.split("_")[3][:32], key.secret_hash):
        assert hidden.encode() not in response.content


@rule(r"actor=tenant B; call=[A-Z/]+ each resource")
def _each_resource_of_another_tenant(world: AttackedTenants, case: Case, match: Match) -> None:
    methods = [method for method in ("GET", "PUT", "PATCH", "DELETE") if method in case["input"]["call"]]
    tried = 0
    for route, item in _paths().items():
        for method in methods:
            if method.lower() in item and _named(route):
                answers = [_of_b(world, method, route, which) for which in (0, 1)]
                assert answers[0].status_code == expected_status(case), (method, route, answers[0].content)
                assert_same_answer(answers[0], answers[1])
                tried += 1
    assert tried >= 15
    assert world.api_a.get(f"{ROOT}/workflows/hello").status_code == 200


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = operations.document()["paths"]
    return paths


def _named(route: str) -> list[str]:
    collection = route.split("/")[3]
    names = re.findall(r"\{(\w+)\}", route)
    return [] if collection == "nodes" else [f"{collection}:{name}" if name == "name" else name for name in names]


def _of_b(world: AttackedTenants, method: str, route: str, which: int) -> HttpResponse:
    path = route
    for name in _named(route):
        path = path.replace(f"{{{name.rpartition(':')[2]}}}", world.objects[name][which])
    parameters = _paths()[route][method.lower()].get("parameters", ())
    required = [item["name"] for item in parameters if item["in"] == "query" and item.get("required")]
    path += f"?{'&'.join(f'{name}=1' for name in required)}" if required else ""
    body = BODIES.get(route.split("/")[3]) if method in {"PUT", "PATCH"} else None
    return world.api_b.send(method, path, body, **({} if method == "GET" else {"if_match": "*"}))


@rule(r"actor=tenant B; call=cursor from tenant A")
def _a_cursor_of_another_tenant(world: AttackedTenants, case: Case, _: Match) -> None:
    assert world.objects
    make_workflow(world.a, HELLO.replace("name: hello", "name: second"))
    make_run(world.a)
    make_member(world.a)
    for collection in ("workflows", "runs", "members", "api-keys", "audit"):
        path = read(world.api_a.get(f"{ROOT}/{collection}?limit=1"))["next"]
        assert path, collection
        assert_problem(world.api_b.get(path), expected_status(case), "cursor_invalid")


@rule(r"actor=tenant B; call=Idempotency-Key used by tenant A")
def _an_idempotency_key_of_another_tenant(world: AttackedTenants, case: Case, _: Match) -> None:
    body = {"name": "one", "role": "viewer"}
    made = [api.post(f"{ROOT}/api-keys", body, idempotency_key="k") for api in (world.api_a, world.api_b)]
    assert [response.status_code for response in made] == [201, 201]
    assert read(made[0])["id"] != read(made[1])["id"]


@rule(r"actor=tenant B; call=(?P<method>[A-Z]+) (?P<path>/files/\S+)")
def _a_file_of_another_tenant(world: AttackedTenants, case: Case, match: Match) -> None:
    drain = world.fixtures.getfixturevalue("drain")
    root = Path(world.fixtures.getfixturevalue("settings").PYFLOW_STORAGE_ROOT)
    kept = root / str(world.a.pk) / "x"
    kept.parent.mkdir(parents=True)
    kept.write_text('"private"')
    path = match["path"].replace("tenant_a", str(world.a.pk))
    assert world.api_b.send(match["method"], f"{ROOT}{path}").status_code == expected_status(case)
    inside = path.removeprefix("/files/")
    run = make_run(world.b, workflow(f"{{id: a, type: storage, config: {{path: '{inside}'}}}}"))
    drain()
    answer = world.api_b.get(f"{ROOT}/runs/{run.pk}")
    assert read(answer)["error"]["code"] == "path_refused"
    assert b"private" not in answer.content


@rule(r"actor=tenant B; call=template (?P<template>\{\{.*?\}\})")
def _a_secret_of_another_tenant(world: AttackedTenants, case: Case, match: Match) -> None:
    drain = world.fixtures.getfixturevalue("drain")
    secret = make_secret(world.a, "A_ONLY", "only-of-tenant-a")
    prefix = f"PYFLOW_SECRET__{world.a.slug.upper().replace('-', '_')}__"
    world.fixtures.getfixturevalue("monkeypatch").setenv(f"{prefix}A_ONLY", "only-of-tenant-a")
    run = make_run(world.b, workflow(f"{{id: a, type: log, config: {{message: '{match['template']}'}}}}"))
    drain()
    answer = world.api_b.get(f"{ROOT}/runs/{run.pk}")
    assert "secret not found" in json.dumps(read(answer)["nodes"])
    assert b"only-of-tenant-a" not in answer.content
    for name in ("A_ONLY", str(secret.pk)):
        assert world.api_b.get(f"{ROOT}/secrets/{name}").status_code == 404


@rule(r"case=copy A's ciphertext row onto B's")
def _a_ciphertext_of_another_tenant(world: AttackedTenants, case: Case, _: Match) -> None:
    for tenant, value in ((world.a, "only-of-tenant-a"), (world.b, "only-of-tenant-b")):
        make_secret(tenant, "SAME", value)
    stolen = SecretVersion.objects.for_tenant(world.a).values("nonce", "ciphertext", "data_key").get()
    SecretVersion.objects.for_tenant(world.b).update(**stolen)
    with pytest.raises(SecretUnreadableError):
        secrets_of(world.b.pk, world.b.slug).get("SAME")
    entry = AuditEntry.objects.for_tenant(world.b).get(action="secret.unreadable")
    assert entry.target.startswith("secret:")
    assert "only-of" not in entry.record


@rule(r"actor=tenant B; call=SSE (?P<path>/runs/<A>\S*)")
def _a_stream_of_another_tenant(world: AttackedTenants, case: Case, match: Match) -> None:
    mine, nowhere = world.objects["run_id"]
    for accept in ("*/*", "text/event-stream, */*;q=0.1"):
        answers = [
            world.api_b.get(f"{ROOT}{match['path'].replace('<A>', run)}", accept=accept) for run in (mine, nowhere)
        ]
        assert answers[0].status_code == expected_status(case)
        assert_same_answer(answers[0], answers[1])


@rule(r"\bWS\b|WebSocket")
def _a_web_socket(world: AttackedTenants, case: Case, _: Match) -> None:
    """No address of the platform opens one: the handshake is refused, whoever asks, for what there is and is not."""
    run, home = world.run, Path(world.fixtures.getfixturevalue("tmp_path"))
    member = make_member(world.a, Role.VIEWER)
    keys = (world.key(), world.key(world.b), world.key(created_by=member.user))
    member.delete()
    with Server(environment(home / "home", PYFLOW_EXECUTOR="celery"), home / "server", keys[0]) as server:
        paths = [f"{ROOT}/runs/{name}/events" for name in (run.pk, new_id())] + ["/", "/ws", f"/ws/runs/{run.pk}"]
        origins = ("http://attacker.example", f"http://127.0.0.1:{server.port}")
        refusals = {_handshake(server.port, path, key, origin) for path in paths for key in keys for origin in origins}
    assert refusals == {b"HTTP/1.1 403"}


def _handshake(port: int, path: str, key: str, origin: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        connected.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        return connected.recv(12)


@rule(r"case=same worker process runs A's node then B's")
def _what_a_node_leaves_behind(world: AttackedTenants, case: Case, _: Match) -> None:
    registry, drain = (world.fixtures.getfixturevalue(name) for name in ("registry", "drain"))
    left = contextvars.ContextVar("left", default="")
    seen: list[tuple[str, str]] = []

    def look(ctx: object) -> None:
        seen.append((left.get(), _surroundings()))
        left.set(str(world.a.pk))

    register(registry, "look", look)
    make_secret(world.a, "A_ONLY", "only-of-tenant-a")
    files, variables = _temporary_files(), dict(os.environ)
    for tenant in (world.a, world.b):
        make_run(tenant, workflow("{id: a, type: look}"))
        drain()
    assert len(seen) == 2
    assert seen[1][0] == ""
    assert str(world.a.pk) not in seen[1][1]
    assert dict(os.environ) == variables
    assert not any(str(world.a.pk) in name for name in _temporary_files() - files)


def _temporary_files() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).iterdir()}


def _surroundings() -> str:
    """What a node could find of whoever was there before it, except for what is on the heap."""
    found = [f"{variable.name}={value!r}" for variable, value in contextvars.copy_context().items()]
    found += [f"{name}={value}" for name, value in os.environ.items()] + [
        str(Path.cwd()),
        threading.current_thread().name,
    ]
    return "\n".join(found)


@rule(r"case=per-tenant concurrency.*tenant A queues")
def _a_noisy_neighbour(world: AttackedTenants, case: Case, _: Match) -> None:
    """With fewer runs than the case has, and counted in A's runs that begin before B's: a clock would tell of the
    machine that the test runs on."""
    concurrency = 10
    system = Actor.system(world.a.pk, "a test")
    set_plan(tenant=world.a, plan="enterprise", overrides={"concurrent_runs": concurrency}, by=system)
    version = make_workflow(world.a)
    shared = {"workflow": version.workflow, "version": version, "tenant": world.a}
    first = make_run(world.a)
    values = {name: getattr(first, name) for name in ("state", "queue", "priority", "input", "event_seq")}
    Run.objects.bulk_create([Run(**shared, **values) for _ in range(1500)])
    quiet = make_run(world.b)
    with executing():
        run = waiting.until(
            lambda: Run.objects.across_tenants().filter(pk=quiet.pk, started_at__isnull=False).first(),
            60.0,
            "start of B's run",
        )
    assert run is not None
    before = Run.objects.for_tenant(world.a).filter(started_at__lt=run.started_at)
    assert before.count() <= 2 * concurrency


@rule(r"case=cache keys and Redis keys")
def _keys_name_their_tenant(world: AttackedTenants, case: Case, _: Match) -> None:
    monkeypatch = world.fixtures.getfixturevalue("monkeypatch")
    limiter = RedisLimiter(ENVIRONMENT.redis_database(CORPUS_DATABASE)) if ENVIRONMENT.redis_url else MemoryLimiter()
    for module in (limits, failures):
        monkeypatch.setattr(module, "limiter", limiter)
    assert world.objects
    for api in (world.api_a, world.api_b, api_of(make_member(world.a))):
        for collection in ("workflows", "runs", "secrets", "members"):
            assert api.get(f"{ROOT}/{collection}").status_code in {200, 403}
    Api(make_key().text).get(f"{ROOT}/workflows")
    if isinstance(limiter, RedisLimiter):
        keys = [key.decode().removeprefix("pyflow:rate:") for key in limiter._client.scan_iter("pyflow:*")]
    else:
        keys = list(limiter._calls)
    assert any(key.startswith("failures:") for key in keys)  # by the hash of an address or an id: no tenant's datum
    data = [key for key in keys if not key.startswith("failures:")]
    assert len(data) >= 4
    assert all(str(world.a.pk) in key or str(world.b.pk) in key for key in data)


@rule(r"call=(?P<count>\d+) parallel requests at limit (?P<limit>\d+)/min")
def _more_requests_than_allowed(world: AttackedTenants, case: Case, match: Match) -> None:
    count, limit = int(match["count"]), int(match["limit"])
    world.a.limits = {"api_requests_per_minute": limit, "key_requests_per_minute": None}
    world.a.save(update_fields=["limits"])
    api = Api(world.key())

    def ask(_: int) -> HttpResponse:
        try:
            return api.get(f"{ROOT}/me")
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(count)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (limit, count - limit)
    for answer in answers:
        assert {"RateLimit", "RateLimit-Policy"} <= answer.headers.keys()
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) >= 1
