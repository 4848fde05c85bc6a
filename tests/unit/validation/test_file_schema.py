"""The JSON Schema of workflow files refuses what the checker refuses, as far as a schema can say it."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pyflow.documents.reading import read_yaml
from pyflow.triggers.events import EventConfig
from pyflow.triggers.hooks import WebhookConfig
from pyflow.triggers.schedule_config import ScheduleConfig
from pyflow.validation.file_schema import file_schema
from pyflow.validation.loader import parse_workflow
from pyflow.validation.triggers import check_triggers

EXAMPLES = sorted(Path("examples").rglob("*.yaml"))
NODES = [{"id": "a", "type": "log", "config": {"message": "hi"}}]
GITHUB = {"path": "push", "verify": {"scheme": "github", "secret": "KEY"}}


def with_trigger(type: str, config: dict[str, Any] | None, version: int = 2) -> dict[str, Any]:
    trigger = {"type": type} | ({} if config is None else {"config": config})
    return {"version": version, "name": "flow", "triggers": [trigger], "nodes": NODES}


def fits(document: Any) -> bool:
    return jsonschema.Draft202012Validator(file_schema()).is_valid(document)


def is_right(document: dict[str, Any]) -> bool:
    return not list(check_triggers(parse_workflow(yaml.safe_dump(document))))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits(path: Path):
    document = read_yaml(path.read_text(), scalars="1.2")
    jsonschema.Draft202012Validator(file_schema()).validate(getattr(document, "data", document))


@pytest.mark.parametrize(
    ("type", "config"),
    [
        ("manual", None),
        ("schedule", {"cron": "@daily", "timezone": "Europe/Berlin", "overlap": "buffer_one"}),
        ("schedule", {"interval": "5m", "jitter": 10, "catch_up": "last", "input": {"day": "{{ trigger.fired_at }}"}}),
        ("schedule", {"at": "2026-11-30T10:00:00Z"}),
        ("webhook", GITHUB),
        ("webhook", GITHUB | {"answer": {"wait": "5s", "status": "{{ run.outputs.status }}"}}),
        ("event", {"on": "run.succeeded"}),
        ("event", {"on": ["a", "b"], "workflow": "w", "expect": {"within": "10m"}, "after": "c"}),
        ("event", {"on": "a", "expect": {"within": "10m"}, "after": {"on": ["c"], "when": "trigger.event.data.n"}}),
    ],
)
def test_a_config_that_is_right_fits(type: str, config: dict[str, Any] | None):
    document = with_trigger(type, config)
    assert (is_right(document), fits(document)) == (True, True)


@pytest.mark.parametrize(
    ("type", "config"),
    [
        ("schedule", {"cron": "@daily", "tz": "Europe/Berlin"}),
        ("schedule", {"cron": 5}),
        ("schedule", {"interval": "5m", "overlap": "queue"}),
        ("schedule", {"interval": "5m", "max_catch_up": 0}),
        ("webhook", None),
        ("webhook", {"path": "push"}),
        ("webhook", GITHUB | {"verify": {"scheme": "gitlab", "secret": "KEY"}}),
        ("webhook", GITHUB | {"methods": ["FETCH"]}),
        ("event", {}),
        ("event", {"on": "a", "filter": "x"}),
        ("event", {"on": "a", "expect": {"until": "10m"}}),
    ],
)
def test_a_config_that_is_wrong_does_not_fit(type: str, config: dict[str, Any] | None):
    document = with_trigger(type, config)
    assert (is_right(document), fits(document)) == (False, False)


def test_configs_of_version_1_are_free():
    document = {"name": "flow", "trigger": {"type": "schedule", "config": {"cron": "* * * * *", "note": 1}}}
    assert fits(document | {"nodes": NODES})


@pytest.mark.parametrize("model", [ScheduleConfig, WebhookConfig, EventConfig])
def test_every_field_of_a_trigger_is_described(model: Any):
    definition = file_schema()["$defs"][model.__name__]
    assert set(definition["properties"]) == set(model.model_fields)
    assert [name for name, field in definition["properties"].items() if not field.get("description")] == []
