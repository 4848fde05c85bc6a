"""Every pair of requests that meet in one tenant, at full speed: nobody fails, and what is counted is what there is."""

from collections.abc import Callable

import pytest

from runs.models import Run
from runs.services.end import TERMINATED, end_run
from tenants import audit, quotas
from tenants.models import Tenant
from tenants.plans import Quota
from tenants.services import create_tenant
from tests.support.api import Api
from tests.support.at_once import at_once
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_run, make_workflow

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]


@pytest.mark.chaos
def test_every_pair_of_requests_at_full_speed(transactional_db):
    tenant = create_tenant(slug="busy")
    limits = {"runs_per_day": 1_000_000, "stored_bytes": 10**10}
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides=limits, by=a_test(tenant))
    make_workflow(tenant)
    ended, live = make_run(tenant), make_run(tenant)
    end_run(run_id=ended.pk, ending=TERMINATED)
    key = make_api_key(tenant)[1]
    answers: list[tuple[str, int]] = []

    def asking(method: str, path: str, bodies: Callable[[int], object], **headers: str) -> Callable[[], None]:
        def ask() -> None:
            api = Api(key)
            for number in range(40):
                response = api.send(method, f"/api/v1{path}", bodies(number), **headers)
                answers.append((f"{method} {path}", response.status_code))

        return ask

    def change_the_plan() -> None:
        for number in range(40):
            overrides = limits | {"runs_per_day": 1_000_000 + number}
            quotas.set_plan(tenant=tenant, plan="enterprise", overrides=overrides, by=a_test(tenant))

    start = {"input": {"who": "Ada"}}
    yaml = {"content_type": "application/yaml", "if_match": "*"}
    at_once(
        asking("PUT", "/workflows/hello", lambda number: HELLO.replace("Greets", f"Greets {number}"), **yaml),
        *[asking("POST", "/workflows/hello/runs/batch", lambda _: {"runs": [start] * 20})] * 2,
        asking("POST", "/workflows/hello/runs", lambda _: start),
        asking("POST", f"/runs/{ended.pk}/rerun", lambda _: {}),
        asking("POST", f"/runs/{live.pk}/rerun", lambda _: {}),
        asking("POST", f"/runs/{live.pk}/pause", lambda _: None),
        asking("POST", f"/runs/{live.pk}/resume", lambda _: None),
        asking("POST", f"/runs/{live.pk}/signals", lambda _: {"name": "go"}),
        asking("PATCH", "/tenants/current", lambda number: {"name": f"Name {number}"}, if_match="*"),
        asking("POST", "/runs/actions", lambda _: {"action": "pause", "filter": {"state": ["queued"]}, "limit": 20}),
        change_the_plan,
    )
    assert [(what, status) for what, status in answers if status >= 500] == []
    assert {what for what, status in answers if status < 300} == {what for what, _ in answers}, "each works"
    assert list(audit.verify(tenant_id=tenant.pk)) == []
    counted_is_what_there_is(tenant)


def counted_is_what_there_is(tenant: Tenant) -> None:
    used = {usage.quota: usage.used for usage in quotas.usage_of(tenant_id=tenant.pk, measured={})}
    assert used[Quota.RUNS_PER_DAY] == Run.objects.for_tenant(tenant).count()
