"""`pyflow.core.models`, as v1 users know it."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pyflow.core.models import NodeDef, OnError, TriggerDef, WorkflowDef

MANUAL = {"type": "manual"}


def test_they_are_pydantic_models():
    assert all(issubclass(model, BaseModel) for model in (WorkflowDef, NodeDef, TriggerDef))


def test_the_defaults_of_a_node():
    node = NodeDef(id="a", type="http")
    assert node.config == {}
    assert node.depends_on == []
    assert node.when is None
    assert node.on_error is OnError.STOP


def test_defaults_are_not_shared():
    NodeDef(id="a", type="http").depends_on.append("x")
    assert NodeDef(id="b", type="http").depends_on == []


def test_on_error_is_a_text_enumeration():
    assert isinstance(OnError.SKIP, str)
    assert (OnError.SKIP, OnError.STOP, OnError.RETRY) == ("skip", "stop", "retry")
    assert NodeDef(id="a", type="http", on_error="retry").on_error is OnError.RETRY
    with pytest.raises(ValidationError):
        NodeDef(id="a", type="http", on_error="explode")


def test_the_retry_settings_of_a_node():
    retry: Any = NodeDef(id="a", type="http", retry={"max_retries": 5, "delay": 0.5}).retry
    assert (retry.max_retries, retry.delay) == (5, 0.5)
    assert (retry["max_retries"], retry.get("delay"), retry.get("other", 7)) == (5, 0.5, 7)


@pytest.mark.parametrize("kind", ["manual", "webhook", "schedule"])
def test_the_kinds_of_trigger(kind: str):
    trigger = TriggerDef(type=kind)
    assert (trigger.type, trigger.config) == (kind, {})


def test_an_unknown_kind_of_trigger_is_refused():
    with pytest.raises(ValidationError):
        TriggerDef(type="telepathy")


@pytest.mark.parametrize("missing", ["name", "trigger", "nodes"])
def test_what_a_workflow_must_have(missing: str):
    data = {"name": "flow", "trigger": MANUAL, "nodes": [{"id": "a", "type": "http"}]}
    del data[missing]
    with pytest.raises(ValidationError, match=missing):
        WorkflowDef.model_validate(data)


@pytest.mark.parametrize("missing", ["id", "type"])
def test_what_a_node_must_have(missing: str):
    data = {"id": "a", "type": "http"}
    del data[missing]
    with pytest.raises(ValidationError, match=missing):
        NodeDef.model_validate(data)


def test_a_description_is_optional():
    assert WorkflowDef(name="flow", trigger=MANUAL, nodes=[]).description is None
    assert WorkflowDef(name="flow", description="d", trigger=MANUAL, nodes=[]).description == "d"


def test_duplicate_node_ids_are_refused():
    with pytest.raises(ValidationError, match="Duplicate node id: a"):
        WorkflowDef(name="flow", trigger=MANUAL, nodes=[{"id": "a", "type": "x"}, {"id": "a", "type": "y"}])


def test_a_node_type_need_not_be_registered_to_be_read():
    assert WorkflowDef(name="flow", trigger=MANUAL, nodes=[{"id": "a", "type": "ghost"}]).nodes[0].type == "ghost"


def test_keys_that_are_not_known_are_no_error():
    data = {"name": "flow", "trigger": MANUAL, "nodes": [{"id": "a", "type": "x", "note": 1}], "owner": "me"}
    assert WorkflowDef.model_validate(data).name == "flow"


def test_a_workflow_is_made_of_models_as_well_as_of_data():
    node, trigger = NodeDef(id="a", type="x"), TriggerDef(type="manual")
    workflow = WorkflowDef(name="flow", trigger=trigger, nodes=[node])
    assert workflow == WorkflowDef.model_validate(workflow.model_dump())
