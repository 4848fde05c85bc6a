"""`nodes.x` is a record of how a node ended: state, output and error."""

from typing import Any

import pytest

from pyflow.core.ports import MappingSecrets
from pyflow.core.result import ErrorInfo, NodeRun
from pyflow.core.states import NodeState
from pyflow.validation.checker import check_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

SHOWN = "{{ nodes['x'].state }} {{ nodes.x.output }} {{ nodes.x.error.code if nodes.x.error else '-' }}"


def shows(**fields: Any) -> dict[str, Any]:
    return node("b", "echo", "x", config={"value": SHOWN}, run_if="all_done", **fields)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"config": {"value": 7}}, "succeeded 7 -"),
        ({"when": "False"}, "skipped None -"),
        ({"type": "fail", "on_error": "skip"}, "failed None node_error"),
        ({"type": "waits", "timeout": 0.01, "on_error": "skip"}, "timed_out None node_timeout"),
        ({"for_each": [1, 2], "config": {"value": "{{ item }}"}}, "succeeded [1, 2] -"),
        ({"for_each": [1, 2], "type": "fail", "on_error": "skip"}, "failed None items_failed"),
    ],
)
async def test_a_node_shows_how_it_ended(fields: dict[str, Any], shown: str):
    result = await stage.run(workflow({"nodes": [node("x") | fields, shows()], "outputs": {"it": SHOWN}}))
    assert (result.nodes["b"].output, result.outputs) == (shown, {"it": shown})


async def test_outputs_see_a_node_that_was_skipped_last():
    definition = workflow({"nodes": [node("a", when="False"), node("x", "echo", "a")], "outputs": {"it": SHOWN}})
    assert (await stage.run(definition)).outputs == {"it": "skipped None -"}


async def test_expressions_and_finally_see_it_too():
    last = {"id": "end", "type": "echo", "when": "nodes.x.state == 'failed' and nodes['after'].state == 'skipped'"}
    definition = workflow(
        node("x", "fail", config={"message": "no luck"}),
        node("after", "echo", "x"),
        **{"finally": [last | {"config": {"value": "{{ nodes.x.error.message }}"}}]},
    )
    result = await stage.run(definition)
    assert (result.nodes["end"].state, result.nodes["end"].output) == ("succeeded", "no luck")


async def test_it_is_the_same_after_a_crash():
    for run, shown in (
        (NodeRun("x", NodeState.SKIPPED, reason="when"), "skipped None -"),
        (NodeRun("x", NodeState.SUCCEEDED, output=[1]), "succeeded [1] -"),
        (
            NodeRun("x", NodeState.FAILED, tolerated=True, error=ErrorInfo("http_404", "gone", "E", "x")),
            "failed None http_404",
        ),
    ):
        result = await stage.run(workflow(node("x", on_error="skip"), shows()), recorded={"x": run})
        assert result.nodes["b"].output == shown


async def test_secrets_are_masked_in_it():
    definition = workflow(node("x", config={"value": "{{ secrets.S }}"}), shows())
    result = await stage.run(definition, secrets=MappingSecrets({"S": "sesame-open"}))
    assert result.nodes["b"].output == "succeeded *** -"


def told(text: str, *, template: bool) -> list[tuple[str, str | None]]:
    where = {"config": {"value": f"{{{{ {text} }}}}"}} if template else {"when": text}
    found = check_workflow(workflow(node("a"), node("a-b"), node("c", "echo", "a", "a-b", **where)), stage.registry())
    assert all(problem.code == "unknown_name" for problem in found)
    assert all(problem.pointer == ("/nodes/2/config/value" if template else "/nodes/2/when") for problem in found)
    return [problem.message.partition(": write ")[2] for problem in found]


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("nodes['a-b'].body", ["`nodes['a-b'].output.body`"]),
        ("nodes.a['total'] == 1", ["`nodes.a.output.total`"]),
        ("nodes.get('a').total == 1", ["`nodes.a.output.total`"]),
        ("nodes.a.outptu == 1", ["`nodes.a.output`"]),
        ("nodes['a-b']", ["`nodes['a-b'].output`"]),
        ("nodes.a == 4 or nodes.get('a') == 4", ["`nodes.a.output`"]),
        ("'a' in nodes", ["`nodes.a.state == 'succeeded'`"]),
        ("'a-b' not in nodes", ["`nodes['a-b'].state == 'succeeded'`"]),
        ("nodes.a.output.total == 1 and nodes['a-b'].error.code == 'x' and nodes.a.state == 'skipped'", []),
        ("nodes.a.get('state') == 'skipped' or nodes.get('a')['state'] == 'failed'", []),
    ],
)
def test_what_read_the_output_is_told_what_to_write(text: str, write: list[str], template: bool):
    assert told(text, template=template) == write
