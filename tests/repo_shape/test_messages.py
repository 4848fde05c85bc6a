"""Messages are cut in one place, after secrets are masked in them: half of a secret is none that a mask would find."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo_shape import tree

#: Where a text is cut although it goes into a message, and why that is right.
ALLOWED = {
    ("pyflow/core/messages.py", "text[:most - 1]"): "the one place",
    ("pyflow/core/messages.py", "text[1 - most:]"): "the one place, where the end is kept",
    ("pyflow/upgrade/graph.py", "wanted[:120]"): "an id that is made, not a message",
    ("pyflow/compare/diff.py", "change.pointer[1:]"): "a pointer without its first sign",
    ("runs/worker/executor.py", "socket.gethostname()[:40]"): "the name of this machine",
    ("plumbing/rest/conditional.py", "digest[:32]"): "of a hash",
    (
        "pyflow/execution/run_log.py",
        "text[:MAX_MESSAGE]",
    ): "what a logger has masked already, with a note of how much more",
    ("pyflow/net/http_client.py", "declared[:20]"): "the digits of a number, which a server says without limit",
    ("pyflow/cli/live.py", "rest[len(verdict):]"): "the rest of a line of which the beginning has a colour",
    ("runs/admin/screens.py", "(beginning or '')[:MOST_JSON]"): "a stored value, in which secrets are masked",
    ("runs/admin/timeline.py", "bar.name[:_LONGEST - 1]"): "the name of a node in a drawing",
    ("workflows/graph_drawing.py", "text[:_LONGEST - 1]"): "the name of a node in a drawing",
    ("packages/pyflow-client/src/pyflow_client/answers.py", "response.text[:_SHOWN]"): "what a server says is masked",
    ("packages/pyflow-client/src/pyflow_client/answers.py", "str(entry)[:_SHOWN]"): "what a server says is masked",
    ("pyflow/cli/live.py", "running[:MAX_LINES]"): "lines, not text",
    ("runs/services/signals.py", "names[:MOST_NAMES]"): "whole names of signals, as the workflow has them",
}
#: What is called with a message, besides classes of errors.
TAKES_MESSAGES = re.compile(r"(Error|Refused|Problem|Finding|Warning)$|^(fail|err|_error|_warning|message_user|log)$")
#: In `%` and `format` strings.
PRECISION = re.compile(r"%(\(\w+\))?-?\d*\.\d+[sra]|\{[^{}]*:\.\d+s?\}")
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
#: Names that messages have on their way.
NAMES = re.compile(r"^(message|msg|detail|why|what|reason|said|wrong|note|hint)$")
CUTS = """
raise ValueError(f"not a name: {name[:40]!r}")
raise ValueError("not a name: " + name[:40])
message = str(error)[:1000]
why = f"{value!r:.60}"
logger.warning("no: %.80s", value)
raise Refused("no: {:.40}".format(value))
textwrap.shorten(value, 80)
fail(text[-80:])
def _short(text):
    return text[:80]
"""
DOES_NOT = """
rows = queryset[:100]
took = f"{seconds:.3f} s, {share:.0%}"
digest = sha256(name).hexdigest()[:32]
raise ValueError(f"not a name: {show(name)}")
logger.info("in %.3f s", took)
"""


def test_no_message_is_cut_before_it_is_masked():
    found = [(str(path), *cut) for path in tree.product_modules() for cut in cuts(tree.tree(path))]
    assert [f"{path}:{line}: {code}" for path, line, code in found if (path, code) not in ALLOWED] == []


@pytest.mark.parametrize("place", ALLOWED, ids=str)
def test_each_exception_is_still_there(place: tuple[str, str]):
    assert place[1] in ast.unparse(tree.tree(Path(place[0])))


def test_the_rule_knows_a_cut_when_it_sees_one():
    assert sorted(line for line, _ in cuts(ast.parse(CUTS))) == [2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert list(cuts(ast.parse(DOES_NOT))) == []


def cuts(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the code of whatever cuts a text that goes into a message."""
    within = {child: node for node in ast.walk(module) for child in ast.iter_child_nodes(node)}
    for node in within:
        if _is_slice(node) and _goes_into_a_message(node, within):
            yield node.lineno, ast.unparse(node)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("shorten"):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            if re.search(r"\.\d+s?['\"]$", ast.unparse(node.format_spec)):  # `.3f`, `.0%` and `.3g` are of numbers
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PRECISION.search(node.value):
            yield node.lineno, ast.unparse(node)


def _is_slice(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice)


def _goes_into_a_message(node: ast.AST, within: dict[ast.AST, ast.AST]) -> bool:
    while node in within:
        node = within[node]
        if isinstance(node, ast.Raise | ast.JoinedStr):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if TAKES_MESSAGES.search(name) or (name in LOGS and "logger" in ast.unparse(node.func)):
                return True
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and NAMES.match(target.id) for target in node.targets
        ):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return re.search(r"short|shown|^_?(cut|clip|trunc)", node.name) is not None
    return False
