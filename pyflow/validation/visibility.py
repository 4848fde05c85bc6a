"""Names that the templates and expressions of each place of a workflow may use, and the check that they do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.problems import suggest
from pyflow.documents.graph import Graph
from pyflow.documents.models import WorkflowDef
from pyflow.expressions.draws import DRAWS
from pyflow.expressions.evaluation import UnsafeExpressionError
from pyflow.expressions.references import (
    Reference,
    fields_in_expression,
    fields_in_template,
    nests_sets,
    references_in_expression,
    references_in_template,
)
from pyflow.expressions.scope import NODE_FIELDS, RUN_FIELDS
from pyflow.expressions.template import TemplateError, template_strings

_CONSTANTS = frozenset({"true", "false", "null", "none", "True", "False", "None"})
#: Names of version 2's scope that every place has.
EVERYWHERE = frozenset({"input", "trigger", "run", "secrets", "vars", "nodes", "now"})
#: Names that a node with ``for_each`` has besides.
ITEM_NAMES = frozenset({"item", "item_index", "item_key"})
#: Names that ``until.when`` has besides.
ROUND_NAMES = frozenset({"output", "round"})
#: Names that a node id may not take.
RESERVED_NAMES = EVERYWHERE | ITEM_NAMES | _CONSTANTS | {"output"}
_ALWAYS = EVERYWHERE | _CONSTANTS | {DRAWS}
#: Names whose members are known beforehand.
_MAPPINGS = frozenset({"item", "nodes", "run", "vars"})
_TEMPLATE_GLOBALS = frozenset({"range", "dict"})
#: Why a name that exists is not there.
_ELSEWHERE = dict.fromkeys(ITEM_NAMES, "only a node with `for_each` has that") | {
    "output": "only a compensation and `until.when` have that",
    "round": "only `until.when` has that",
}


class Names(Protocol):
    """A set of names that may be computed."""

    def __contains__(self, name: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """Names that one place may use: ``visible`` node ids, names such as ``item`` (``extra``), and ``vars``."""

    who: str
    visible: Names
    #: All node ids, which are not unknown even where they are not visible.
    everything: Names
    vars: Collection[str]
    extra: frozenset[str] = frozenset()
    #: Why an id that exists is not visible.
    why_not: str = "is not upstream of it; add it to `depends_on`"
    #: The members that ``item`` can have, if they are known.
    members: frozenset[str] | None = None

    def with_names(self, names: frozenset[str]) -> Sight:
        """The same place with more names."""
        return replace(self, extra=self.extra | names)

    def check_expression(self, source: str, path: Path) -> Iterator[Problem]:
        """Return the problems of an expression at ``path``."""
        try:
            braces, references = nests_sets(source), references_in_expression(source, _MAPPINGS)
        except UnsafeExpressionError as error:
            braces, references = source.lstrip().startswith(("{{", "{%")), frozenset()
            if not braces:
                yield Problem(error.code, str(error), make_pointer(path))
        if braces:
            message = f"`{path[-1]}` is an expression, not a template: write it without the braces"
            yield Problem("template_in_expression", message, make_pointer(path))
            return
        yield from self._check(references, path)
        if references:
            yield from self._check_fields(fields_in_expression(source, "nodes"), path)

    def check_templates(self, value: Any, path: Path) -> Iterator[Problem]:
        """Return the problems of the templates in a nested value at ``path``."""
        for at, text in template_strings(value, path):
            try:
                references = references_in_template(text, _MAPPINGS)
            except TemplateError as error:
                yield Problem(error.code, str(error), make_pointer(at))
                continue
            yield from self._check((each for each in references if each.name not in _TEMPLATE_GLOBALS), at)
            if any(each.name == "nodes" for each in references):
                yield from self._check_fields(fields_in_template(text, "nodes"), at)

    def _check_fields(self, found: Iterable[tuple[str, str | None]], path: Path) -> Iterator[Problem]:
        """Return the problems of what is looked up in the records that `nodes` has."""
        for member, field in sorted(found, key=lambda each: (each[0], each[1] or "")):
            if member not in self.visible or field in NODE_FIELDS:
                continue
            node = f"nodes.{member}" if member.isidentifier() else f"nodes['{member}']"
            if field is None:
                message = f"{self.who} asks whether {member!r} is in `nodes`, which has all nodes, also failed ones"
                write = f"{node}.state == 'succeeded'"
            elif not field:
                message = f"{self.who} uses `{node}`, which is a record of `state`, `output` and `error`"
                write = f"{node}.output"
            else:
                message = f"{self.who} uses {field!r} of `{node}`, which has `state`, `output` and `error`"
                near = suggest(field, NODE_FIELDS)
                write = f"{node}.{near}" if near else f"{node}.output.{field}"
            yield Problem("unknown_name", f"{message}: write `{write}`", make_pointer(path))

    def _check(self, references: Iterable[Reference], path: Path) -> Iterator[Problem]:
        for name, member in sorted(references, key=lambda each: (each.name, each.member or "")):
            if name not in _ALWAYS and name not in self.extra and name not in self.visible:
                yield self._missing_name(name, path)
            elif member is None:
                continue
            elif name == "nodes":
                if member not in self.visible:
                    yield self._missing_node(member, path, self.visible)
            elif name == "run" and member not in RUN_FIELDS:
                yield self._missing_member("run", member, path, RUN_FIELDS)
            elif name == "item" and self.members is not None and member not in self.members:
                yield self._missing_member("item", member, path, self.members)
            elif name == "vars" and member not in self.vars:
                yield self._missing_member("vars", member, path, self.vars)

    def _missing_name(self, name: str, path: Path) -> Problem:
        if name in ITEM_NAMES and path[-1] == "when" and path[-2] != "until":
            message = f"{self.who} uses {name!r}; `when` is asked once for the node, before there are items"
            return Problem("unknown_name", f"{message}: say it in `item_when`", make_pointer(path))
        if name in _ELSEWHERE:
            return Problem("unknown_name", f"{self.who} uses {name!r}; {_ELSEWHERE[name]}", make_pointer(path))
        return self._missing_node(name, path, {*self.visible, *self.extra, *EVERYWHERE})

    def _missing_node(self, name: str, path: Path, known: Iterable[str]) -> Problem:
        if name in self.everything:
            return Problem("not_upstream", f"{self.who} uses {name!r}, which {self.why_not}", make_pointer(path))
        message = f"{self.who} uses {name!r}, which does not exist"
        return Problem("unknown_name", message, make_pointer(path), suggestion=suggest(name, known))

    def _missing_member(self, name: str, member: str, path: Path, known: Iterable[str]) -> Problem:
        message = f"{self.who} uses {member!r} of `{name}`, which does not exist"
        return Problem("unknown_name", message, make_pointer(path), suggestion=suggest(member, known))


#: Names that `retry.when` sees, and the members of `error`.
_RETRY_NAMES = frozenset({"error", "attempt"})
_ERROR_FIELDS = frozenset({"code", "message", "type", "node_id", "kind", "status", "body"})


def check_retry_condition(source: str, path: Path) -> Iterator[Problem]:
    """Return the problems of a `retry.when`, which sees the error of the attempt and its number."""
    if source.lstrip().startswith(("{{", "{%")):
        message = "`when` is an expression, not a template: write it without the braces"
        yield Problem("template_in_expression", message, make_pointer(path))
        return
    try:
        found = references_in_expression(source, frozenset({"error"}))
    except UnsafeExpressionError as error:
        yield Problem(error.code, str(error), make_pointer(path))
        return
    for name, member in sorted(found, key=lambda each: (each.name, each.member or "")):
        if name not in _RETRY_NAMES and name not in _CONSTANTS:
            message = f"`retry.when` uses {name!r}; it sees `error` and `attempt` alone"
            yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(name, _RETRY_NAMES))
        elif name == "error" and member is not None and member not in _ERROR_FIELDS:
            message = f"`retry.when` uses {member!r} of `error`, which does not exist"
            yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(member, _ERROR_FIELDS))


class Upstream:
    """The ids whose results a node may use: a set as bits, because 10,000 nodes in a chain have 50 million of them."""

    __slots__ = ("_bits", "_earlier", "_index")

    def __init__(self, bits: int, index: dict[str, int], earlier: frozenset[str]) -> None:
        self._bits = bits
        self._index = index
        self._earlier = earlier

    def __contains__(self, name: object) -> bool:
        at = self._index.get(str(name))
        return name in self._earlier or (at is not None and bool(self._bits >> at & 1))

    def __iter__(self) -> Iterator[str]:
        yield from self._earlier
        yield from (name for name, at in self._index.items() if self._bits >> at & 1)


def upstream_ids(workflow: WorkflowDef) -> dict[str, Upstream]:
    """For each node the ids that it may use: those upstream of it, and all of the sections before its own."""
    visible: dict[str, Upstream] = {}
    earlier: frozenset[str] = frozenset()
    for nodes in (workflow.nodes, workflow.on_failure, workflow.finally_):
        index = {node.id: i for i, node in enumerate(nodes)}
        graph = Graph([[index[d] for d in node.depends_on if d in index] for node in nodes])
        reach = [0] * graph.size
        for i in graph.order():
            for dependency in graph.dependencies[i]:
                reach[i] |= reach[dependency] | (1 << dependency)
        for i, node in enumerate(nodes):
            visible[node.id] = Upstream(reach[i], index, earlier)
        earlier |= index.keys()
    return visible
