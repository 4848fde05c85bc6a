"""What the corpus `auth_tenancy` describes in words, as a world of two tenants and requests to it.

A case is read by the first rule whose pattern its `input` matches. Rules are about kinds of cases: a status that is
expected, a scope, a role, a method and a path are taken from the case.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
import yaml
from django.http import HttpResponse

from events.webhooks.endpoints import try_endpoint
from tenants.access import Permission, Role
from tenants.models import Tenant
from tests.support import corpora
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.hooks import make_hook, with_triggers
from tests.support.factories.members import api_of
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_member, make_run, make_tenant, make_workflow
from tests.support.factories.schedules import make_schedule
from tests.support.factories.secrets import make_secret
from tests.support.factories.webhooks import make_endpoint
from triggers.models import EventTrigger, InboundHook

ROOT = "/api/v1"
Case = dict[str, Any]
Rule = Callable[["AttackedTenants", Case, re.Match[str]], None]
_rules: list[tuple[re.Pattern[str], Rule]] = []
#: Valid bodies for what is created by a POST, so that a refusal is about nothing else.
BODIES: dict[str, Any] = {
    "/workflows": HELLO.replace("name: hello", "name: made"),
    "/secrets": {"name": "MADE", "value": "made-of-words"},
    "/api-keys": {"name": "made", "role": "viewer"},
    "/invitations": {"email": "made@example.org", "role": "viewer"},
}


@dataclass
class AttackedTenants:
    """Tenant A, which has one of everything, tenant B, and who is attacking."""

    fixtures: pytest.FixtureRequest
    a: Tenant = field(default_factory=make_tenant)
    b: Tenant = field(default_factory=make_tenant)

    def key(self, tenant: Tenant | None = None, **values: Any) -> str:
        """The text of a new key, of A unless another tenant is named."""
        return make_api_key(tenant or self.a, **values)[1]

    @cached_property
    def api_a(self) -> Api:
        """An owner's key of A."""
        return Api(self.key())

    @cached_property
    def api_b(self) -> Api:
        """An owner's key of B."""
        return Api(self.key(self.b))

    @cached_property
    def run(self) -> Any:
        """A run of A, of its workflow `hello`."""
        return make_run(self.a)

    @cached_property
    def objects(self) -> dict[str, tuple[str, str]]:
        """By route parameter: what A has, and what nobody has."""
        run, nowhere = self.run, "01890000-0000-7000-8000-000000000000"
        make_secret(self.a, "A_ONLY", "only-of-tenant-a")
        invitation = read(self.api_a.post(f"{ROOT}/invitations", BODIES["/invitations"]))
        member, (key, _) = make_member(self.a), make_api_key(self.a)
        ids = {"run_id": run.pk, "member_id": member.pk, "invitation_id": invitation["id"], "key_id": key.pk}
        ids |= self._of_triggers() | self._of_webhooks()
        return {name: (str(value), nowhere) for name, value in ids.items()} | {
            "workflows:name": ("hello", "nothing"),
            "secrets:name": ("A_ONLY", "NOTHING"),
            "node_id": ("greet", "greet"),
            "index": ("0", "0"),
            "number": ("1", "1"),
            "grant_id": ("role:viewer", "role:viewer"),
        }

    def _of_triggers(self) -> dict[str, Any]:
        make_hook(self.a, "{scheme: none}")
        make_workflow(self.a, with_triggers("{id: on, type: event, config: {on: [a.b]}}", name="on-events"))
        schedule = make_schedule(self.a, {"cron": "0 2 1 1 *"})
        return {
            "hook_id": InboundHook.objects.for_tenant(self.a).get().pk,
            "trigger_id": EventTrigger.objects.for_tenant(self.a).get().pk,
            "schedule_id": schedule.pk,
        }

    def _of_webhooks(self) -> dict[str, Any]:
        endpoint, _ = make_endpoint(self.a)
        return {"webhook_id": endpoint.pk, "delivery_id": try_endpoint(by=a_test(self.a), endpoint=endpoint).pk}


def rule(pattern: str) -> Callable[[Rule], Rule]:
    """Read the cases whose input, written as `field=value; …`, has something that matches."""

    def register(function: Rule) -> Rule:
        _rules.append((re.compile(pattern, re.IGNORECASE | re.DOTALL), function))
        return function

    return register


def play(world: AttackedTenants, case: Case) -> None:
    """Do what a case says and assert what it expects. A case that no rule reads is a failure of these tests."""
    given = case["input"] if isinstance(case["input"], dict) else {"case": case["input"]}
    words = "; ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()
    )
    for pattern, function in _rules:
        match = pattern.search(words)
        if match is not None:
            function(world, case, match)
            return
    corpora.unread(case, words)


def expected_status(case: Case) -> int:
    """The status that a case names."""
    found = re.search(r"\b[1-5]\d\d\b", case["expect"])
    assert found is not None, f"{case['id']} expects no status: {case['expect']}"
    return int(found[0])


def send(api: Api, call: str, own_member: str = "", **headers: str) -> HttpResponse:
    """Send `METHOD /path {body}`: the path below `/api/v1`, the body as YAML's short form of JSON."""
    method, path, text = re.match(r"\s*([A-Z]+)\s+(\S+)\s*(\{.*\})?", call, re.DOTALL).groups()  # type: ignore[union-attr]
    path = path.replace("/self", f"/{own_member}")
    body = yaml.safe_load(text) if text else BODIES.get(path.partition("?")[0]) if method == "POST" else None
    kind = YAML if isinstance(body, str) else "application/json"
    matching = {"if_match": "*"} if method in {"PUT", "PATCH", "DELETE"} else {}
    return api.send(method, f"{ROOT}{path}", body, kind, **matching | headers)


def assert_refused(response: HttpResponse, case: Case) -> dict[str, Any]:
    """Assert that an answer is a problem document with the status that a case names."""
    status = expected_status(case)
    return assert_problem(response, status, read(response)["code"])


@rule(r"^query=\?(?P<name>[\w-]+)=<valid>")
def _a_credential_in_the_address(world: AttackedTenants, case: Case, match: re.Match[str]) -> None:
    assert_refused(Api().get(f"{ROOT}/workflows?{match['name']}={world.key()}"), case)


@rule(r"^key_scopes=")
def _a_key_that_lacks_a_scope(world: AttackedTenants, case: Case, _: re.Match[str]) -> None:
    scopes = case["input"]["key_scopes"]
    problem = assert_refused(send(Api(world.key(scopes=scopes)), case["input"]["call"]), case)
    if "scope" in case["expect"]:
        named = set(re.findall(r"\w+:\w+", problem["detail"])) & set(Permission)
        assert named
        assert not named & set(scopes)


@rule(r"call=(?P<header>X-[\w-]*Method[\w-]*): (?P<other>[A-Z]+) on (?P<method>[A-Z]+)")
def _a_method_in_a_header(world: AttackedTenants, case: Case, match: re.Match[str]) -> None:
    api = api_of(make_member(world.a, Role(case["input"].get("actor", "viewer"))))
    make_workflow(world.a)
    path = f"{ROOT}/workflows/hello"
    plain = api.send(match["method"], path)
    overridden = api.send(match["method"], path, **{match["header"]: match["other"]})
    assert (overridden.status_code, *_without_its_name(overridden)) == (plain.status_code, *_without_its_name(plain))
    assert world.api_a.get(path).status_code == 200


def _without_its_name(response: HttpResponse) -> tuple[Any]:
    body = read(response)
    return ({name: value for name, value in body.items() if name != "request_id"},)


@rule(r"actor=(?P<role>viewer|editor|admin|owner); call=(?P<call>[A-Z]+ /.*)")
def _a_member_beyond_their_role(world: AttackedTenants, case: Case, match: re.Match[str]) -> None:
    member = make_member(world.a, Role(match["role"]))
    call = match["call"]
    if "last owner" not in call:
        other = make_member(world.a, Role.OWNER)
        call = re.sub(r"<[^<>]*owner[^<>]*>", str(other.pk), call)
    make_workflow(world.a)
    assert_refused(send(api_of(member), call, str(member.pk)), case)
    member.refresh_from_db()
    assert member.role == match["role"]


@rule(r"call=same Idempotency-Key, different body")
def _a_key_for_two_bodies(world: AttackedTenants, case: Case, _: re.Match[str]) -> None:
    first, second = ({"name": name, "role": "viewer"} for name in ("one", "two"))
    assert world.api_a.post(f"{ROOT}/api-keys", first, idempotency_key="k").status_code == 201
    assert_refused(world.api_a.post(f"{ROOT}/api-keys", second, idempotency_key="k"), case)


@rule(r"call=same Idempotency-Key, (same|equal) body")
def _a_key_for_one_body(world: AttackedTenants, case: Case, _: re.Match[str]) -> None:
    body = BODIES["/workflows"]
    answers = [world.api_a.post(f"{ROOT}/workflows", body, YAML, idempotency_key="k") for _ in range(2)]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true"]
    assert answers[0].status_code == answers[1].status_code == 201
    assert answers[0].content == answers[1].content


@rule(r"call=same Idempotency-Key, (an)?other (route|endpoint|path|principal|key|user)")
def _a_key_for_two_routes(world: AttackedTenants, case: Case, _: re.Match[str]) -> None:
    calls = [
        (world.api_a, "api-keys", {"name": "one", "role": "viewer"}),
        (world.api_a, "invitations", BODIES["/invitations"]),
        (Api(world.key()), "api-keys", {"name": "two", "role": "viewer"}),
    ]
    for api, path, body in calls:
        answer = api.post(f"{ROOT}/{path}", body, idempotency_key="k")
        assert answer.status_code == 201
        assert "Idempotent-Replayed" not in answer.headers


@rule(r"call=Idempotency-Key: (?P<forms>.*\|.*)")
def _keys_that_are_none(world: AttackedTenants, case: Case, match: re.Match[str]) -> None:
    for form in (part.strip() for part in match["forms"].split("|")):
        sized = re.match(r"(\d+) chars", form)
        values = ["a" * int(sized[1])] if sized else [""] if form in {"''", "empty"} else ["a\tb", "a\x01b", "\x7f"]
        for value in values:
            assert_refused(
                world.api_a.post(f"{ROOT}/api-keys", {"name": "one", "role": "viewer"}, idempotency_key=value), case
            )
