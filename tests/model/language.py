"""Random workflows over the whole language, and what interrupts them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import strategies as st

#: How often an attempt fails: so many times, or these.
ALWAYS, HANGS = -1, -2
ROOT_RUN_IFS = ("all_succeeded", "none_failed", "all_done")
RUN_IFS = (*ROOT_RUN_IFS, "any_failed", "any_succeeded")
SECTIONS = ("nodes", "on_failure", "finally")
SECRET = "sesame-open-1"
#: Larger than what the platform keeps in its rows, in these tests.
PADDING = "#" * 3000
SIGNAL = "here it is"
#: What a run without interruption is not slowed down by: each wait is milliseconds.
RETRY = {"initial_interval": "2ms", "backoff_coefficient": 1}

#: Child runs: `x`, then `y`, which fails if it is told to; `z` at the end. The second one waits in between.
KIDS: dict[str, dict[str, Any]] = {
    name: {
        "version": 2,
        "name": name,
        "inputs": {"say": "string", "fails": "integer"},
        "outputs": {"it": "{{ y }}"},
        "nodes": [
            {"id": "x", "type": "act", "config": {"say": "{{ input.say }}.x"}},
            *between,
            {
                "id": "y",
                "type": "act",
                "depends_on": ["x"] + [node["id"] for node in between],
                "config": {"say": "{{ input.say }}.y", "fails": "{{ input.fails }}"},
            },
        ],
        "finally": [{"id": "z", "type": "act", "config": {"say": "{{ input.say }}.z"}}],
    }
    for name, between in (
        ("kid", []),
        ("sleepy", [{"id": "w", "type": "wait", "depends_on": ["x"], "config": {"duration": "3ms"}}]),
    )
}


@dataclass(frozen=True)
class Node:
    """A node of a case. ``fails``: how often its attempts do; of a fan-out, ``items`` has that of each item."""

    id: str
    kind: str = "act"
    depends_on: tuple[str, ...] = ()
    run_if: str = "all_succeeded"
    on_error: str = "stop"
    when: str | None = None
    fails: int = 0
    items: tuple[int, ...] = ()
    max_attempts: int = 1
    parallel: int = 2
    tolerate: int = 0
    undo: int | None = None
    undo_attempts: int = 1
    pace: int = 0
    child: str = "kid"
    early: bool = False
    has_slot: bool = False
    is_cached: bool = False
    is_secret: bool = False
    is_large: bool = False
    is_too_large: bool = False

    def __repr__(self) -> str:
        told = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Node({', '.join(told)})"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))

    @property
    def is_fan_out(self) -> bool:
        """Whether it has items."""
        return self.kind in ("each", "children")

    @property
    def is_child(self) -> bool:
        """Whether it runs child runs."""
        return self.kind in ("child", "children")


@dataclass(frozen=True)
class Case:
    """A workflow, and what happens to it: ``interruptions`` are moments, counted in ticks, with a verb for each."""

    sections: dict[str, tuple[Node, ...]]
    interruptions: tuple[tuple[int, str], ...] = ()
    outputs: str = "good"
    durability: str = "node"

    @property
    def verbs(self) -> frozenset[str]:
        """All that interrupts it."""
        return frozenset(verb for _, verb in self.interruptions)

    def find(self, id: str) -> Node:
        """A node by its id."""
        return next(node for nodes in self.sections.values() for node in nodes if node.id == id)

    def document(self, name: str) -> dict[str, Any]:
        """The workflow."""
        made: dict[str, Any] = {"version": 2, "name": name}
        made["inputs"] = {"yes": "boolean", "no": "boolean", "nothing": "string?"}
        made["settings"] = {"timeout": "10m", "durability": self.durability}
        last = self.sections["nodes"][-1]
        if self.outputs != "none":
            made["outputs"] = {"it": saw(last) if self.outputs == "good" else "{{ input.nothing.there }}"}
        for section, nodes in self.sections.items():
            made[section] = [self._definition(node, section) for node in nodes]
        return made

    def _definition(self, node: Node, section: str) -> dict[str, Any]:
        made: dict[str, Any] = {"id": node.id, "type": "act", "depends_on": list(node.depends_on)}
        made |= {"run_if": node.run_if, "on_error": node.on_error}
        if node.when is not None:
            made["when"] = f"input.{node.when}"
        seen = "|".join(saw(self.find(other)) for other in node.depends_on)
        say, fails = node.id, node.fails
        if node.is_fan_out:
            made |= {"for_each": list(node.items), "max_parallel": node.parallel, "tolerate_failures": node.tolerate}
            say, fails = f"{node.id}/{{{{ item_index }}}}", "{{ item }}"  # type: ignore[assignment] # a template
        if node.is_child:
            made["type"] = "workflow"
            made["config"] = {"workflow": node.child, "input": {"say": say, "fails": fails}}
        elif node.kind in ("wait", "signal"):
            made["type"] = node.kind
            made["config"] = {"duration": f"{node.pace + 1}ms"} if node.kind == "wait" else {"name": node.id}
        else:
            config: dict[str, Any] = {"say": say, "fails": fails, "pace": node.pace, "saw": seen}
            if section == "finally":
                config["saw"] = seen + "{{ run.state }}"
            if node.is_secret:
                config["token"] = "{{ secrets.TOKEN }}"
            if node.is_large or node.is_too_large:
                config["padding"] = PADDING
            made["config"] = config
            if HANGS in (node.fails, *node.items):
                made["timeout"] = "30ms"
            if node.has_slot:
                made["concurrency"] = {"key": "one {{ run.id }}", "limit": 1}
                made["config"]["slot"] = "{{ run.id }}"
            if node.is_cached:
                made["cache"] = {"key": f"{{{{ run.id }}}} {say}", "ttl": "1m"}
            if node.is_too_large:
                made["max_output_size"] = 1000
        if node.max_attempts > 1:
            made["retry"] = RETRY | {"max_attempts": node.max_attempts}
        if node.undo is not None:
            undo: dict[str, Any] = {"type": "act", "config": {"say": f"~{say}", "fails": node.undo}}
            undo["config"]["saw"] = "{{ output }}" if node.kind in ("act", "each") else ""
            if node.undo_attempts > 1:
                undo["retry"] = RETRY | {"max_attempts": node.undo_attempts}
            made["compensate"] = undo
        return made


def saw(node: Node) -> str:
    """The template of what a node gives, as text; `-` if it gives nothing."""
    record = f"nodes['{node.id}']"
    succeeded, value = f"{record}.state == 'succeeded'", f"{record}.output"
    if node.kind == "wait":
        return f"{{{{ 'waited' if {succeeded} else '-' }}}}"
    if node.kind == "child":
        return f"{{{{ {value}.it if {succeeded} else '-' }}}}"
    if node.kind == "children":
        items = f"{value} | map('default', {{'it': '~'}}, true) | map(attribute='it') | join(',')"
        return f"{{{{ ({items}) if {succeeded} else '-' }}}}"
    if node.kind == "each":
        return f"{{{{ ({value} | map('default', '~', true) | join(',')) if {succeeded} else '-' }}}}"
    return f"{{{{ {value} if {succeeded} else '-' }}}}"


FAILS = st.sampled_from([0, 0, 0, 0, 1, 1, ALWAYS, HANGS])


@st.composite
def nodes(draw: Any, section: str, number: int, before: list[str]) -> Node:
    """A node that may depend on those before it."""
    depends_on = tuple(draw(st.lists(st.sampled_from(before), unique=True, max_size=2))) if before else ()
    in_graph = section == "nodes"
    kinds = ["act", "act", "act", "each", "wait"] + (["signal", "child", "children", "each"] if in_graph else [])
    kind = draw(st.sampled_from(kinds))
    node = Node(f"{section[0]}{number}", kind, depends_on, pace=draw(st.sampled_from([0, 0, 2, 8])))
    node = replace(
        node,
        run_if=draw(st.sampled_from(RUN_IFS if depends_on else ROOT_RUN_IFS)) if draw(st.booleans()) else node.run_if,
        on_error=draw(st.sampled_from(["stop", "stop", "continue", "skip"])),
        when=draw(st.sampled_from([None, None, None, None, "yes", "no", "nothing.there"])),
        undo=draw(st.sampled_from([None, 0, 0, 1, ALWAYS])) if in_graph else None,
        undo_attempts=draw(st.sampled_from([2, 3])),
    )
    if node.kind in ("wait", "signal"):
        return replace(node, early=draw(st.booleans()))
    if node.is_child:
        items = tuple(draw(st.lists(st.sampled_from([0, 0, 0, ALWAYS]), max_size=4)))
        return replace(
            node,
            fails=draw(st.sampled_from([0, 0, ALWAYS])),
            items=items if node.is_fan_out else (),
            parallel=draw(st.integers(1, 3)),
            tolerate=draw(st.integers(0, 2)),
            child=draw(st.sampled_from(sorted(KIDS))),
        )
    node = replace(node, max_attempts=draw(st.sampled_from([1, 2, 3])))
    if node.is_fan_out:
        items = tuple(possible(fails, node.max_attempts) for fails in draw(st.lists(FAILS, max_size=4)))
        if HANGS in items:  # those have a timeout: a busy machine must not make others exceed it
            items = (HANGS,) * len(items)
        node = replace(node, items=items, parallel=draw(st.integers(1, 3)), tolerate=draw(st.integers(0, 2)))
    else:
        node = replace(node, fails=possible(draw(FAILS), node.max_attempts))
        node = replace(node, is_too_large=draw(st.integers(0, 9)) == 9)
    return replace(
        node,
        has_slot=draw(st.integers(0, 3)) == 3,
        is_cached=draw(st.integers(0, 4)) == 4,
        is_secret=draw(st.integers(0, 3)) == 3,
        is_large=draw(st.integers(0, 5)) == 5,
    )


def possible(fails: int, max_attempts: int) -> int:
    """Fail for ever, or so that there is an attempt left: else an attempt that is lost could decide."""
    return ALWAYS if fails >= max_attempts else fails


@st.composite
def cases(draw: Any, verbs: tuple[str, ...] = (), moments: int = 60) -> Case:
    """A workflow of one to seven nodes, and up to three interruptions."""
    sections: dict[str, tuple[Node, ...]] = {}
    for section, least, most in (("nodes", 1, 5), ("on_failure", 0, 2), ("finally", 0, 2)):
        made: list[Node] = []
        for number in range(draw(st.integers(least, most))):
            made.append(draw(nodes(section, number, [node.id for node in made])))
        sections[section] = tuple(made)
    interruptions: dict[int, str] = {}
    if verbs:
        interruptions = draw(st.dictionaries(st.integers(1, moments), st.sampled_from(verbs), max_size=3))
    return Case(
        sections,
        tuple(sorted(interruptions.items())),
        outputs=draw(st.sampled_from(["good", "good", "good", "none", "bad"])),
        durability=draw(st.sampled_from(["node", "node", "node", "run"])),
    )


@dataclass
class Became:
    """What became of a case: ``nodes`` has the state, attempts and output of each, ``items`` those of items."""

    state: str
    outputs: Any
    error: str | None
    compensation: str | None
    nodes: dict[str, tuple[str, int, Any]]
    items: dict[tuple[str, int], tuple[str, int]]
    #: When nodes had ended.
    ended: dict[str, float]
    #: How often what was under way was lost.
    losses: int = 0
    #: Whether somebody asked it to stop.
    cancelled: bool = False
    terminated: bool = False
    calls: list[Any] = field(default_factory=list)
