"""The built-in node types as a set: the registry, the catalogue, what importing them costs."""

import subprocess
import sys

import jsonschema_rs
import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.nodes import default_registry
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.catalogue import describe, describe_type
from pyflow.nodes.condition import ConditionNode
from pyflow.nodes.fail import FailNode
from pyflow.nodes.http import HttpNode
from pyflow.nodes.log import LogNode
from pyflow.nodes.storage import StorageNode
from pyflow.nodes.template import TemplateNode
from pyflow.nodes.transform import TransformNode
from pyflow_sdk.testing import run_node

V1 = {
    "http": HttpNode,
    "transform": TransformNode,
    "condition": ConditionNode,
    "alert": AlertNode,
    "storage": StorageNode,
}


@pytest.mark.parametrize(("name", "cls"), V1.items())
def test_the_default_registry_has_the_types_of_v1(name: str, cls: type[BaseNode[object, object]]):
    assert default_registry.get(name) is cls
    assert cls.node_type == name
    assert isinstance(cls(), BaseNode)


def test_importing_the_nodes_imports_nothing_that_a_run_may_not_need():
    code = "import sys, pyflow.nodes; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pyflow" in printed
    clients = {"httpx2", "httpcore2", "anyio", "sqlalchemy", "psycopg", "pymysql", "smtplib"}
    assert not (clients | {"jsonpath_ng", "jsonschema_rs", "apscheduler", "uvicorn"}) & set(printed)


def test_the_catalogue_describes_every_type():
    catalogue = describe(default_registry)
    assert [entry["type"] for entry in catalogue] == default_registry.list_types()
    for entry in catalogue:
        assert all(entry[key] for key in ("display_name", "category", "description", "version"))
        assert entry.keys() == {
            "type", "display_name", "category", "description", "version", "config", "output", "example"
        }  # fmt: skip


@pytest.mark.parametrize("node_type", default_registry.list_types())
def test_an_example_fits_its_schema(node_type: str):
    entry = describe_type(default_registry, node_type)
    assert entry["example"]
    jsonschema_rs.validator_for(entry["config"]).validate(entry["example"])


@pytest.mark.parametrize("timeout", [5, "5s", "PT1M", "{{ input.seconds }}", None])
def test_templates_may_stand_where_a_number_is_expected(timeout: object):
    HttpNode.Config.model_validate({"url": "{{ base }}/x", "timeout": timeout, "max_response_size": "{{ size }}"})


@pytest.mark.parametrize(
    "wrong", [{"timeout": "soon"}, {"raise_for_status": "yes"}, {"max_response_size": "10"}, {"x": 1}]
)
def test_what_is_neither_is_found_before_the_run(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HttpNode.Config.model_validate({"url": "https://example.com/", **wrong})


def test_a_class_without_models_accepts_anything():
    class Plain(BaseNode[dict[str, object], int]):
        """Counts to one.

        And no further.
        """

        node_type = "count_up"

        async def execute(self, config: dict[str, object], context: ExecutionContext) -> int:
            return 1

    registry = NodeRegistry()
    registry.register(Plain)
    entry = describe(registry)[0]
    assert (entry["display_name"], entry["description"]) == ("Count up", "Counts to one.")
    assert (entry["config"], entry["output"]) == ({"type": "object"}, {})


async def test_log_gives_what_it_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING"):
        output = await run_node(LogNode, {"message": "5 %s", "level": "warning"})
    assert LogNode.Output.model_validate(output).model_dump() == {"message": "5 %s", "level": "warning"}
    assert caplog.messages == ["5 %s"]


async def test_template_gives_what_was_rendered():
    output = await run_node(TemplateNode, {"template": {"a": [1, "x"]}})
    assert TemplateNode.Output.model_validate(output).model_dump() == {"a": [1, "x"]}


async def test_fail_fails():
    with pytest.raises(NonRetryableError, match="no price") as caught:
        await run_node(FailNode, {"message": "no price", "kind": "no_price"})
    assert caught.value.kind == "no_price"
    with pytest.raises(NodeError) as retried:
        await run_node(FailNode, {"retryable": True})
    assert not isinstance(retried.value, NonRetryableError)
