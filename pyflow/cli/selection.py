"""Selects the nodes that a run executes: `--stop-at`, and `--from` with the saved results of an earlier run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyflow.cli.console import fail
from pyflow.core.result import ErrorInfo, NodeRun
from pyflow.core.states import NodeState
from pyflow.documents.graph import Graph
from pyflow.execution.plan import MAIN, Plan
from pyflow.validation.checker import suggest

#: Saved results hold whole outputs, so they may be larger than a definition.
MAX_RESULTS_BYTES = 256 * 1024 * 1024
#: Skipped because that run was cut short, not because the workflow says so.
_NEVER_DECIDED = frozenset({"not selected", "not reached", "stopped"})


@dataclass(frozen=True, slots=True)
class Selection:
    """``only``: the nodes to run (``None``: all). ``recorded``: finished node runs to go on from."""

    only: frozenset[str] | None = None
    recorded: dict[str, NodeRun] = field(default_factory=dict)


def select(plan: Plan, stop_at: str | None, start: str | None, results: Path | None) -> Selection:
    """The selection that the options describe; exits with a message if they describe none."""
    if results is not None and start is None:
        fail("--results needs --from NODE: it provides the results of the nodes before NODE")
    if stop_at is None and start is None:
        return Selection()
    main = Graph(plan.graph.dependencies[: len(plan.sections[MAIN])])
    chosen = set(range(len(plan.nodes)))
    if start is not None:
        at = _index(plan, start, "--from")
        chosen -= set(range(main.size)) - main.downstream(at) - {at}
    if stop_at is not None:
        at = _index(plan, stop_at, "--stop-at")
        chosen &= main.upstream(at) | {at}
    if not chosen:
        fail(f"--stop-at {stop_at} does not come after --from {start}: there is nothing to run")
    recorded = _reused(plan, main, chosen, start, results) if start is not None else {}
    return Selection(frozenset(plan.ids(sorted(chosen))), recorded)


def _index(plan: Plan, node_id: str, option: str) -> int:
    index = plan.by_id.get(node_id)
    if index is None:
        near = suggest(node_id, plan.by_id)
        hint = f" (did you mean {near!r}?)" if near else ""
        fail(f"{option}: there is no node {node_id!r} in workflow {plan.workflow.name!r}{hint}")
    if index not in plan.sections[MAIN]:
        fail(f"{option}: {node_id!r} is not in the section `nodes`")
    return index


def _reused(plan: Plan, main: Graph, chosen: set[int], start: str, results: Path | None) -> dict[str, NodeRun]:
    saved = {} if results is None else _read_results(results)
    main_nodes = [plan.nodes[index] for index in plan.sections[MAIN]]
    recorded = {
        node.id: run
        for node in main_nodes
        if node.index not in chosen
        and (run := saved.get(node.id)) is not None
        and _usable(run, tolerated=node.tolerated)
    }
    needed: set[int] = set()
    for index in reversed(main.order()):
        if index in chosen or index in needed:
            needed.update(main.dependencies[index])
    missing = [
        f"{node_id} ({saved[node_id].state})" if node_id in saved else node_id
        for node_id in plan.ids(sorted(needed - chosen))
        if node_id not in recorded
    ]
    if missing:
        where = f"in {results}" if results is not None else "(give --results FILE, saved from `run --format json`)"
        fail(f"--from {start} needs results that are not there {where}: {', '.join(missing)}")
    return recorded


def _usable(run: NodeRun, *, tolerated: bool) -> bool:
    """Return whether a run can continue from this end of a node."""
    if run.state is NodeState.SKIPPED:
        return run.reason not in _NEVER_DECIDED
    return run.state is NodeState.SUCCEEDED or (tolerated and run.state in (NodeState.FAILED, NodeState.TIMED_OUT))


def _read_results(path: Path) -> dict[str, NodeRun]:
    expected = f"--results: {path} is not what `pyflow run --format json` prints"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RESULTS_BYTES + 1)
    except FileNotFoundError:
        fail(f"--results: there is no file {path}")
    except (OSError, ValueError) as error:
        fail(f"--results: {path} cannot be read: {error}")
    if len(raw) > MAX_RESULTS_BYTES:
        fail(f"--results: {path} is larger than {MAX_RESULTS_BYTES:,} bytes")
    try:
        nodes = json.loads(raw)["nodes"]
        return {run.id: run for run in map(_node_run, nodes)}
    except RecursionError:
        fail(f"{expected}: nested too deeply")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fail(f"{expected}: {type(error).__name__}: {error}")


def _node_run(data: dict[str, Any]) -> NodeRun:
    error = data.get("error")
    return NodeRun(
        str(data["id"]),
        NodeState(data["state"]),
        output=data.get("output"),
        error=None if error is None else ErrorInfo.from_record(error, data["id"]),
        attempts=int(data.get("attempts", 0)),
        reason=data.get("reason"),
        tolerated=error is not None,
    )
