"""`pyflow.core.loader`, as v1 users know it."""

from datetime import date
from pathlib import Path

import pytest

from pyflow.core.loader import load_all_workflows, load_workflow
from pyflow.core.models import OnError, WorkflowDef

TEXT = """
name: rate-watch
description: optional
trigger:
  type: schedule
  config: {cron: "0 * * * *"}
nodes:
  - id: rates
    type: http
    config: {url: "https://rates.example/latest"}
  - id: step
    type: http
    config: {enabled: yes, since: 2024-01-02, mode: 0644}
    depends_on: [rates]
    when: "rates > 3"
    on_error: retry
    retry: {max_retries: 3, delay: 1}
"""


def write(folder: Path, name: str, text: str = TEXT) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_becomes_a_workflow(tmp_path: Path):
    workflow = load_workflow(write(tmp_path, "a.yaml"))
    assert isinstance(workflow, WorkflowDef)
    assert (workflow.name, workflow.description) == ("rate-watch", "optional")
    assert workflow.trigger is not None
    assert (workflow.trigger.type, workflow.trigger.config) == ("schedule", {"cron": "0 * * * *"})
    step = workflow.nodes[1]
    assert (step.id, step.type, step.depends_on, step.when) == ("step", "http", ["rates"], "rates > 3")
    assert step.on_error is OnError.RETRY


def test_scalars_mean_what_they_meant(tmp_path: Path):
    """YAML 1.1, as PyYAML's safe loader reads it."""
    config = load_workflow(write(tmp_path, "a.yaml")).nodes[1].config
    assert config == {"enabled": True, "since": date(2024, 1, 2), "mode": 0o644}


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        load_workflow(tmp_path / "ghost.yaml")


@pytest.mark.parametrize(
    "text",
    ["", "just text", "- a\n- b\n", "name: x\n", "name: [", "name: x\ntrigger: {type: manual}\nnodes: 3\n", "\0"],
)
def test_what_is_no_workflow_is_a_value_error(tmp_path: Path, text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - only the kind is promised
        load_workflow(write(tmp_path, "a.yaml", text))


def test_duplicate_ids_in_a_file(tmp_path: Path):
    nodes = "nodes:\n- {id: a, type: x}\n- {id: a, type: x}\n"
    with pytest.raises(ValueError, match="Duplicate node id: a"):
        load_workflow(write(tmp_path, "a.yaml", f"name: x\ntrigger: {{type: manual}}\n{nodes}"))


def test_all_files_of_a_directory_with_either_ending_sorted(tmp_path: Path):
    for name in ("c.yaml", "a.yml", "b.yaml"):
        write(tmp_path, name, TEXT.replace("rate-watch", name))
    write(tmp_path, "notes.txt", "not a workflow")
    assert [workflow.name for workflow in load_all_workflows(tmp_path)] == ["a.yml", "b.yaml", "c.yaml"]


def test_an_empty_directory_has_none(tmp_path: Path):
    assert load_all_workflows(tmp_path) == []


def test_keys_that_version_2_gave_a_meaning_are_ignored_in_a_v1_file(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text(
        "name: w\nversion: '1.4.0'\nfinally: later\non_failure: [{id: x, type: nope}]\ninputs: 7\nsettings: none\n"
        "trigger: {type: manual}\nnodes:\n"
        "  - {id: a, type: condition, config: {if: '1 < 2'}, timeout: soon, run_if: 3}\n"
    )
    workflow = load_workflow(path)
    assert workflow.version == 1
    assert [node.id for node in workflow.all_nodes()] == ["a"]
    assert (workflow.nodes[0].timeout, workflow.inputs) == (None, None)


def test_a_version_that_does_not_exist_is_not_taken_for_v1(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("name: w\nversion: 3\ntrigger: {type: manual}\nnodes: []\n")
    with pytest.raises(ValueError, match="version"):
        load_workflow(path)
