"""What nodes that evaluate or show something see: of an item, and at the end of a run."""

from pyflow.core.states import RunState
from tests.unit.nodes.web import run

LINES = [{"sku": "a", "count": 5}, {"sku": "b", "count": 50}]


async def test_a_condition_sees_its_item():
    config = {"if": "item['count'] > 10 and item_index > 0 and input['limit'] == 10"}
    definition = {"id": "large", "type": "condition", "for_each": LINES, "config": config}
    result = await run(definition, input={"limit": 10}, inputs={"limit": "integer"})
    assert result.nodes["large"].output == [False, True]


async def test_a_condition_sees_how_the_run_ended():
    last = {
        "id": "well",
        "type": "condition",
        "config": {"if": "run['state'] == 'failed' and run['error'] is not None"},
    }
    broken = {"id": "broken", "type": "fail", "config": {"message": "no", "kind": "x"}}
    result = await run(broken, **{"finally": [last]})
    assert result.state is RunState.FAILED
    assert result.nodes["well"].output is True


async def test_template_log_and_fail_see_their_item():
    result = await run(
        {"id": "t", "type": "template", "for_each": LINES, "config": {"template": {"line": "{{ item.sku }}"}}},
        {"id": "l", "type": "log", "for_each": LINES, "config": {"message": "{{ item.sku }} {{ item_index }}"}},
        {"id": "f", "type": "fail", "for_each": LINES, "config": {"message": "{{ item.sku }}"}, "tolerate_failures": 2},
    )
    assert result.nodes["t"].output == [{"line": "a"}, {"line": "b"}]
    assert [output["message"] for output in result.nodes["l"].output] == ["a 0", "b 1"]
    items = result.nodes["f"].items
    assert items is not None
    assert [item.error.message for item in items.values() if item.error is not None] == ["a", "b"]
