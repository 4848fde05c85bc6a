"""Secrets in runs: read when a node uses them, and found nowhere afterwards."""

import base64
import json
import logging
from collections.abc import Callable

import pytest

from pyflow.core.node import NodeRegistry
from pyflow.core.redaction import RedactingFormatter
from runs.models import EventRecord, NodeRun, Run
from secrets_vault.models import SecretVersion
from secrets_vault.providers import ChainProvider
from secrets_vault.services import replace_secret
from tenants.access import Actor
from tenants.models import Tenant
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories import nodes
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from tests.support.factories.secrets import database_text, forms_of, make_secret, pieces_of
from tests.support.processes.running import ended, executing, parked, send, state_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
CANARY = 'Canary "bird"/päss+w\\1&<2>'
logger = logging.getLogger("a library")


def workflow(*specs: str, name: str = "w", outputs: str = "{}") -> str:
    return f"version: 2\nname: {name}\noutputs: {outputs}\nnodes:\n" + "".join(f"  - {spec}\n" for spec in specs)


ECHO = workflow(
    '{id: plain, type: template, config: {template: "it is {{ secrets.CANARY }}!"}}',
    "{id: forms, type: forms}",
    '{id: later, type: transform, depends_on: [forms], config: {input: "{{ forms }}", expression: "$"}}',
    '{id: fails, type: fail, depends_on: [later, plain], config: {message: "no: {{ plain }}"}, on_error: continue}',
    outputs='{all: "{{ later }}", again: "{{ plain }}"}',
)


def in_all_forms(value: str) -> dict[str, object]:
    raw = value.encode()
    forms = {f"form {i}": f"<{form}>" for i, form in enumerate(sorted(forms_of(value)))}
    longer = {f"base64 {i}": base64.b64encode(b"u" * i + raw + b":x").decode() for i in range(3)}
    return {**forms, **longer, "nested": [{value: (value,)}], "json": json.dumps(json.dumps({"k": value}))}


@pytest.fixture
def forms(registry: NodeRegistry) -> NodeRegistry:
    """A node type that returns and logs its secret in all forms."""

    def echo(ctx):
        found = in_all_forms(ctx.secret("CANARY"))
        for text in found.values():
            ctx.logger.warning("node: %s", text)
            logger.warning("library: %s", text)
        ctx.progress(0.5, str(found["json"]))
        return found | {"part": CANARY[: len(CANARY) // 2 + 3]}

    nodes.register(registry, "forms", echo)
    return registry


def assert_nowhere(texts: dict[str, str]) -> None:
    forms = forms_of(CANARY) | pieces_of(CANARY)
    found = {(place, form) for form in forms for place, text in texts.items() if form in text}
    assert found == set()


def tables() -> dict[str, str]:
    texts: dict[str, str] = {}
    for table, text in database_text():
        texts[table] = f"{texts.get(table, '')}\n{text}"
    return texts


def everywhere(tenant: Tenant, run: Run) -> dict[str, str]:
    """The text of all tables, and of all that the API answers about the run and the secret."""
    texts = tables()
    api = Api(make_api_key(tenant)[1])
    for path in (f"runs/{run.pk}", f"runs/{run.pk}/events", "secrets", "secrets/CANARY", "secrets/CANARY/versions"):
        response = api.get(f"/api/v1/{path}")
        assert response.status_code == 200, path
        texts[path] = response.content.decode() + json.dumps(read(response), ensure_ascii=False)
    return texts


def test_a_canary_is_found_nowhere(tenant, forms, drain, caplog):
    make_secret(tenant, "CANARY", CANARY)
    handler, lines = logging.StreamHandler(), []
    handler.setFormatter(RedactingFormatter("%(name)s %(message)s"))
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        run = make_run(tenant, ECHO)
        drain()
    finally:
        logging.getLogger().removeHandler(handler)
    run.refresh_from_db()
    assert NodeRun.objects.for_tenant(tenant).get(run=run, node_id="plain").output == "it is ***!"
    assert NodeRun.objects.for_tenant(tenant).get(run=run, node_id="forms").output["part"] == "***"
    texts = everywhere(tenant, run)
    assert any("library: " in line for line in lines)
    assert any("node: " in line for line in lines)
    texts["log"] = "\n".join(lines)
    assert_nowhere(texts)
    marks = run.secrets_used
    assert len(marks) == 1
    assert "Canary" not in marks[0]


def test_an_input_that_holds_a_secret_is_masked_when_the_run_is_over(tenant, registry, drain):
    make_secret(tenant, "CANARY", CANARY)
    source = workflow('{id: both, type: template, config: {template: "{{ secrets.CANARY == input.given }}"}}')
    run = make_run(tenant, source.replace("outputs: {}", "inputs: {given: string}"), {"given": CANARY})
    drain()
    run.refresh_from_db()
    assert NodeRun.objects.for_tenant(tenant).get(run=run).output in ("True", "true", True)
    assert run.input == {"given": "***"}


def test_a_run_that_goes_on_elsewhere_masks_what_it_used_before(tenant, registry):
    """The value comes back from outside, to a process that never looked it up, after it was replaced."""
    secret = make_secret(tenant, "CANARY", CANARY)
    source = workflow(
        '{id: uses, type: transform, config: {input: "{{ secrets.CANARY }}", expression: "$"}}',
        "{id: waits, type: signal, depends_on: [uses], config: {name: go}}",
        '{id: after, type: transform, depends_on: [waits], config: {input: "{{ waits }}", expression: "$"}}',
    )
    run = make_run(tenant, source)
    with executing():
        parked(run)
    replace_secret(secret=secret, value="a new value", by=Actor.system(tenant.pk, "a test"))
    send(run, "go", {"echo": f"you sent {CANARY}"})
    with executing():
        ended(run, "succeeded")
    assert "you sent ***" in str(NodeRun.objects.for_tenant(tenant).get(run=run, node_id="after").output)
    stored = [row.data for row in EventRecord.objects.for_tenant(tenant).filter(run=run)]
    assert CANARY not in str([*stored, *NodeRun.objects.for_tenant(tenant).values_list("output", flat=True)])


def test_a_missing_secret_is_named(tenant, registry, drain):
    run = make_run(tenant, workflow('{id: n, type: template, config: {template: "{{ secrets.NOWHERE }}"}}'))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "secret not found: NOWHERE" in run.error["message"]


def test_a_secret_that_does_not_decrypt_is_named_and_not_shown(tenant, registry, drain):
    make_secret(tenant, "CANARY", CANARY)
    SecretVersion.objects.for_tenant(tenant).update(nonce=b"n" * 12)
    run = make_run(tenant, workflow('{id: n, type: template, config: {template: "{{ secrets.CANARY }}"}}'))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "CANARY cannot be decrypted" in run.error["message"]
    assert_nowhere(tables())


def test_nodes_that_start_after_a_replacement_use_the_new_value(tenant, registry):
    secret = make_secret(tenant, "API_KEY", "the first value")
    seen: list[str] = []
    nodes.register(registry, "peek", lambda ctx: seen.append(ctx.secret("API_KEY")))
    source = workflow(
        "{id: one, type: peek}",
        "{id: waits, type: signal, depends_on: [one], config: {name: go}}",
        "{id: two, type: peek, depends_on: [waits]}",
    )
    run = make_run(tenant, source)
    with executing():
        waiting.until(lambda: state_of(run) == "waiting", what="waiting run")
        replace_secret(secret=secret, value="the second value", by=Actor.system(tenant.pk, "a test"))
        send(run, "go")
        ended(run, "succeeded")
    assert seen == ["the first value", "the second value"]
    run.refresh_from_db()
    assert len(run.secrets_used) == 2


def test_a_child_run_is_not_handed_a_secret(tenant, registry, drain: Callable[[], None]):
    make_secret(tenant, "CANARY", CANARY)
    make_workflow(tenant, workflow('{id: n, type: template, config: {template: "{{ input.key }}"}}', name="child"))
    spec = '{id: n, type: workflow, config: {workflow: child, input: {key: "{{ secrets.CANARY }}"}}}'
    run = make_run(tenant, workflow(spec))
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "cannot hold a secret" in run.error["message"]
    assert not Run.objects.for_tenant(tenant).filter(parent=run).exists()
    assert_nowhere(tables())


def test_a_cached_result_is_masked_in_the_runs_that_find_it(tenant, registry):
    make_secret(tenant, "CANARY", CANARY)
    nodes.register(registry, "costly", lambda ctx: {"got": ctx.secret("CANARY")})
    source = workflow("{id: n, type: costly, cache: {key: always, ttl: 1h}}")
    runs = [make_run(tenant, source)]
    with executing():
        ended(runs[0], "succeeded")
        runs.append(make_run(tenant, source))
        ended(runs[1], "succeeded")
    outputs = NodeRun.objects.for_tenant(tenant).values_list("output", flat=True)
    assert list(outputs) == [{"got": "***"}, {"got": "***"}]


def test_nothing_is_looked_up_before_a_node_runs(tenant, registry, drain, monkeypatch):
    monkeypatch.setattr(ChainProvider, "find", lambda self, name: pytest.fail("looked up"))
    make_secret(tenant, "CANARY", CANARY)
    source = workflow(
        "{id: fails, type: fail, config: {message: so it is}}",
        '{id: n, type: template, depends_on: [fails], config: {template: "{{ secrets.CANARY }}"}}',
    )
    run = make_run(tenant, source)
    drain()
    run.refresh_from_db()
    assert run.secrets_used == []


def test_a_bug_leaves_its_traceback_with_the_node_and_no_piece_of_a_secret(tenant, registry, drain, caplog):
    make_secret(tenant, "CANARY", CANARY)

    def buggy(ctx):
        value = ctx.secret("CANARY")
        return {"a": 1}[value[4:]]

    nodes.register(registry, "buggy", buggy)
    run = make_run(tenant, workflow("{id: a, type: buggy}"))
    drain()
    run.refresh_from_db()
    node = NodeRun.objects.for_tenant(tenant).get(run=run)
    assert (node.error["type"], "traceback" in run.error) == ("KeyError", False)
    assert 'return {"a": 1}[value[4:]]' in node.error["traceback"]
    answer = read(Api(make_api_key(tenant)[1]).get(f"/api/v1/runs/{run.pk}/nodes/a"))
    assert answer["error"]["traceback"] == node.error["traceback"]
    texts = {**everywhere(tenant, run), "log": caplog.text, "answer": json.dumps(answer, ensure_ascii=False)}
    for start in range(4, len(CANARY) - 7):
        assert [place for place, text in texts.items() if CANARY[start : start + 8] in text] == []
