"""Converts v1's rules about when a node starts to version 2."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pyflow.core.document import Path
from pyflow.documents.graph import Graph
from pyflow.expressions.references import nests_sets
from pyflow.expressions.template import is_template, template_strings
from pyflow.upgrade.values import cannot_fail, expression_names, is_delicate, needed_in_expression, needed_names

#: ``kept``: written differently so that it means the same. ``changed``: it does not. ``dropped``: v1 ignored it.
Kind = Literal["kept", "changed", "dropped"]
#: Takes a code, a kind, a message and the path in the source.
Noting = Callable[[str, Kind, str, Path], None]

#: Names of version 2's scope that surely have a value.
SCOPE = frozenset({"input", "trigger", "run", "nodes", "vars"})
_NEEDS_NO_PARENTHESES = (ast.Name, ast.Compare, ast.Call, ast.Subscript, ast.Attribute, ast.UnaryOp, ast.Constant)


@dataclass
class Draft:
    """A node on its way to version 2. Ids, names and templates are version 2's already. ``origin``: its v1 index."""

    id: str
    type: str
    config: dict[str, Any]
    depends_on: list[str]
    origin: int
    when: str | None = None
    tolerant: bool = False
    run_if: str | None = None
    #: Put in by the conversion.
    helper: bool = False


@dataclass
class _Place:
    """Facts about a node of the graph. The sets of nodes are bits by index."""

    upstream: int = 0
    #: It may end without a result: because it fails and that is tolerated, or because it is skipped.
    may_fail: bool = False
    may_skip: bool = False
    #: What has a result whenever this node has.
    implies: int = 0
    before: list[Draft] = field(default_factory=list)
    gate: Draft | None = None

    @property
    def may_lack(self) -> bool:
        return self.may_fail or self.may_skip


def arrange(drafts: list[Draft], note: Noting) -> list[Draft]:
    """Set ``run_if`` and ``when`` of the drafts; gives them with the helpers that takes, in order."""
    return list(_Arrangement(drafts, note).result())


class _Arrangement:
    def __init__(self, drafts: list[Draft], note: Noting) -> None:
        self._drafts = drafts
        self._note = note
        self._index = {draft.id: i for i, draft in enumerate(drafts)}
        self._taken = set(self._index)
        self._graph = Graph([[self._index[d] for d in draft.depends_on] for draft in drafts])
        self._places = [_Place() for _ in drafts]
        for i in self._graph.order():
            for dependency in self._graph.dependencies[i]:
                self._places[i].upstream |= self._places[dependency].upstream | 1 << dependency

    def result(self) -> Iterator[Draft]:
        for i in self._graph.order():
            self._arrange(i)
        for place, draft in zip(self._places, self._drafts, strict=True):
            yield from place.before
            yield draft
            if place.gate is not None:
                yield place.gate

    def _arrange(self, i: int) -> None:
        draft, place = self._drafts[i], self._places[i]
        self._check_when(draft)
        needed = self._needed(draft)
        ensured, may_not_start = self._choose_run_if(i, needed)
        sure = 0
        for j in ensured:
            sure |= self._places[j].implies
        for j in _bits(place.upstream):
            if not self._places[j].may_lack:
                sure |= 1 << j
        guards = list(_bits(needed & place.upstream & ~sure))
        for j in guards:
            sure |= self._places[j].implies
        place.may_fail = draft.tolerant
        place.may_skip = may_not_start or bool(guards) or draft.when is not None
        # A `condition` without a name that it needs fails, and then has no result.
        place.implies = 1 << i | sure | (self._condition_needs(draft) & place.upstream)
        names = {self._drafts[j].id for j in _bits(sure)}
        self._note_missing(draft, needed, guards, may_not_start=may_not_start)
        self._note_templates(i, names)
        self._set_when(i, [self._drafts[j].id for j in guards], names)

    def _needed(self, draft: Draft) -> int:
        names: set[str] = set()
        for _, text in template_strings(draft.config):
            names |= needed_names(text)
        if draft.when is not None:
            names |= needed_in_expression(draft.when)
        return sum(1 << self._index[name] for name in names if name in self._index)

    def _condition_needs(self, draft: Draft) -> int:
        expression = draft.config.get("if") if draft.type == "condition" else None
        if not isinstance(expression, str) or is_template(expression):
            return 0
        return sum(1 << self._index[name] for name in needed_in_expression(expression) if name in self._index)

    # --- dependencies

    def _choose_run_if(self, i: int, needed: int) -> tuple[list[int], bool]:
        """Set ``run_if``. Gives the dependencies that surely have a result then, and whether the node may not start."""
        draft = self._drafts[i]
        dependencies = list(self._graph.dependencies[i])
        # Without the result of a dependency that its templates need, a v1 node failed before it did anything, and
        # nobody minded: it may as well not start.
        loose = [j for j in dependencies if self._places[j].may_lack and not needed >> j & 1]
        if any(self._places[j].may_fail for j in loose):
            if not self._can_be_stopped(i):
                draft.run_if = "all_done"
                self._note_run_if(draft, "all_done")
                return [j for j in dependencies if not self._places[j].may_lack], False
            gated = {j for j in loose if self._places[j].may_fail}
            for j in gated:
                self._wait_for_the_end(draft, j)
            dependencies = [j for j in dependencies if j not in gated]
            loose = [j for j in loose if j not in gated]
        risky = [j for j in dependencies if self._places[j].may_lack]
        if not loose:
            return dependencies, bool(risky)
        draft.run_if = "none_failed"
        self._note_run_if(draft, "none_failed")
        return [j for j in dependencies if not self._places[j].may_skip], any(self._places[j].may_fail for j in risky)

    def _can_be_stopped(self, i: int) -> bool:
        """Return whether a failure may stop the run before this node starts. ``all_done`` would start even then."""
        return any(
            not draft.tolerant and j != i and not self._places[j].upstream >> i & 1
            for j, draft in enumerate(self._drafts)
        )

    def _wait_for_the_end(self, draft: Draft, j: int) -> None:
        """Depend on the end of a node, however it ended, in place of the node."""
        awaited, place = self._drafts[j], self._places[j]
        if place.gate is None:
            place.gate = Draft(
                self._free_id(f"{awaited.id}_done"),
                "template",
                {"template": True},
                [awaited.id],
                awaited.origin,
                run_if="all_done",
                helper=True,
            )
        gate = place.gate.id
        draft.depends_on = [gate if name == awaited.id else name for name in draft.depends_on]
        self._note(
            "waits_for_end",
            "kept",
            f"{draft.id!r} starts however {awaited.id!r} ended, but not once the run is stopped: it depends on the new"
            f" node {gate!r}, which waits for {awaited.id!r}",
            ("nodes", draft.origin, "depends_on"),
        )

    def _note_run_if(self, draft: Draft, run_if: str) -> None:
        what = {
            "all_done": "however its dependencies ended",
            "none_failed": "although a dependency was skipped",
        }[run_if]
        message = f"{draft.id!r} starts {what}, as in v1: `run_if: {run_if}`"
        self._note("run_if", "kept", message, ("nodes", draft.origin))

    # --- when

    def _check_when(self, draft: Draft) -> None:
        """A `when` that never lets the node run in v1 says so in version 2."""
        if draft.when is None:
            return
        names = expression_names(draft.when)
        at: Path = ("nodes", draft.origin, "when")
        if names is None or (draft.when.startswith("{{") and nests_sets(draft.when)):
            self._note("when_never", "kept", f"v1 never ran {draft.id!r}: its `when` is no expression", at)
            draft.when = "False"
            return
        unknown = needed_in_expression(draft.when) - self._index.keys() - SCOPE
        if unknown:
            listed = ", ".join(map(repr, sorted(unknown)))
            self._note("when_never", "kept", f"v1 never ran {draft.id!r}: its `when` uses {listed}, unknown to v1", at)
            draft.when = "False"

    def _set_when(self, i: int, guards: list[str], sure: set[str]) -> None:
        draft = self._drafts[i]
        guard = " and ".join(f"nodes['{name}'].state == 'succeeded'" for name in guards)
        if draft.when is None:
            draft.when = guard or None
            return
        own = draft.when
        wanted = f"{guard} and {_parenthesized(own)}" if guard else own
        if cannot_fail(own, sure | SCOPE):
            draft.when = wanted
        elif draft.tolerant:
            draft.when = wanted
            self._note(
                "when_fails",
                "kept",
                f"a `when` that cannot be evaluated skipped {draft.id!r} in v1; it fails it now, which is tolerated",
                ("nodes", draft.origin, "when"),
            )
        elif is_template(own):
            draft.when = wanted
            self._note(
                "when_fails",
                "changed",
                f"a `when` that cannot be evaluated skipped {draft.id!r} in v1; it fails it now",
                ("nodes", draft.origin, "when"),
            )
        else:
            self._evaluate_apart(i, guard or None)

    def _evaluate_apart(self, i: int, guard: str | None) -> None:
        """Have a node of its own evaluate the `when`: its failure is tolerated and skips the node that asks."""
        draft = self._drafts[i]
        due = Draft(
            self._free_id(f"{draft.id}_due"),
            "condition",
            {"if": draft.when},
            draft.depends_on,
            draft.origin,
            when=guard,
            tolerant=True,
            run_if=draft.run_if,
            helper=True,
        )
        self._places[i].before.append(due)
        draft.depends_on, draft.run_if, draft.when = [due.id], None, due.id
        self._note(
            "when_fails",
            "kept",
            f"a `when` that cannot be evaluated skips {draft.id!r}, as in v1: the new node {due.id!r} evaluates it, and"
            " its failure is tolerated",
            ("nodes", draft.origin, "when"),
        )

    # --- notes

    def _note_missing(self, draft: Draft, needed: int, guards: Iterable[int], *, may_not_start: bool) -> None:
        lacking = {j for j in self._graph.dependencies[self._index[draft.id]] if self._places[j].may_lack}
        names = [self._drafts[j].id for j in _bits(needed) if j in guards or (may_not_start and j in lacking)]
        if names:
            listed = ", ".join(map(repr, names))
            message = f"without a result of {listed}, {draft.id!r} is skipped; v1 noted an error and went on likewise"
            self._note("needs_result", "kept", message, ("nodes", draft.origin))

    def _note_templates(self, i: int, sure: set[str]) -> None:
        draft = self._drafts[i]
        others = len(self._drafts) - 1 - self._places[i].upstream.bit_count()
        if draft.tolerant or not others:
            return  # its failure stops nothing
        delicate = [path for path, text in template_strings(draft.config) if is_delicate(text, sure)]
        if delicate:
            self._note(
                "template_errors",
                "changed",
                f"a template of {draft.id!r} that cannot be rendered (a field is missing) stops the run now; v1 noted"
                " the error and went on. `| default(…)` or `on_error: skip` tolerates it",
                ("nodes", draft.origin, "config", *delicate[0]),
            )

    def _free_id(self, wanted: str) -> str:
        name, number = wanted[:120], 2
        while name in self._taken:
            name, number = f"{wanted[:120]}_{number}", number + 1
        self._taken.add(name)
        return name


def _bits(value: int) -> Iterator[int]:
    """The indices of the bits that are set, ascending."""
    while value:
        low = value & -value
        yield low.bit_length() - 1
        value ^= low


def _parenthesized(expression: str) -> str:
    body = ast.parse(expression.strip(), mode="eval").body
    plain = isinstance(body, _NEEDS_NO_PARENTHESES) or (isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And))
    return expression if plain else f"({expression})"
