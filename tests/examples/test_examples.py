"""Every example does what it says, run by the command line as its comment shows."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pyflow.cli import app
from pyflow.core.suspension import Signal
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import load_workflow
from tests.support.factories import stage

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDERS = EXAMPLES / "data" / "orders.json"


class Runs:
    """Runs examples, storing in `folder`."""

    def __init__(self, folder: Path, service: Any, shop: dict[str, Any]) -> None:
        self.folder = folder
        self.service = service
        self.shop = shop

    def run(
        self, name: str, *args: str, code: int = 0, secrets: dict[str, str] | None = None, signals: Sequence[str] = ()
    ) -> dict[str, Any]:
        env = {"PYFLOW_STORAGE_ROOT": str(self.folder)} | {f"PYFLOW_SECRET_{k}": v for k, v in (secrets or {}).items()}
        inputs = [part for arg in args for part in ("--input", arg)]
        sent = [part for signal in signals for part in ("--signal", signal)]
        done = CliRunner(env=env).invoke(app, ["run", str(EXAMPLES / name), *inputs, *sent, "--format", "json"])
        assert done.exit_code == code, done.output
        result: dict[str, Any] = json.loads(done.stdout)
        result["by_id"] = {node["id"]: node for node in result["nodes"]}
        result["raw"] = done.stdout
        return result

    def stored(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


@pytest.fixture
def runs(tmp_path: Path, service: Any, shop: dict[str, Any]) -> Runs:
    return Runs(tmp_path, service, shop)


def order_report(runs: Runs) -> None:
    result = runs.run("order-report.yaml", f"@{ORDERS}")
    assert result["state"] == "succeeded"
    assert result["outputs"]["revenue"] == 824.64
    assert result["outputs"]["paid_orders"] == 5
    assert result["outputs"]["outstanding"] == 455.1
    assert result["by_id"]["remind"]["state"] == "succeeded"
    stored = runs.stored("reports/orders-2026-10.json")
    assert stored["totals"] == {"orders": 5, "revenue": 824.64, "average": 164.93}
    assert "DE: 225.15 from 2 order(s)" in stored["text"]
    assert runs.service.requests == []


def rate_watch(runs: Runs) -> None:
    runs.run("rate-watch.yaml", f"url={runs.service.url}", "limit=1.1")
    assert runs.service.alerts == [{"text": "EUR/USD is 1.17, above 1.1"}]
    quiet = runs.run("rate-watch.yaml", f"url={runs.service.url}", "limit=1.2")
    assert quiet["by_id"]["alert"]["state"] == "skipped"
    assert len(runs.service.alerts) == 1


def visit_log(runs: Runs) -> None:
    for visitor in ("Ada", "Grace", "Ada", "Ada"):
        result = runs.run("visit-log.yaml", f"visitor={visitor}")
    assert result["by_id"]["visitors"]["output"] == ["Ada", "Grace", "Ada", "Ada"]
    assert result["by_id"]["regular"]["output"] is True
    assert runs.stored("visits/log.json")[-1]["run"] == result["run_id"]
    assert runs.stored("visits/regulars.json") == ["Ada"]


def price_check(runs: Runs) -> None:
    (runs.folder / "catalogue.json").write_bytes((EXAMPLES / "data" / "catalogue.json").read_bytes())
    nodes = runs.run("price-check.yaml", "catalogue=catalogue.json")["by_id"]
    assert nodes["prices"]["output"] == [12.5, 48.0, 22.0, 79.0]
    assert nodes["dear"]["output"] == ["Fountain pen", "Desk lamp"]
    assert nodes["sold_out"]["output"] == "BAG-03"
    assert nodes["within_budget"]["output"] is True


def resilient_sync(runs: Runs) -> None:
    runs.service.failures = 2
    result = runs.run("resilient-sync.yaml", f"url={runs.service.url}/flaky")
    assert result["by_id"]["fetch"]["attempts"] == 3
    assert runs.stored("stock/levels.json") == {"MUG-01": 40}
    runs.service.failures = 99
    failed = runs.run("resilient-sync.yaml", f"url={runs.service.url}/flaky", code=1)
    assert failed["by_id"]["fetch"]["attempts"] == 4
    failures = runs.stored("stock/failures.json")
    assert [(entry["run"], entry["node"]) for entry in failures] == [(failed["run_id"], "fetch")]
    assert [entry["state"] for entry in runs.stored("stock/journal.json")] == ["succeeded", "failed"]


def quality_gate(runs: Runs) -> None:
    good = runs.run("quality-gate.yaml", f"@{ORDERS}")
    assert good["by_id"]["quarantine"]["state"] == "skipped"
    assert runs.stored("orders/published.json") == json.loads(ORDERS.read_text())["orders"]
    twice = '[{"id": "A", "amount": 1}, {"id": "A", "amount": 0}]'
    bad = runs.run("quality-gate.yaml", f"orders={twice}", code=1)
    states = {node_id: node["state"] for node_id, node in bad["by_id"].items()}
    assert states == {
        "unique_ids": "failed",
        "positive_amounts": "failed",
        "publish": "skipped",
        "quarantine": "succeeded",
        "summary": "succeeded",
    }
    assert runs.stored("orders/quarantine.json") == [["A", "A"]]


def private_api(runs: Runs) -> None:
    url = f"url={runs.service.url}/private"
    result = runs.run("private-api.yaml", url, secrets={"API_TOKEN": "sesame-open"})
    assert result["outputs"] == {"account": "ada", "plan": "TEAM"}
    assert "sesame-open" not in result["raw"]
    refused = runs.run("private-api.yaml", url, secrets={"API_TOKEN": "guessed-wrong"}, code=1)
    assert refused["by_id"]["whoami"]["attempts"] == 1
    assert "401" in refused["error"]["message"]


def fan_out_import(runs: Runs) -> None:
    csv = f"csv=@{EXAMPLES / 'data' / 'customers.csv'}"
    result = runs.run("fan-out-import.yaml", csv, f"url={runs.service.url}")
    assert result["outputs"] == {"imported": 4, "refused": 1}
    items = {item["key"]: item["state"] for item in result["by_id"]["create"]["items"]}
    assert items == {f"C-100{n}": "failed" if n == 3 else "succeeded" for n in range(1, 6)}
    assert sorted(customer["id"] for customer in runs.service.customers) == ["C-1001", "C-1002", "C-1004", "C-1005"]
    assert runs.stored("customers/import.json")["refused"].strip() == "C-1003,Mallory,not an address"


def approval(runs: Runs) -> None:
    yes = 'approval:agree={"approved": true, "by": "ada", "data": {"account": "travel"}}'
    assert runs.run("approval.yaml", "amount=900", signals=[yes])["outputs"] == {"paid": 900, "account": "travel"}
    no = 'approval:agree={"approved": false, "by": "ada", "comment": "too much"}'
    refused = runs.run("approval.yaml", "amount=900", signals=[no], code=1)
    assert refused["error"]["message"] == "rejected by ada: too much"
    small = runs.run("approval.yaml", "amount=20")
    assert (small["by_id"]["agree"]["state"], small["outputs"]["account"]) == ("skipped", "petty cash")
    assert [paid["amount"] for paid in runs.stored("expenses/paid.json")] == [900, 20]


def order_saga(runs: Runs) -> None:
    where = [f"{name}={service.url}" for name, service in runs.shop.items()]
    log = runs.shop["orders"].log
    steps = [("orders", "/orders"), ("payments", "/charges"), ("stock", "/reservations"), ("orders", "/confirmations")]
    done = runs.run("order-saga.yaml", "order=A-17", *where)
    assert done["outputs"] == {"order": "order-1", "charge": "charge-1", "reservation": "reservation-1"}
    assert (log, done["compensation"]) == ([f"POST {path}" for _, path in steps], None)
    for failing, (name, path) in enumerate(steps):
        log.clear()
        runs.shop[name].broken = path
        failed = runs.run("order-saga.yaml", "order=A-17", *where, code=1)
        runs.shop[name].broken = None
        before = [path for _, path in steps[:failing]]
        undone = [f"DELETE {path}/{path[1:-1]}-1" for path in reversed(before)]
        assert log == [f"POST {path}" for path in before] + undone
        assert failed["compensation"] == ("succeeded" if before else None)
    assert [entry["node"] for entry in runs.stored("orders/failed.json")] == ["place", "charge", "reserve", "confirm"]


def llm_triage(runs: Runs) -> None:
    given = [f"url={runs.service.url}/v1", "ticket=The shop is down!"]
    runs.service.says = ["It is urgent.", '{"queue": "technical", "urgent": true}']
    result = runs.run("llm-triage.yaml", *given, secrets={"LLM_KEY": "sesame-open"})
    assert result["outputs"] == {"queue": "technical", "urgent": True, "tokens": 84}  # asked twice
    assert result["by_id"]["page"]["state"] == "succeeded"
    assert runs.stored("tickets/technical.json") == ["The shop is down!"]
    assert "sesame-open" not in result["raw"]
    refused = runs.run("llm-triage.yaml", *given, secrets={"LLM_KEY": "guessed-wrong"}, code=1)
    assert refused["by_id"]["sort"]["attempts"] == 1


CHECKS: dict[str, Callable[[Runs], None]] = {
    check.__name__.replace("_", "-") + ".yaml": check
    for check in (
        order_report,
        rate_watch,
        visit_log,
        price_check,
        resilient_sync,
        quality_gate,
        private_api,
        fan_out_import,
        approval,
        order_saga,
        llm_triage,
    )
}
FILES = sorted(path.name for path in EXAMPLES.glob("*.y*ml"))


@pytest.mark.parametrize("name", FILES)
def test_the_example_does_what_it_says(name: str, runs: Runs):
    assert name in CHECKS, f"examples/{name} has no check in this file"
    CHECKS[name](runs)


def test_there_are_examples_of_both_versions_and_each_is_described():
    texts = {name: (EXAMPLES / name).read_text() for name in FILES}
    readme = (EXAMPLES / "README.md").read_text()
    assert len(texts) >= 6
    assert {"version: 2" in text for text in texts.values()} == {True, False}
    assert [name for name in texts if f"pyflow run examples/{name}" not in readme] == []


async def test_the_approval_can_be_answered_while_the_run_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYFLOW_STORAGE_ROOT", str(tmp_path))
    example = load_workflow(EXAMPLES / "approval.yaml")
    parked = await stage.start(WorkflowEngine(), example, input={"amount": 900}, park=True).wait()
    assert (parked.state, parked.nodes["agree"].state) == ("waiting", "waiting")
    decision = Signal("approval:agree", {"approved": True, "data": {"account": "material"}})
    later = stage.start(WorkflowEngine(), example, input={"amount": 900}, recorded=parked.nodes, signals=[decision])
    assert (await later.wait()).outputs == {"paid": 900, "account": "material"}


@pytest.mark.parametrize("name", FILES)
def test_the_example_is_valid(name: str):
    done = CliRunner().invoke(app, ["validate", str(EXAMPLES / name)])
    assert done.exit_code == 0, done.output
