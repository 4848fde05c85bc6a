"""What may become of a case: docs/reference/workflow-format.md once more, as questions to the outcome.

Nodes that have nothing to do with each other end in any order, so the documentation often allows more than one outcome.
Each rule looks at how the nodes before have ended and says what may have become of the next one. Knows no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.model.language import ALWAYS, HANGS, PADDING, Became, Case, Node

FAILED = {"failed", "timed_out", "cancelled"}
NOT_THERE = ("skipped", 0, None)


def complaints(case: Case, became: Became) -> list[str]:
    """Return what the documentation does not allow of what became of a case."""
    if became.terminated:
        return [] if became.state == "cancelled" else [f"it was terminated and {became.state}"]
    return list(Judge(case, became).complaints())


def fits(run_if: str, before: list[str]) -> bool:
    """Whether the dependencies have ended as ``run_if`` asks."""
    return {
        "all_succeeded": all(state == "succeeded" for state in before),
        "none_failed": not any(state in FAILED for state in before),
        "all_done": True,
        "any_failed": any(state in FAILED for state in before),
        "any_succeeded": not before or any(state == "succeeded" for state in before),
    }[run_if]


def fate(fails: int, max_attempts: int) -> tuple[str, int]:
    """How a node or item ends, and after how many attempts."""
    if fails == HANGS:
        return "timed_out", max_attempts
    return ("failed", max_attempts) if fails == ALWAYS or fails >= max_attempts else ("succeeded", fails + 1)


class Judge:
    """Asks the questions of one case."""

    def __init__(self, case: Case, became: Became) -> None:
        self.case, self.became = case, became
        self.exact = not became.losses
        self.calls = Counter(call.label for call in became.calls if not call.has_ended)

    def state(self, id: str) -> str:
        """How a node ended."""
        return self.became.nodes.get(id, NOT_THERE)[0]

    def complaints(self) -> Iterator[str]:
        """All of them."""
        graph = self.graph_states()
        yield from self.section("nodes")
        if self.became.state not in {self.with_finally(state) for state in graph}:
            yield f"the run {self.became.state}; its graph {' or '.join(sorted(graph))}"
        yield from self.undoing(graph)
        yield from self.handlers(graph)
        yield from self.section("finally", graph)
        if self.became.state == "succeeded":
            expected = None if self.case.outputs == "none" else {"it": self.text(self.case.sections["nodes"][-1])}
            if self.became.outputs != expected:
                yield f"outputs {self.became.outputs!r}, expected {expected!r}"
        elif self.became.outputs is not None:
            yield f"it {self.became.state} and has outputs"
        if self.became.state == "failed":
            yield from self.error()

    # --- the run

    def graph_states(self) -> set[str]:
        """How the run may end when its graph has."""
        nodes = self.case.sections["nodes"]
        if any(self.state(node.id) == "cancelled" for node in nodes):
            return {"cancelled"}
        failed = any(self.fails_the_run(node) for node in nodes)
        if self.became.cancelled and any(self.state(node.id) in FAILED for node in nodes):
            return {"cancelled", "failed" if failed else "succeeded"}  # the stop may have cut it short, or not
        return {"failed" if failed or self.case.outputs == "bad" else "succeeded"}

    def fails_the_run(self, node: Node) -> bool:
        """Whether a node has failed, and nothing tolerates it."""
        return self.state(node.id) in FAILED and node.on_error != "skip"

    def with_finally(self, state: str) -> str:
        """A failure in `finally` fails the run."""
        failed = any(self.fails_the_run(node) for node in self.case.sections["finally"])
        return "failed" if state == "succeeded" and failed else state

    def error(self) -> Iterator[str]:
        """The error is of a node that failed and is not tolerated, or of the outputs."""
        nodes = [node for section in ("nodes", "finally") for node in self.case.sections[section]]
        allowed: set[str | None] = {node.id for node in nodes if self.fails_the_run(node)}
        if not allowed or self.case.outputs == "bad":
            allowed.add(None)
        if self.became.error not in allowed:
            yield f"the error is of {self.became.error}, expected of one of {allowed}"

    # --- nodes

    def section(self, name: str, graph: set[str] | None = None) -> Iterator[str]:
        """What becomes of the nodes of a section that is executed."""
        nodes = self.case.sections[name]
        stopping = {node.id for node in nodes if self.state(node.id) in FAILED and node.on_error == "stop"}
        behind: dict[str, set[str]] = {}
        for node in nodes:
            behind[node.id] = set(node.depends_on).union(*(behind[other] for other in node.depends_on))
            may_be_cancelled = self.became.cancelled and name != "finally"
            if self.state(node.id) == "cancelled" and may_be_cancelled:
                continue
            runs = fits(node.run_if, [self.state(other) for other in node.depends_on])
            cleans_up = node.run_if in ("all_done", "any_failed")
            if runs and not cleans_up and stopping & behind[node.id]:
                runs = False
            may_be_stopped = bool(stopping) and not cleans_up
            is_skipped = self.state(node.id) == "skipped"
            if not runs or (is_skipped and may_be_stopped):
                if not is_skipped or self.calls_of(node):
                    yield f"{node.id} should not run: {self.became.nodes.get(node.id)}, {self.calls_of(node)} calls"
                continue
            yield from self.executed(node, graph)

    def calls_of(self, node: Node) -> int:
        """How often a node or its items were called, or nodes of its child runs."""
        separators = (node.id, f"{node.id}.", f"{node.id}/")
        return sum(n for label, n in self.calls.items() if label == node.id or label.startswith(separators[1:]))

    def executed(self, node: Node, graph: set[str] | None) -> Iterator[str]:
        """What becomes of a node that is executed."""
        state, attempts, output = self.became.nodes.get(node.id, NOT_THERE)
        if node.when is not None and node.when != "yes":
            expected = "skipped" if node.when == "no" else "failed"
            if state != expected or self.calls_of(node):
                yield f"{node.id} with when: {node.when} is {state}, after {self.calls_of(node)} calls"
            return
        if node.is_fan_out:
            yield from self.fan_out(node)
        else:
            expected, times = fate(node.fails, node.max_attempts)
            if node.is_too_large and expected == "succeeded":
                expected = "failed"
            if state != expected or not self.is_number(attempts, times):
                yield f"{node.id} is {state} after {attempts} attempts, expected {expected} after {times}"
            label = f"{node.id}.y" if node.is_child else node.id
            # A timeout may be over before the node's code begins.
            if (
                node.kind in ("act", "child")
                and expected != "timed_out"
                and not self.is_number(self.calls[label], times, ran=True)
            ):
                yield f"{label} was called {self.calls[label]} times, expected {times}"
        if state == "succeeded" and node.kind != "wait":
            texts = [self.value(node, state) for state in sorted(graph or {""})]
            if graph is not None and self.became.state == "failed":  # another node of `finally` may have failed
                texts.append(self.value(node, "failed"))
            if output not in texts:
                yield f"{node.id} gave {output!r}, expected {' or '.join(map(repr, texts))}"

    def fan_out(self, node: Node) -> Iterator[str]:
        """What becomes of the items of a fan-out."""
        state, attempts, _ = self.became.nodes.get(node.id, NOT_THERE)
        fates = [fate(fails, node.max_attempts) for fails in node.items]
        is_lost = sum(end != "succeeded" for end, _ in fates) > node.tolerate
        if state != ("failed" if is_lost else "succeeded") or not self.is_number(attempts, 1):
            yield f"{node.id} is {state} after {attempts} attempts; of its items become {fates}"
        found = {index: item for (id, index), item in self.became.items.items() if id == node.id}
        failures = sum(found[index][0] in ("failed", "timed_out") for index in found)
        if is_lost and failures <= node.tolerate:
            yield f"{node.id} failed with {failures} items that failed, of which {node.tolerate} are tolerated"
        for index, (end, times) in enumerate(fates):
            item, number = found.get(index, ("pending", 0))
            label = f"{node.id}/{index}" + (".y" if node.is_child else "")
            if is_lost and item in ("pending", "cancelled"):
                continue
            if item != end or not self.is_number(number, times):
                yield f"item {index} of {node.id} is {item} after {number}, expected {end} after {times}"
            if end != "timed_out" and not self.is_number(self.calls[label], times, ran=True):
                yield f"{label} was called {self.calls[label]} times, expected {times}"

    def is_number(self, found: int, expected: int, *, ran: bool = False) -> bool:
        """Whether it is the number of attempts; what was under way when it was lost is done once more.

        ``ran``: the number of calls. The start of an attempt that is lost may be lost as well, so there may be more
        calls than attempts, and of an attempt that was lost before it called anything there may be none.
        """
        if self.exact:
            return found == expected
        return (1 if ran else min(expected, 1)) <= found <= expected + self.became.losses

    # --- values

    def value(self, node: Node, graph: str = "") -> Any:
        """The output of a node that has succeeded; those of `finally` see the state of the graph as well."""
        saw = "|".join(self.text(self.case.find(other), graph) for other in node.depends_on) + graph
        if node.kind == "each":
            fates = [fate(fails, node.max_attempts)[0] for fails in node.items]
            return [
                self.said(node, f"{node.id}/{i}", saw) if end == "succeeded" else None for i, end in enumerate(fates)
            ]
        if node.kind == "children":
            fates = [fate(fails, node.max_attempts)[0] for fails in node.items]
            return [{"it": f"{node.id}/{i}.y[]"} if end == "succeeded" else None for i, end in enumerate(fates)]
        if node.kind == "child":
            return {"it": f"{node.id}.y[]"}
        if node.kind == "signal":
            return "here it is"
        return self.said(node, node.id, saw)

    def said(self, node: Node, label: str, saw: str) -> str:
        """What `act` gives: of a secret, a mask."""
        padding = PADDING if node.is_large or node.is_too_large else ""
        return f"{label}[{saw}]{'***' if node.is_secret else ''}{padding}"

    def text(self, node: Node, graph: str = "") -> str:
        """What other nodes see of a node."""
        if self.state(node.id) != "succeeded":
            return "-"
        if node.kind == "wait":
            return "waited"
        value = self.value(node, graph)
        if node.kind == "each":
            return ",".join("~" if item is None else item for item in value)
        if node.kind == "children":
            return ",".join("~" if item is None else item["it"] for item in value)
        return str(value["it"] if node.kind == "child" else value)

    # --- what finishes it

    def undoing(self, graph: set[str]) -> Iterator[str]:
        """What completed is undone if the graph did not succeed, the last first, and nothing else is."""
        done = [node for node in self.case.sections["nodes"] if node.undo is not None and self.has_effect(node)]
        undone = [node for node in self.case.sections["nodes"] if f"{node.id}:compensate" in self.became.nodes]
        if graph == {"succeeded"} or (not undone and "succeeded" in graph):
            if undone:
                yield f"{undone[0].id} is undone although the graph has succeeded"
            if self.became.compensation:
                yield f"compensation is {self.became.compensation} although the graph has succeeded"
            return
        if {node.id for node in done} != {node.id for node in undone}:
            yield f"undone is {[node.id for node in undone]}, expected {[node.id for node in done]}"
            return
        states = []
        for node in done:
            assert node.undo is not None
            is_empty = node.is_fan_out and not self.undone_labels(node)
            expected, times = ("succeeded", 1) if is_empty else fate(node.undo, node.undo_attempts)
            state, attempts, _ = self.became.nodes[f"{node.id}:compensate"]
            states.append(state)
            if state != expected or not self.is_number(attempts, times):
                yield f"undoing {node.id} {state} after {attempts} attempts, expected {expected} after {times}"
            for label in self.undone_labels(node):
                if not self.is_number(self.calls[label], times, ran=True):
                    yield f"{label} was called {self.calls[label]} times, expected {times}"
        expected_outcome = None if not done else "failed" if set(states) - {"succeeded"} else "succeeded"
        if (self.became.compensation or None) != expected_outcome:
            yield f"compensation is {self.became.compensation}, expected {expected_outcome}"
        yield from self.order(done)

    def has_effect(self, node: Node) -> bool:
        """Whether a node has completed, or any item of a fan-out has."""
        items = [state for (id, _), (state, _) in self.became.items.items() if id == node.id]
        return "succeeded" in items or self.state(node.id) == "succeeded"

    def undone_labels(self, node: Node) -> list[str]:
        """What is undone of a node."""
        if not node.is_fan_out:
            return [f"~{node.id}"]
        done = [
            index for (id, index), (state, _) in self.became.items.items() if id == node.id and state == "succeeded"
        ]
        return [f"~{node.id}/{index}" for index in sorted(done)]

    def order(self, done: list[Node]) -> Iterator[str]:
        """The last that completed is undone first, one after the other."""
        began = [call.label.removeprefix("~").partition("/")[0] for call in self.became.calls if call.label[0] == "~"]
        found = list(dict.fromkeys(began))
        expected = sorted(found, key=lambda id: self.became.ended[id], reverse=True)
        if found != expected and len({self.became.ended[id] for id in found}) == len(found):
            yield f"undone in the order {found}, expected {expected}"
        if [id for last, id in zip(["", *began], began, strict=False) if id != last] != found:
            yield f"undone at the same time: {began}"

    def handlers(self, graph: set[str]) -> Iterator[str]:
        """`on_failure` is for runs that fail."""
        nodes = self.case.sections["on_failure"]
        unreached = [
            node.id for node in nodes if self.calls_of(node) or self.state(node.id) not in ("skipped", "cancelled")
        ]
        if graph == {"failed"} and not self.became.cancelled:
            yield from self.section("on_failure")
        elif graph == {"failed"} or "failed" in graph:
            if unreached:
                yield from self.section("on_failure")
        elif unreached:
            yield f"on_failure was executed: {unreached}"
