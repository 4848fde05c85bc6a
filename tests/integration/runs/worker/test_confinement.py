"""What a run may reach: its own tenant's files and secrets, and no secret stays in a row."""

import asyncio
import json
from pathlib import Path

import pytest
from django.core import serializers

from pyflow.core.redaction import MASK
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.validation.loader import parse_workflow
from runs.models import EventRecord, NodeRun, Run
from runs.network import network_policy
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant
from tests.support.histories import assert_is_whole

pytestmark = pytest.mark.database
SECRET = "correct-horse-battery-staple"


@pytest.fixture
def acme(transactional_db, monkeypatch):
    monkeypatch.setenv("PYFLOW_SECRET__ACME_INC__TOKEN", SECRET)
    return make_tenant("acme-inc")


def rows() -> str:
    """Everything that is stored about runs."""
    return "".join(
        serializers.serialize("json", model.objects.across_tenants().all()) for model in (Run, NodeRun, EventRecord)
    )


def test_a_secret_is_used_and_not_stored(acme, drain, registry):
    used = []

    def use(ctx) -> dict:
        used.append(ctx.secret("TOKEN"))
        return {"sent": f"Bearer {ctx.secret('TOKEN')}", "list": [ctx.secret("TOKEN")]}

    register(registry, "use", use)
    run = make_run(
        acme,
        workflow(
            "{id: a, type: use}",
            "{id: b, type: log, depends_on: [a], config: {message: 'it was {{ secrets.TOKEN }}'}}",
            "{id: c, type: transform, depends_on: [b], config: {input: '{{ a.sent }}', expression: $}}",
            outputs="{all: '{{ a.sent }}'}",
        ),
    )
    drain()
    assert_is_whole(run, "abc")
    assert used == [SECRET] * 2 or used == [SECRET]
    assert SECRET not in rows()
    assert NodeRun.objects.for_tenant(acme).get(node_id="b").output["message"] == f"it was {MASK}"
    assert run.outputs == {"all": f"Bearer {MASK}"}


def test_a_secret_in_an_error_is_not_stored(acme, drain, registry):
    def fail(ctx) -> None:
        raise ValueError(f"401 for {ctx.secret('TOKEN')}")

    register(registry, "fails", fail)
    run = make_run(acme, workflow("{id: a, type: fails, retry: {max_attempts: 2, initial_interval: 1ms}}"))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.error["message"] == f"401 for {MASK}"
    assert SECRET not in rows()


@pytest.mark.parametrize("slug", ["acme", "acme-inc-token", "other"])
def test_a_secret_of_another_tenant_is_unknown(acme, drain, slug: str):
    """auth-041."""
    other = make_tenant(slug)
    run = make_run(other, workflow("{id: a, type: log, config: {message: '{{ secrets.TOKEN }}'}}"))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "secret not found" in json.dumps(run.error)
    assert SECRET not in rows()


def test_each_tenant_has_its_own_files(transactional_db, drain, settings):
    """auth-040."""
    one, two = make_tenant(), make_tenant()
    write = workflow("{id: a, type: storage, config: {path: notes.json, action: write, data: {of: '{{ input.who }}'}}}")
    for tenant in (one, two):
        make_run(tenant, write, {"who": tenant.slug})
    drain()
    for tenant in (one, two):
        stored = Path(settings.PYFLOW_STORAGE_ROOT) / str(tenant.pk) / "notes.json"
        assert json.loads(stored.read_text()) == {"of": tenant.slug}


@pytest.mark.parametrize("path", ["../{other}/notes.json", "/etc/hostname", "a/../../{other}/notes.json"])
def test_a_path_out_of_the_tenants_files_is_refused(transactional_db, drain, settings, path: str):
    one, other = make_tenant(), make_tenant()
    kept = Path(settings.PYFLOW_STORAGE_ROOT) / str(other.pk) / "notes.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('"private"')
    run = make_run(one, workflow(f"{{id: a, type: storage, config: {{path: '{path.format(other=other.pk)}'}}}}"))
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("failed", "path_refused")
    assert "private" not in rows()


def test_nothing_of_one_run_is_left_for_the_next(acme, drain, registry):
    """auth-048: the same process, another tenant."""
    from pyflow.net.files import current_root

    seen = {}
    register(registry, "look", lambda ctx: seen.update({ctx.run_id: str(current_root.get())}))
    other = make_tenant()
    runs = {make_run(tenant, workflow("{id: a, type: look}")): tenant for tenant in (acme, other)}
    drain()
    for run, tenant in runs.items():
        assert seen[str(run.pk)].endswith(str(tenant.pk))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://169.254.169.254/latest", "http://[::1]/"])
def test_a_workflow_does_not_decide_that_it_may_reach_private_networks(transactional_db, drain, url: str):
    node = f"{{id: a, type: http, config: {{url: '{url}', allow_private_networks: true}}}}"
    run = make_run(make_tenant(), workflow(node))
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("failed", "ssrf_blocked")


async def library(source: str) -> str | None:
    """The error of a node that the library executes; ``None`` without one."""
    result = await WorkflowEngine(default_registry).execute(parse_workflow(source))
    error = result.nodes["a"].error
    return None if error is None else error.message


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(("allowed", "permit"), [("", "false"), ("", "true"), ("127.0.0.0/8", "false")])
def test_the_same_settings_open_the_same_networks_everywhere(
    transactional_db, drain, monkeypatch, settings, asks: bool, allowed: str, permit: str
):
    # Nothing listens at port 8: who gets that far is told so, which is another error than ours.
    asked = str(asks).lower()
    node = f"{{id: a, type: http, config: {{url: 'http://127.0.0.1:8/', allow_private_networks: {asked}}}}}"
    monkeypatch.setenv("PYFLOW_ALLOWED_NETWORKS", allowed)
    monkeypatch.setenv("PYFLOW_PERMIT_PRIVATE_NETWORKS", permit)
    here = asyncio.run(library(workflow(node)))
    settings.PYFLOW_ALLOWED_NETWORKS = [allowed] if allowed else []
    settings.PYFLOW_PERMIT_PRIVATE_NETWORKS = permit == "true"
    network_policy.cache_clear()
    try:
        run = make_run(make_tenant(), workflow(node))
        drain()
    finally:
        network_policy.cache_clear()
    run.refresh_from_db()
    there = None if run.error is None else run.error["message"]
    assert there == here
    opened = bool(allowed) or (permit == "true" and asks)
    assert (here is None or "PYFLOW_ALLOWED_NETWORKS" not in here) is opened
