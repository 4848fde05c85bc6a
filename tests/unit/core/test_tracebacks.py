"""A bug in a node's code leaves its way with the node: through the node's code only, masked, and bounded."""

from typing import Any

import pytest
from pydantic import BaseModel

from pyflow.core.errors import DocumentError, NonRetryableError
from pyflow.core.events import EventType
from pyflow.core.messages import cut, show
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import MappingSecrets, MemorySink
from pyflow.core.result import MAX_TRACEBACK, ErrorInfo, RunResult
from pyflow.core.tracebacks import MAX_FRAMES, traceback_of
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from pyflow_sdk.node import BaseNodeV2, NodeContext

SECRET = "kdf83-jd02k-d93kd-0wkx7"


class Buggy(BaseNodeV2["Buggy.Config"]):
    """Fails in the way that its config says."""

    node_type = "buggy"

    class Config(BaseModel):
        """The way."""

        way: str
        value: Any = None

    def run(self, config: Config, ctx: NodeContext) -> object:
        return getattr(self, config.way)(config.value)

    def key(self, value: Any) -> object:
        return {}["missing"]

    def shows(self, value: str) -> object:
        hidden = value
        raise LookupError(f"no such thing: {hidden[3:]}")

    def on_purpose(self, value: Any) -> object:
        raise NonRetryableError("there is none left")

    def because(self, value: str) -> object:
        try:
            return self.shows(value)
        except LookupError as error:
            raise RuntimeError("it failed") from error

    def endless(self, value: Any) -> object:
        return self.endless(value)

    def in_pyflow(self, value: Any) -> object:
        """A mistake that PyFlow reports, and one that an error of PyFlow's leads to."""
        try:
            return parse_workflow("nodes: [")
        except DocumentError as error:
            raise RuntimeError("no workflow") from error

    def called(self, value: Any) -> object:
        return show(Unshowable())  # type: ignore[arg-type]

    def at(self, value: Any) -> object:
        raise ValueError(f"what is {object()}")

    def model(self, value: Any) -> object:
        return self.Config.model_validate({"way": [value]})


class Unshowable:
    """Fails where PyFlow shows it."""

    def __repr__(self) -> str:
        raise KeyError("no repr")


REGISTRY = NodeRegistry()
REGISTRY.register(Buggy)


async def run(way: str, more: str = "") -> tuple[RunResult, MemorySink]:
    text = f"""
version: 2
name: buggy
nodes:
  - {{id: a, type: buggy, config: {{way: {way}, value: "{{{{ secrets.KEY }}}}"}}{more}}}
"""
    sink = MemorySink()
    engine = WorkflowEngine(REGISTRY, sink=sink, secrets=MappingSecrets({"KEY": SECRET}))
    return await engine.execute(parse_workflow(text)), sink


async def error_of(way: str, more: str = "") -> ErrorInfo:
    result, _ = await run(way, more)
    error = result.nodes["a"].error
    assert error is not None
    return error


@pytest.mark.parametrize("more", ["", ", isolation: process"])
async def test_a_bug_shows_its_type_and_the_way_through_the_nodes_code(more: str):
    error = await error_of("key", more)
    assert error.headline == "KeyError: 'missing'"
    assert error.traceback is not None
    lines = error.traceback.splitlines()
    assert lines[1::2] == [
        "    return getattr(self, config.way)(config.value)",
        '    return {}["missing"]',
    ]
    assert lines[2].endswith("in Buggy.key")
    assert lines[-1] == "KeyError: 'missing'"
    assert not [line for line in lines if line.lstrip().startswith('File "/')]


async def test_it_is_in_the_record_of_the_node_and_not_in_that_of_the_run():
    result, sink = await run("key")
    record = result.as_dict()
    assert record["nodes"][0]["error"]["traceback"].endswith("KeyError: 'missing'")
    assert record["error"] == {"code": "node_error", "message": "'missing'", "type": "KeyError", "node_id": "a"}
    failed = next(event for event in sink.events if event.type is EventType.NODE_FAILED)
    assert failed.data["error"] == record["nodes"][0]["error"]


@pytest.mark.parametrize("more", ["", ", isolation: process"])
@pytest.mark.parametrize("way", ["shows", "because"])
async def test_a_secret_is_masked_in_it_before_it_is_cut(way: str, more: str):
    error = await error_of(way, more)
    assert error.traceback is not None
    assert "LookupError: no such thing: ***" in error.traceback
    for start in range(len(SECRET) - 7):
        assert SECRET[start : start + 8] not in error.traceback
    assert ("was the cause of this one" in error.traceback) == (way == "because")


@pytest.mark.parametrize("more", ["", ", isolation: process"])
async def test_errors_that_led_to_one_another_show_no_frames_of_pyflow(more: str):
    error = await error_of("in_pyflow", more)
    assert error.traceback is not None
    lines = error.traceback.splitlines()
    functions = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert functions == ["Buggy.in_pyflow", "Buggy.run", "Buggy.in_pyflow"]
    assert "The above error was the cause of this one:" in lines
    assert lines[-1] == "RuntimeError: no workflow"


async def test_what_a_nodes_code_calls_of_pyflow_is_left_out():
    error = await error_of("called")
    assert error.traceback is None or "in show" not in error.traceback


async def test_an_error_that_a_node_raises_on_purpose_has_none():
    error = await error_of("on_purpose")
    assert (error.headline, error.traceback) == ("non_retryable_error: there is none left", None)


async def test_it_has_the_last_frames_of_many_and_a_bounded_length():
    error = await error_of("endless")
    assert error.traceback is not None
    assert error.traceback.count("  File ") <= MAX_FRAMES
    assert len(error.traceback) <= MAX_TRACEBACK
    assert cut("x" * 50 + "end", 10, keep="end") == "…xxxxxxend"


async def test_no_message_shows_where_an_object_lies_in_memory():
    assert (await error_of("at")).message == "what is <object object>"


async def test_what_does_not_fit_a_model_in_a_nodes_code_is_reported_without_the_value():
    error = await error_of("model")
    assert error.message == "Config does not fit: `way` must be text"
    assert error.type == "ValidationError"


def test_an_error_that_was_never_raised_has_none():
    assert traceback_of(KeyError("x")) is None
