"""Files of `storage`, `http` and `sql` nodes count as stored bytes, together with all else: a plan's limit binds."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from pyflow.net.files import used_bytes
from runs.models import NodeRun, Run
from tenants.access import Actor
from tenants.models import Tenant
from tenants.quotas import set_plan
from tests.support.api import Api, read
from tests.support.factories.rows import make_api_key, make_run, make_tenant

KB = 1024
LIMIT = 200 * KB
pytestmark = pytest.mark.database

WRITE = """\
version: 2
name: {name}
inputs: {{size: integer, path: string, action: string}}
nodes:
  - id: write
    type: storage
    config: {{action: "{{{{ input.action }}}}", path: "{{{{ input.path }}}}", data: "{{{{ 'x' * input.size }}}}"}}
"""
INSERT = """\
version: 2
name: {name}
inputs: {rows: integer}
nodes:
  - id: write
    type: sql
    config: {{url: "sqlite:///{file}", read_only: false, query: "{query}"}}
"""


@pytest.fixture
def tenant(tenant: Tenant) -> Tenant:
    return limited(tenant)


def limited(tenant: Tenant, limit: int | None = LIMIT) -> Tenant:
    by = Actor.system(tenant.pk, "a test")
    return set_plan(tenant=tenant, plan="enterprise", overrides={"stored_bytes": limit}, by=by)


def root(tenant: Tenant) -> Path:
    return Path(settings.PYFLOW_STORAGE_ROOT) / str(tenant.pk)


def write(drain: Any, tenant: Tenant, path: str, size: int, action: str = "write") -> str | None:
    run = make_run(tenant, WRITE.format(name=path.replace(".", "-")), {"size": size, "path": path, "action": action})
    return ended(drain, run)


def query(drain: Any, tenant: Tenant, file: str, statement: str) -> str | None:
    source = INSERT.replace("inputs: {rows: integer}\n", "").format(name="sql", file=file, query=statement)
    return ended(drain, make_run(tenant, source, {}))


def ended(drain: Any, run: Run) -> str | None:
    """The code of the node's error; `None` if it succeeded."""
    drain()
    error = NodeRun.objects.for_tenant(run.tenant_id).get(run=run, node_id="write").error
    return None if error is None else error["code"]


def test_files_are_refused_beyond_the_limit_and_give_back_what_is_replaced(drain, tenant: Tenant):
    assert write(drain, tenant, "a.json", 90 * KB) is None
    assert write(drain, tenant, "b.json", 90 * KB) is None
    assert write(drain, tenant, "c.json", 90 * KB) == "stored_bytes_exceeded"
    assert used_bytes(root(tenant)) < LIMIT
    assert write(drain, tenant, "a.json", KB) is None
    assert write(drain, tenant, "c.json", 90 * KB) is None
    (root(tenant) / "b.json").unlink()
    assert write(drain, tenant, "d.json", 90 * KB) is None
    assert used_bytes(root(tenant)) < LIMIT


def test_appending_ends_at_the_limit(drain, tenant: Tenant):
    outcomes = [write(drain, tenant, "log.json", 60 * KB, "append") for _ in range(5)]
    assert outcomes[:2] == [None, None]
    assert outcomes[-1] == "stored_bytes_exceeded"
    assert used_bytes(root(tenant)) < LIMIT


def test_a_database_grows_to_the_limit_and_no_further(drain, tenant: Tenant):
    assert query(drain, tenant, "x.db", "create table t (x)") is None
    grow = "insert into t values (zeroblob(61440))"
    outcomes = [query(drain, tenant, "x.db", grow) for _ in range(5)]
    assert outcomes[:2] == [None, None]
    assert outcomes[-1] == "stored_bytes_exceeded"
    assert used_bytes(root(tenant)) <= LIMIT
    assert write(drain, tenant, "a.json", 90 * KB) == "stored_bytes_exceeded"


def test_what_is_counted_in_the_database_counts_as_well(drain, tenant: Tenant):
    """A document of half the limit leaves half of it for files."""
    make_run(
        tenant, WRITE.format(name="large") + "# " + "x" * (LIMIT // 2), {"size": 1, "path": "p", "action": "write"}
    )
    drain()
    assert write(drain, tenant, "a.json", 110 * KB) == "stored_bytes_exceeded"
    assert write(drain, tenant, "a.json", 80 * KB) is None


def test_files_are_in_the_usage(drain, tenant: Tenant):
    api = Api(make_api_key(tenant)[1])

    def used() -> int:
        quotas = {item["quota"]: item["used"] for item in read(api.get("/api/v1/usage"))["quotas"]}
        return quotas["stored_bytes"]

    assert write(drain, tenant, "a.json", 50 * KB) is None
    before = used()
    assert before >= used_bytes(root(tenant)) > 50 * KB
    (root(tenant) / "a.json").unlink()
    assert used() < before - 50 * KB


def test_each_tenant_has_its_own_room_and_no_limit_is_none(drain, tenant: Tenant):
    free = limited(make_tenant(), None)
    assert write(drain, tenant, "a.json", 150 * KB) is None
    assert write(drain, free, "a.json", 2 * LIMIT) is None
    assert write(drain, tenant, "b.json", 150 * KB) == "stored_bytes_exceeded"
