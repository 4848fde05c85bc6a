"""`pyflow remote` where no server is asked: profiles, usage, and a client that is not installed."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app
from tests.support.servers.launcher import free_port

RUN = "019ab000-0000-7000-8000-000000000000"
KEY = "pyf_live_secret"


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch) -> Path:
    """Where the profiles of this test are; there are two."""
    for name in ("PYFLOW_URL", "PYFLOW_KEY", "PYFLOW_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "settings" / "profiles.json"
    monkeypatch.setenv("PYFLOW_PROFILES", str(file))
    file.parent.mkdir()
    servers = {name: {"url": f"http://127.0.0.1:{free_port()}", "key": KEY} for name in ("one", "two")}
    file.write_text(json.dumps({"default": "one", "profiles": servers}))
    file.chmod(0o600)
    return file


def remote(*args: str, **options: str) -> Result:
    return CliRunner().invoke(app, ["remote", *args], **options)


def test_profiles_are_listed_without_their_keys():
    shown = remote("profiles")
    assert shown.output.split()[:2] == ["*", "one"]
    listed = json.loads(remote("profiles", "--format", "json").output)
    assert [(item["name"], item["default"]) for item in listed] == [("one", True), ("two", False)]
    assert KEY not in shown.output + json.dumps(listed)


def test_another_profile_becomes_the_default_one(profiles: Path):
    assert remote("use", "two").exit_code == 0
    assert json.loads(profiles.read_text())["default"] == "two"
    assert stat.S_IMODE(profiles.stat().st_mode) == 0o600
    assert [path.name for path in profiles.parent.iterdir()] == ["profiles.json"]


def test_a_profile_is_forgotten(profiles: Path):
    assert remote("logout", "one").exit_code == 0
    kept = json.loads(profiles.read_text())
    assert (kept["default"], list(kept["profiles"])) == ("two", ["two"])
    refused = remote("logout", "one")
    assert (refused.exit_code, "no profile 'one'" in refused.output) == (2, True)


def test_a_file_that_others_can_read_is_refused(profiles: Path):
    profiles.chmod(0o640)
    refused = remote("runs")
    assert (refused.exit_code, f"chmod 600 {profiles}" in refused.output) == (2, True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"profiles": {"a": 1}, "default": "a"}', '{"default": "a"}'])
def test_a_file_of_something_else_is_refused(profiles: Path, text: str):
    profiles.write_text(text)
    refused = remote("runs")
    assert (refused.exit_code, "not a file of profiles" in refused.output) == (2, True)


def test_without_any_server_it_says_what_to_do(profiles: Path):
    profiles.unlink()
    refused = remote("runs")
    assert refused.exit_code == 2
    assert "pyflow remote login --url" in refused.output
    assert "No profiles" in remote("profiles").output


def test_a_missing_profile_is_reported_with_the_existing_ones(monkeypatch):
    refused = remote("runs", "--profile", "three")
    assert (refused.exit_code, "there is one, two" in refused.output) == (2, True)
    monkeypatch.setenv("PYFLOW_PROFILE", "four")
    assert "no profile 'four'" in remote("runs").output


def test_a_server_that_is_away_is_exit_code_4():
    away = remote("runs", "--profile", "two")
    assert away.exit_code == 4
    [*others, error] = away.output.splitlines()
    assert others[0].startswith("no answer from 127.0.0.1")
    assert others[0].endswith("trying again, for 5 s in all")
    assert error.startswith("Error: no answer from 127.0.0.1")
    assert KEY not in away.output


def test_the_environment_goes_before_the_default_profile(monkeypatch):
    monkeypatch.setenv("PYFLOW_URL", "not an address")
    assert "PYFLOW_KEY is not" in remote("runs").output
    monkeypatch.setenv("PYFLOW_KEY", KEY)
    refused = remote("runs")
    assert (refused.exit_code, "not an address" in refused.output) == (2, True)
    assert "no answer" in remote("runs", "--profile", "one").output


@pytest.mark.parametrize(
    "args",
    [
        ["cancel"],
        ["cancel", RUN, "--workflow", "hello"],
        ["cancel", "--workflow", "hello"],
        ["explain", "not-an-id"],
        ["signal", RUN, "name", "{"],
        ["run", "hello", "--label", "unnamed"],
        ["runs", "--limit", "0"],
        ["login", "three"],
        ["login", "three", "--url", "http://127.0.0.1:1"],
        ["use", "three"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_asks_no_server(args: list[str]):
    refused = remote(*args, input="")
    assert (refused.exit_code, "no answer" in refused.output) == (2, False), refused.output


def test_a_file_that_is_no_workflow_is_not_sent(tmp_path: Path):
    file = tmp_path / "x.yaml"
    assert remote("push", str(file)).exit_code == 1
    for text in ("- a list", "version: 2", "name: {}", "name: [", "name: '..'"):
        file.write_text(text)
        assert remote("push", str(file)).exit_code == 3, text


def test_without_the_client_other_commands_work_and_this_one_says_what_is_missing():
    hiding = "import sys; sys.modules['pyflow_client'] = None; from pyflow.cli import main; main()"

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", hiding, *args], capture_output=True, text=True)

    refused = run("remote", "runs")
    assert (refused.returncode, "pip install pyflow-client" in refused.stderr) == (2, True)
    assert run("nodes").returncode == 0
    assert run("remote", "--help").returncode == 0
