"""Typical mistakes of somebody who is new to the format, and the messages that they get: ours, with the remedy."""

from typing import Any

import pytest

from pyflow.core.errors import DefinitionError, DocumentError
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.plan import compile_plan
from pyflow.validation.loader import parse_workflow

HEAD = "version: 2\nname: demo\n"
NODE = HEAD + "nodes:\n  - id: a\n    type: log\n"
#: What no message may be made of: the words of Jinja2, PyYAML and Python, which name no remedy.
FOREIGN_WORDS = (
    "Jinja",
    "dict object",
    "has no attribute",
    "cannot start any token",
    "while scanning",
    "while parsing",
    "print statement",
    "No filter named",
    "invalid syntax",
    "TypeError",
    "not supported between instances",
)


def _when(source: str) -> str:
    return f"{HEAD}nodes:\n  - id: a\n    type: log\n    when: {source!r}\n    config: {{message: hi}}\n"


def _message(source: str) -> str:
    return f'{HEAD}nodes:\n  - {{id: a, type: log, config: {{message: "{source}"}}}}\n'


REFUSED = {
    "a tab begins a list": (HEAD + "nodes:\n\t- id: a\n", "a tab: YAML is indented with spaces only"),
    "a tab in the middle": (HEAD + "nodes:\n  - id: a\n\ttype: log\n", "a tab: YAML is indented with spaces only"),
    "a tab in a config": (NODE + "    config:\n\t    message: hi\n", "a tab: YAML is indented with spaces only"),
    "a bare template": (NODE + "    config:\n      message: {{ input.x }}\n", "begins with '{{' is read as a mapping"),
    "a bare template and text": (
        NODE + "    config:\n      message: {{ input.x }} you\n",
        "begins with '{{' is read as",
    ),
    "a bare template in a line": (
        HEAD + "nodes:\n  - {id: a, type: log, config: {message: {{ input.x }} }}\n",
        "begins with '{{' is read as a mapping: put quotes around the value",
    ),
    "a second colon": (NODE + "    config:\n      message: result: ok\n", "a second ':' in one line"),
    "an open quote": (
        NODE + '    config:\n      message: "hello\n',
        "the quote that is opened in line 7 is never closed",
    ),
    "a dedented key": (HEAD + "nodes:\n  - id: a\n   type: log\n", "the indentation does not fit the lines above"),
    "an at sign": (NODE + "    config:\n      message: @bob\n", "a value cannot begin with '@': put quotes"),
    "a percent sign": (NODE + "    config:\n      message: %d\n", "a value cannot begin with '%': put quotes"),
    "a bare cron": (HEAD + "triggers:\n  - cron: * * * * *\n", "begins with '*' is read as an alias: put quotes"),
    "a glob": (NODE + "    config:\n      message: *foo\n", "there is no such anchor: put quotes"),
    "a path of Windows": (NODE + '    config: {message: "C:\\dir"}\n', "a backslash begins an escape in double quotes"),
    "= in a condition": (_when("input.x = 1"), "`=` does not compare: write `==`"),
    "&& in a condition": (_when("input.x == 1 && input.y"), "`&&` is written `and`"),
    "|| in a condition": (_when("input.x == 1 || input.y"), "`||` is written `or`"),
    "=== in a condition": (_when("input.x === 1"), "`===` is written `==`"),
    "! in a condition": (_when("!input.x"), "`!` is written `not`"),
    "? in a condition": (_when("input.x ? 1 : 2"), "is written `a if b else c`"),
    "${{ }} in a condition": (_when("${{ input.x }}"), "without `{{ }}`"),
    "curly quotes": (_when("input.x == “a”"), "quotes are straight"),
    "an open quote in a condition": (_when("input.x == 'a"), "a quote is opened and never closed"),
    "a misspelt filter": (_message("{{ input.x | uper }}"), "there is no filter 'uper' (did you mean 'upper'?)"),
    "a misspelt test": (_message("{{ input.x is definde }}"), "there is no test 'definde' (did you mean 'defined'?)"),
    "a foreign tag": (_message("{% foreach x in y %}"), "there is no tag {% foreach %}"),
    "a foreign branch": (
        _message("{% if input.x %}a{% elseif 1 %}b{% endif %}"),
        "{% elseif %} stands where {% if %} needs {% elif %} or {% else %} or {% endif %}",
    ),
    "an open block": (_message("{% if input.x %}yes"), "{% if %} is never closed"),
    "an open template": (_message("{{ input.x "), "'{{' is never closed: '}}' is missing"),
    "a single brace": (_message("{{ input.x }"), "a single '}' where '}}' closes the template"),
    "an empty template": (_message("{{ }}"), "got '}}'"),
    "? in a template": (_message("{{ input.x ? 1 : 2 }}"), "'?' has no meaning here: write `a if b else c`"),
    "&& in a template": (_message("{{ input.x && 1 }}"), "'&' has no meaning here: write `and`"),
    "tasks": (HEAD + "tasks: []\n", "unknown key 'tasks' (did you mean 'nodes'?)"),
    "on": (NODE.replace("nodes", "on: push\nnodes"), "unknown key 'on' (did you mean 'triggers'?)"),
    "needs": (NODE + "    needs: [b]\n", "unknown key 'needs' (did you mean 'depends_on'?)"),
    "if": (NODE + "    if: input.x\n", "unknown key 'if' (did you mean 'when'?)"),
    "with": (NODE + "    with: {message: hi}\n", "unknown key 'with' (did you mean 'config'?)"),
    "uses": (HEAD + "nodes:\n  - {id: a, uses: log}\n", "unknown key 'uses' (did you mean 'type'?)"),
    "withItems": (NODE + "    withItems: [1]\n", "unknown key 'withItems' (did you mean 'for_each'?)"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_is_refused_before_it_runs(mistake: str):
    text, expected = REFUSED[mistake]
    with pytest.raises((DocumentError, DefinitionError)) as caught:
        compile_plan(parse_workflow(text), WorkflowEngine().registry)
    message = str(caught.value)
    assert expected in message
    assert message.startswith("line ")
    assert not [words for words in FOREIGN_WORDS if words in message]


USER = {"user": {"name": "Ada"}, "rows": [1], "one": 1, "none": None, "text": "abc"}
FAILS = {
    "a misspelt field": ("{{ input.user.nmae }}", "the mapping has no 'nmae' (did you mean 'name'?)"),
    "a misspelt field in a text": ("x {{ input.user.nmae }}", "the mapping has no 'nmae' (did you mean 'name'?)"),
    "a misspelt field and a filter": ("{{ input.user.nmae | upper }}", "no 'nmae' (did you mean 'name'?)"),
    "a field of a missing one": ("x {{ input.user.nmae.first }}", "no 'nmae' (did you mean 'name'?)"),
    "an input that is not declared": ("x {{ input.usr }}", "no 'usr' (did you mean 'user'?)"),
    "a field of a list": ("x {{ input.rows.name }}", "the list has no 'name'"),
    "an item that is not there": ("x {{ input.rows[3] }}", "the list has 1 items, and no [3]"),
    "a field of null": ("x {{ input.none.name }}", "the value is null and has no 'name'"),
    "text and a number": ("{{ 'n: ' + input.one }}", "'+' cannot add text and a number"),
    "a number and text": ("{{ input.one + 'a' }}", "'+' cannot take a number and text"),
    "a call": ("{{ input.one() }}", "a number cannot be called: leave out the parentheses"),
    "a loop over a number": ("{% for i in input.one %}{{ i }}{% endfor %}", "a number has no items to go through"),
}


async def _error_of(node: dict[str, Any]) -> str:
    fields = "\n    ".join(f"{key}: {value!r}" for key, value in node.items())
    result = await WorkflowEngine().execute(parse_workflow(f"{HEAD}nodes:\n  - id: a\n    {fields}\n"), input=USER)
    assert result.error is not None
    return result.error.message


@pytest.mark.parametrize("mistake", FAILS)
async def test_what_fails_when_it_is_rendered_names_the_template(mistake: str):
    template, expected = FAILS[mistake]
    # YAML doubles a quote in single quotes, `repr` turns to double ones.
    message = await _error_of({"type": "template", "config": {"template": template}})
    assert expected in message
    assert template in message
    assert not [words for words in FOREIGN_WORDS if words in message]
    assert "Ada" not in message


CONDITIONS = {
    "a comparison of kinds": ("input.text > 3", "'>' cannot compare text and a number: convert one of them first"),
    "a misspelt field": ("input.user.nmae == 3", "the mapping has no 'nmae' (did you mean 'name'?)"),
}


@pytest.mark.parametrize("mistake", CONDITIONS)
async def test_a_condition_that_fails(mistake: str):
    source, expected = CONDITIONS[mistake]
    assert expected in await _error_of({"type": "log", "when": source, "config": {"message": "hi"}})
