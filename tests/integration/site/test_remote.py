"""`pyflow remote` against a server that serves, with an executor at work."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app
from runs.storage.removal import remove_runs
from tenants.models import Tenant
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import HELLO, make_api_key, make_run
from tests.support.processes.running import parked, state_of
from tests.support.servers import asgi

pytestmark = pytest.mark.database
ASKS = workflow(
    "{id: a, type: log, config: {message: a}}",
    "{id: ask, type: approval, depends_on: [a], config: {message: ok?, assignees: [ada]}}",
    name="asks",
)
FAILS = workflow("{id: a, type: fail, config: {message: no stock}}", name="fails")


@pytest.fixture
def key(tenant: Tenant) -> str:
    return make_api_key(tenant, name="laptop")[1]


@pytest.fixture
def server(live_server, key: str, tmp_path: Path, monkeypatch) -> str:
    """The address of a server that this command line knows by its environment."""
    monkeypatch.setenv("PYFLOW_URL", live_server.url)
    monkeypatch.setenv("PYFLOW_KEY", key)
    monkeypatch.setenv("PYFLOW_PROFILES", str(tmp_path / "settings" / "profiles.json"))
    return live_server.url


def remote(*args: object, code: int = 0, **options: Any) -> str:
    done: Result = CliRunner().invoke(app, ["remote", *map(str, args)], **options)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def as_json(*args: object, code: int = 0) -> Any:
    return json.loads(remote(*args, "--format", "json", code=code))


@pytest.fixture
def stored(tmp_path: Path):
    """A workflow in a file."""

    def store(source: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(source)
        return path

    return store


def test_a_login_is_tried_and_kept_for_its_owner_only(server: str, key: str, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("PYFLOW_KEY")
    monkeypatch.delenv("PYFLOW_URL")
    file = tmp_path / "settings" / "profiles.json"
    assert "refuses this key" in remote("login", "--url", server, input="pyf_live_wrong\n", code=4)
    assert not file.exists()
    told = remote("login", "prod", "--url", server, input=f"{key}\n")
    assert "laptop" in told
    assert key not in told
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert as_json("whoami")["name"] == "laptop"
    monkeypatch.setenv("PYFLOW_KEY", key)
    assert "owner" in remote("login", "again", "--url", server)
    assert [item["name"] for item in as_json("profiles")] == ["prod", "again"]
    assert server in remote("use", "prod")


def test_a_workflow_is_pushed_run_and_followed(server: str, executor, stored):
    file = stored(HELLO)
    assert "hello version 1 (published)" in remote("push", file)
    assert as_json("push", file)[0]["version"] == 1
    assert "hello" in remote("workflows")
    lines = remote("run", "hello", "-i", "who=7", "--label", "team:x", "--watch").splitlines()
    assert lines[0].split()[1:] == ["hello", "queued"]
    assert lines[1].endswith("run: queued")
    assert '{"greeting": "Hello 7"}' in lines[-1]
    [run] = as_json("runs", "--label", "team:x", "--workflow", "hello")
    assert (run["state"], run["labels"]["team"]) == ("succeeded", "x")
    assert run["id"] == lines[0].split()[0]
    assert run["id"] in remote("runs")
    told = as_json("get", run["id"])
    assert (told["input"], told["nodes"][0]["state"]) == ({"who": "7"}, "succeeded")


def test_what_the_server_refuses_is_said_with_its_place(server: str, stored):
    wrong = HELLO.replace("type: transform", "type: transfrom") + "  - {id: two, type: lgo}\n"
    told = remote("push", stored(wrong), code=3)
    assert "did you mean 'transform'?" in told
    assert "did you mean 'log'?" in told
    assert "There is no workflow named 'nothing'" in remote("run", "nothing", code=4)
    remote("push", stored(HELLO))
    assert '"who" is a required property' in remote("run", "hello", code=4)


def test_a_run_that_fails_is_exit_code_1_and_is_retried(server: str, tenant, executor):
    run = make_run(tenant, FAILS)
    assert "no stock" in remote("watch", run.pk, code=1)
    assert "First failure: a" in remote("explain", run.pk)
    assert "queued" in remote("retry", run.pk)
    events = remote("watch", run.pk, "--format", "json", code=1).splitlines()
    assert [json.loads(line)["type"] for line in events].count("run.failed") == 2


@pytest.fixture
def streaming(server: str, monkeypatch) -> Iterator[None]:
    """Let the command line know a server that streams."""
    with asgi.serving("uvicorn") as address:
        monkeypatch.setenv("PYFLOW_URL", f"http://{address}")
        yield


def test_the_events_of_the_tenant_are_followed_and_continued(streaming, tenant, executor):
    runs = [parked(make_run(tenant, ASKS)) for _ in range(2)]
    lines = remote("events", "--after", "oldest", "--type", "run.*", "-n", 3).splitlines()
    assert [line.split()[1:4] for line in lines[:1]] == [["run.queued", "asks", str(runs[0].pk)]]
    first, second = (json.loads(line) for line in _events("--after", "oldest", "--type", "run.started", "-n", 2))
    assert [first["run_id"], second["run_id"]] == [str(run.pk) for run in runs]
    [again] = _events("--after", first["cursor"], "--type", "run.started", "--workflow", "asks", "-n", 1)
    assert json.loads(again) == second
    assert "The cursor is not one" in remote("events", "--after", "nonsense", code=4)


def test_the_events_of_a_server_that_cannot_stream_are_polled(server: str, tenant):
    runs = [make_run(tenant, ASKS) for _ in range(2)]
    lines = _events("--after", "oldest", "--type", "run.queued", "-n", 2)
    assert [json.loads(line)["run_id"] for line in lines] == [str(run.pk) for run in runs]


@pytest.mark.breaks_invariant(
    "runs_per_day_are_those_of_rows", reason="a run of today is removed, which retention never does"
)
def test_events_that_were_removed_are_said_with_the_place_to_continue_from(streaming, tenant, executor):
    run = make_run(tenant, FAILS)
    remote("watch", run.pk, code=1)
    [line] = _events("--after", "oldest", "-n", 1)
    remove_runs(tenant_id=tenant.pk, run_ids=[run.pk])
    told = remote("events", "--after", json.loads(line)["cursor"], code=4)
    assert "Events after this cursor were removed" in told
    oldest = told.partition("--after ")[2].partition("`")[0]
    make_run(tenant, FAILS)
    assert json.loads(_events("--after", oldest, "--type", "run.queued", "-n", 1)[0])["workflow"] == "fails"


def _events(*args: object) -> list[str]:
    return remote("events", *args, "--format", "json").splitlines()


def test_what_nodes_log_is_printed_and_followed(server: str, tenant, executor):
    says = "{id: %s, type: log, depends_on: [%s], config: {message: 'it says %s', level: %s}}"
    run = make_run(tenant, workflow(says % ("a", "", "a", "info"), says % ("b", "a", "b", "warning"), name="says"))
    lines = remote("logs", run.pk, "--follow").splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["info      a: it says a", "warning   b: it says b"]
    assert remote("logs", run.pk, "--level", "warning") == lines[1] + "\n"
    assert json.loads(remote("logs", run.pk, "--node", "a", "--format", "json"))["message"] == "it says a"
    assert remote("logs", run.pk, "--level", "loud", code=2)


def test_a_run_that_waits_is_explained_and_gets_its_signal(server: str, tenant, executor):
    run = parked(make_run(tenant, ASKS))
    told = remote("explain", run.pk)
    assert "Waits for the decision of ada" in told
    assert "not resume: The run is not paused." in told
    assert as_json("explain", run.pk)["nodes"][0]["code"] == "approval"
    assert "true or false is needed" in remote("signal", run.pk, "approval:ask", "{}", code=4)
    decided = ["signal", run.pk, "approval:ask", '{"approved": true}', "--id", "1"]
    assert "approval:ask delivered" in remote(*decided)
    assert "outputs" not in remote("watch", run.pk)


def test_runs_are_paused_resumed_cancelled_and_terminated(server: str, tenant):
    runs = [make_run(tenant) for _ in range(3)]
    ids = [run.pk for run in runs]
    assert remote("pause", *ids).count("paused") == 3
    assert "queued" in remote("resume", ids[0])
    told = remote("resume", *ids, code=4)
    assert "not paused" in told
    assert [state_of(run) for run in runs] == ["queued"] * 3
    assert "queued" in remote("cancel", ids[0])
    assert "cancelled" in remote("terminate", ids[1])
    assert "has ended already" in remote("pause", ids[1], code=4)


def test_all_that_match_filters_are_acted_on_once_that_is_said(server: str, tenant, monkeypatch):
    monkeypatch.setattr("runs.api.actions.MOST_RUNS", 2)
    runs = [make_run(tenant) for _ in range(3)]
    assert "--yes" in remote("terminate", "--workflow", "hello", code=2)
    assert {state_of(run) for run in runs} == {"queued"}
    results = as_json("terminate", "--workflow", "hello", "--state", "queued", "--yes")
    assert sorted(item["id"] for item in results) == sorted(str(run.pk) for run in runs)
    assert {state_of(run) for run in runs} == {"cancelled"}
    assert "No matching run" in remote("terminate", "--workflow", "hello", "--yes")


def test_a_rerun_is_planned_and_done(server: str, tenant, executor):
    run = parked(make_run(tenant, ASKS))
    assert [line.split() for line in remote("rerun", run.pk, "--from", "ask", "--plan").splitlines()[1:]] == [
        ["a", "reuse"],
        ["ask", "run"],
    ]
    again = as_json("rerun", run.pk, "--from", "ask")
    assert again["source_run"] == str(run.pk)
    assert "no node 'x'" in remote("rerun", run.pk, "--from", "x", code=4)


def test_another_tenants_run_is_an_unknown_one(server: str, tenant):
    other = Tenant.objects.create(slug="other", name="other", plan="enterprise")
    hidden = make_run(other)
    for verb in ("get", "explain", "cancel", "watch"):
        assert f"There is no run {hidden.pk}" in remote(verb, hidden.pk, code=4)
    assert state_of(hidden) == "queued"


def test_a_viewer_reads_and_is_refused_what_changes(server: str, tenant, monkeypatch):
    run = make_run(tenant)
    monkeypatch.setenv("PYFLOW_KEY", make_api_key(tenant, role="viewer")[1])
    assert str(run.pk) in remote("runs")
    assert "runs:write" in remote("cancel", run.pk, code=4)


INPUTS = workflow("{id: a, type: log, config: {message: a}}", name="asked", inputs="{count: integer, name: string}")


def test_everything_that_is_wrong_with_a_request_is_said_with_its_place(server: str, tenant: Tenant):
    make_run(tenant, INPUTS, input={"count": 1, "name": "a"})
    one = remote("run", "asked", "--input", "count=x", "--input", "name=a", code=4)
    assert "  /input/count: " in one
    several = remote("run", "asked", "--key", "k" * 256, "--label", "1:x", code=4)
    assert "  /key: " in several
    assert "  /labels: " in several
