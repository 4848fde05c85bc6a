"""Keys and memberships that end while what they have asked for is under way: it goes on, and nothing more is taken."""

import threading
from collections.abc import Callable

import pytest

from runs.models import Run
from tenants.access import Role
from tenants.models import Tenant
from tests.support import waiting
from tests.support.api import Api, assert_problem, read
from tests.support.at_once import at_once
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_api_key, make_member, make_tenant, make_workflow
from tests.support.factories.worlds import token_of
from tests.support.histories import assert_is_whole
from tests.support.processes.running import executing, parked, state_of

pytestmark = pytest.mark.database
#: How many runs each batch has.
SIZE = 5
START = {"runs": [{"input": {}}] * SIZE}
ASK = "{id: ask, type: approval, config: {assignees: ['role:owner']}}"
APPROVED = (ASK, "{id: done, type: log, depends_on: [ask], config: {message: x}}")


def key_of(tenant: Tenant) -> tuple[Api, str]:
    key, text = make_api_key(tenant, role="editor")
    return Api(text), f"/api/v1/api-keys/{key.pk}"


def member_of(tenant: Tenant) -> tuple[Api, str]:
    member = make_member(tenant, Role.EDITOR)
    return Api(token_of(member)), f"/api/v1/members/{member.pk}"


@pytest.mark.parametrize("make", [key_of, member_of])
def test_a_batch_is_accepted_whole_or_not_at_all_while_its_credential_ends(
    tenant, make: Callable[[Tenant], tuple[Api, str]]
):
    """Requests that had begun may still be accepted; none is that comes after the answer to the removal."""
    other = make_tenant()
    for one in (tenant, other):
        make_workflow(one, workflow("{id: a, type: log, config: {message: x}}", name="batch"))
    (asking, its_path), (neighbour, _) = make(tenant), make(other)
    owner = Api(make_api_key(tenant, role="owner")[1])
    removed, accepted, refused, others = threading.Event(), [], [], []

    def start() -> None:
        while True:
            came_after = removed.is_set()
            response = asking.post("/api/v1/workflows/batch/runs/batch", START)
            (accepted if response.status_code < 300 else refused).append((response.status_code, came_after))
            if came_after:
                return

    def start_theirs() -> None:
        while not removed.is_set():
            others.append(neighbour.post("/api/v1/workflows/batch/runs/batch", START).status_code)

    def remove() -> None:
        waiting.until(lambda: len(accepted) > 4, what="batches")
        assert owner.send("DELETE", its_path).status_code == 204
        removed.set()

    at_once(start, start, start_theirs, remove)
    assert {status for status, _ in refused} == {401}
    assert not any(came_after for _, came_after in accepted)
    assert Run.objects.for_tenant(tenant).count() == SIZE * len(accepted)
    assert set(others) == {202}
    assert Run.objects.for_tenant(other).count() == SIZE * len(others)


@pytest.mark.parametrize("make", [key_of, member_of])
def test_a_run_goes_on_without_the_credential_that_has_started_it(
    tenant, registry, make: Callable[[Tenant], tuple[Api, str]]
):
    began, go = threading.Event(), threading.Event()

    def hold(ctx) -> None:
        began.set()
        assert go.wait(20)

    register(registry, "hold", hold)
    make_workflow(tenant, workflow("{id: a, type: hold}", name="busy"))
    make_workflow(tenant, workflow(*APPROVED, name="asks"))
    asking, its_path = make(tenant)
    owner = Api(make_api_key(tenant, role="owner")[1])

    def started(name: str) -> Run:
        response = asking.post(f"/api/v1/workflows/{name}/runs", {"input": {}})
        return Run.objects.for_tenant(tenant).get(pk=read(response)["id"])

    with executing():
        busy, waits = started("busy"), started("asks")
        assert began.wait(10)
        parked(waits)
        assert owner.send("DELETE", its_path).status_code == 204
        for path in (f"/runs/{busy.pk}", f"/runs/{waits.pk}/events"):  # who follows a run asks again and again
            assert_problem(asking.get(f"/api/v1{path}"), 401, "authentication_failed")
        path, decision = f"/api/v1/runs/{waits.pk}/signals", {"name": "approval:ask", "payload": {"approved": True}}
        assert_problem(asking.post(path, decision), 401, "authentication_failed")
        assert state_of(waits) == "waiting"
        go.set()
        assert owner.post(path, decision).status_code < 300
        waiting.until(lambda: {state_of(busy), state_of(waits)} == {"succeeded"}, what="ends")
    assert_is_whole(busy, "a")
