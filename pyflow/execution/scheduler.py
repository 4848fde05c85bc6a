"""The scheduler: decides which nodes start next. Pure state of a run, without I/O, time or tasks.

An engine passes it what happened, and it returns what follows. Because it only sees facts, the same facts read back
from a database bring it to the same state. Every operation is linear in the edges it touches; nothing recurses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence

from pyflow.core.states import TERMINAL_NODE_STATES, NodeState, RunState
from pyflow.documents.models import OnError, RunIf
from pyflow.execution.plan import COMPENSATE, FINALLY, MAIN, ON_FAILURE, Plan

_PENDING = NodeState.PENDING
_SUCCEEDED = NodeState.SUCCEEDED
_SKIPPED = NodeState.SKIPPED
_FAILURES = frozenset({NodeState.FAILED, NodeState.TIMED_OUT, NodeState.CANCELLED})
_NOT_EXECUTING = frozenset({NodeState.PENDING, NodeState.RETRYING, NodeState.WAITING})
_RUNS_AFTER_STOP = frozenset({RunIf.ALL_DONE, RunIf.ANY_FAILED})


class Scheduler:
    """The state of one run of a plan.

    ``states`` holds each node's state. ``start``, ``finish`` and ``stop`` return the indices of nodes that are ready;
    nodes that will not run because of it are put into ``skips`` as ``(index, state, reason)`` for the caller to record.
    """

    __slots__ = (
        "_begun",
        "_completed",
        "_failed",
        "_graph",
        "_judge",
        "_left",
        "_no_handlers",
        "_not_run",
        "_stopped_as",
        "_tolerated",
        "_undo",
        "_waiting",
        "compensation_failed",
        "ended_as",
        "phase",
        "plan",
        "skips",
        "states",
        "stopped",
    )

    def __init__(self, plan: Plan, judge: Callable[[], bool] | None = None) -> None:
        """``judge`` is asked once, when the graph has ended without a failure: ``False`` fails the run all the same."""
        self.plan = plan
        self._judge = judge
        self._graph = plan.graph
        self.states: list[NodeState] = [_PENDING] * len(plan.nodes)
        self.skips: list[tuple[int, NodeState, str]] = []
        self.phase = MAIN
        #: Nothing that depends on success starts any more.
        self.stopped = False
        #: The state that the run will end in, once something decided it against `succeeded`.
        self.ended_as: RunState | None = None
        #: How the run ends if the stop that was ordered cuts any node of the graph short.
        self._stopped_as: RunState | None = None
        #: The run was cancelled when its graph had ended: no node of `on_failure` starts any more.
        self._no_handlers = False
        self._waiting = [len(deps) for deps in plan.graph.dependencies]
        self._failed: dict[int, int] = {}
        self._not_run: dict[int, int] = {}
        self._left = len(plan.sections[MAIN])
        #: Nodes that have an effect to undo, in the order in which they completed; the compensations still to run.
        self._completed: dict[int, None] = {}
        self._undo: list[int] = []
        self.compensation_failed = False
        #: From a record: nodes that were under way, and failures that failed nothing.
        self._begun: set[int] = set()
        self._tolerated: Container[int] = ()

    @property
    def done(self) -> bool:
        """Return whether every section that has to run has run."""
        return self.phase > FINALLY

    @property
    def run_state(self) -> RunState:
        """Return the final state of the run, as it would be now."""
        return self.ended_as or RunState.SUCCEEDED

    @property
    def stopped_as(self) -> RunState | None:
        """Return the final state if the stop cuts a node of the graph short; ``None`` without a stop."""
        return self._stopped_as

    def is_last(self, index: int) -> bool:
        """Return whether the run ends as soon as this node succeeds: all others have ended, and nothing comes after."""
        sections = self.plan.sections
        return (
            self._left == 1
            and self.phase == MAIN
            and self.ended_as is None
            and not sections[FINALLY]
            # Outputs that cannot be computed fail the run, and then there is more to do.
            and not (self._judge is not None and (sections[COMPENSATE] or sections[ON_FAILURE]))
            and not self._graph.dependents[index]
        )

    def start(
        self,
        recorded: Mapping[int, NodeState] | None = None,
        *,
        tolerated: Container[int] = (),
        cut: RunState | None = None,
        outcome: RunState | None = None,
        effects: Sequence[int] = (),
    ) -> list[int]:
        """Begin, or go on from what is ``recorded``: states by index.

        Nodes that were under way are ready again, whatever happened since. ``tolerated``: those whose recorded failure
        failed nothing, beyond what ``on_error`` says. ``cut``: the stop that is recorded to have cut nodes of the graph
        short. ``outcome``: the stop that is ordered now. ``effects``: those with something to undo, in the order in
        which they completed.
        """
        if recorded:
            self._tolerated = tolerated
            self._completed = dict.fromkeys(effects)
            self._restore(recorded)
        self.ended_as = self._stopped_as = cut
        ready = self._advance(self._enter(MAIN))
        for stop in (cut, outcome):
            if stop is not None:
                ready = self.stop(stop, ready)
        return ready

    def note_effect(self, index: int) -> None:
        """Note that a node of the graph ends with something to undo; in the order of these calls, backwards, it is."""
        if self.phase == MAIN:
            self._completed.pop(index, None)  # from a record, of a fan-out that was under way
            self._completed[index] = None

    def finish(self, index: int, state: NodeState, *, tolerated: bool | None = None) -> list[int]:
        """Note how a node ended. ``tolerated``: this failure fails nothing (default: as its ``on_error`` says)."""
        self.states[index] = state
        self._left -= 1
        if self.phase == COMPENSATE:
            return self._next_compensation(state)
        if self.phase == MAIN and state in _FAILURES and self._stopped_as is not None:
            self.ended_as = self._stopped_as
        if state is not _SUCCEEDED and state is not _SKIPPED:
            self._note_failure(index, tolerated)
        ready: list[int] = []
        self._release(index, state, ready)
        return ready if self._left else self._advance(ready)

    def stop(self, outcome: RunState, ready: Sequence[int] = ()) -> list[int]:
        """Cut the graph short, and let the run end as ``outcome`` (``cancelled`` or ``timed_out``).

        ``ready``: the nodes that could start; returns those that still can. What is running has to be reported by
        ``finish``. A stop counts if a node was cut short by it. One that comes after the graph has ended does not
        change how the run ends, nor what is undone and finished; a cancellation then cuts ``on_failure`` short.
        """
        if self.phase == MAIN:
            self._stopped_as = self._stopped_as or outcome
            self._cut_short(MAIN, self._stopped_as)
        elif outcome is not RunState.CANCELLED or self.phase > ON_FAILURE or self._no_handlers:
            return list(ready)
        elif self.phase == COMPENSATE:
            self._no_handlers = self.ended_as is not RunState.CANCELLED
            return list(ready)
        else:
            self._no_handlers = True
            self._cut_short(ON_FAILURE, outcome)
        return [] if self._left else self._advance([])

    def _cut_short(self, phase: int, outcome: RunState) -> None:
        self.stopped = True
        for index in self.plan.sections[phase]:
            if self.states[index] in _NOT_EXECUTING:
                self._skip(index, NodeState.CANCELLED, str(outcome))
                if phase == MAIN:
                    self.ended_as = outcome

    def _next_compensation(self, state: NodeState) -> list[int]:
        """One at a time; one that fails does not keep the others from being tried."""
        if state is not _SUCCEEDED and state is not _SKIPPED:
            self.compensation_failed = True
        return [self._undo.pop(0)] if self._undo else self._advance([])

    def _start_compensation(self) -> list[int]:
        """Undo in reverse order of completion, and only what completed."""
        self.phase = COMPENSATE
        by_node = {self.plan.nodes[index].compensates: index for index in self.plan.sections[COMPENSATE]}
        wanted = [by_node.pop(index) for index in reversed(self._completed) if index in by_node]
        for index in by_node.values():
            self.states[index] = _SKIPPED
        ended = [self.states[index] for index in wanted if self.states[index] is not _PENDING]
        self.compensation_failed = any(state is not _SUCCEEDED for state in ended)
        self._undo = [index for index in wanted if self.states[index] is _PENDING]
        self._left = len(self._undo)
        return [self._undo.pop(0)] if self._undo else []

    def _note_failure(self, index: int, tolerated: bool | None) -> None:
        node = self.plan.nodes[index]
        if node.tolerated if tolerated is None else tolerated:
            return
        if self.ended_as is None and node.section not in (COMPENSATE, ON_FAILURE):
            self.ended_as = RunState.FAILED
        if node.on_error is not OnError.CONTINUE:
            self.stopped = True

    def _release(self, index: int, state: NodeState, ready: list[int]) -> None:
        """Update the dependents of a finished node; skipping one finishes it, too, hence the queue."""
        queue = deque(((index, state),))
        waiting, dependents = self._waiting, self._graph.dependents
        while queue:
            node, ended = queue.popleft()
            if ended is not _SUCCEEDED:
                counts = self._not_run if ended is _SKIPPED else self._failed
                for dependent in dependents[node]:
                    counts[dependent] = counts.get(dependent, 0) + 1
            for dependent in dependents[node]:
                waiting[dependent] -= 1
                if not waiting[dependent] and self.states[dependent] is _PENDING:
                    reason = self._why_not(dependent)
                    if reason is None:
                        ready.append(dependent)
                    else:
                        self._skip(dependent, _SKIPPED, reason)
                        queue.append((dependent, _SKIPPED))

    def _skip(self, index: int, state: NodeState, reason: str) -> None:
        self.states[index] = state
        self._left -= 1
        self.skips.append((index, state, reason))

    def _why_not(self, index: int) -> str | None:
        """Return the reason that a node with finished dependencies does not start; ``None`` if it does."""
        if index in self._begun:
            return None
        run_if = self.plan.nodes[index].run_if
        if self.stopped and (self.plan.version == 1 or run_if not in _RUNS_AFTER_STOP):
            return "stopped"
        if not self._failed and not self._not_run:
            return None if run_if is not RunIf.ANY_FAILED else "run_if any_failed"
        failed, not_run = self._failed.get(index, 0), self._not_run.get(index, 0)
        dependencies = len(self._graph.dependencies[index])
        holds = {
            RunIf.ALL_SUCCEEDED: not failed and not not_run,
            RunIf.NONE_FAILED: not failed,
            RunIf.ALL_DONE: True,
            RunIf.ANY_FAILED: failed > 0,
            RunIf.ANY_SUCCEEDED: dependencies == 0 or dependencies > failed + not_run,
        }
        return None if holds[run_if] else f"run_if {run_if}"

    def _enter(self, phase: int) -> list[int]:
        """The nodes of a section that wait for nothing (any more)."""
        self.phase = phase
        section = self.plan.sections[phase]
        self._left = 0
        for index in section:
            if self.states[index] is _PENDING:
                self._left += 1
            elif self.states[index] in _FAILURES:
                # Recorded earlier. Counts from here on: a failure in `finally` says nothing about the graph.
                self._note_failure(index, True if index in self._tolerated else None)
        ready: list[int] = []
        # Listed before anything is skipped: skipping one may make others ready, which `_release` notes itself.
        for index in [i for i in section if not self._waiting[i] and self.states[i] is _PENDING]:
            reason = self._why_not(index)
            if reason is None:
                ready.append(index)
            else:
                self._skip(index, _SKIPPED, reason)
                self._release(index, _SKIPPED, ready)
        return ready

    def _advance(self, ready: list[int]) -> list[int]:
        """Go to the next section while there is nothing left to wait for in this one."""
        while not ready and not self._left and self.phase <= FINALLY:
            self.stopped = False
            following = self.phase + 1
            if following == COMPENSATE:
                if self.ended_as is None and self._judge is not None and not self._judge():
                    self.ended_as = RunState.FAILED
                if self.ended_as is not None:
                    ready = self._start_compensation()
                    continue
                following = ON_FAILURE
            if following == ON_FAILURE and self.ended_as not in (RunState.FAILED, RunState.TIMED_OUT):
                following = FINALLY
            if following > FINALLY:
                self.phase = following
                break
            ready = self._enter(following)
            if following == ON_FAILURE and self._no_handlers:
                self._cut_short(ON_FAILURE, RunState.CANCELLED)
                ready = []
        return ready

    def _restore(self, recorded: Mapping[int, NodeState]) -> None:
        for index in self._graph.order():
            state = recorded.get(index)
            if state is None or state is _PENDING:
                continue
            if state not in TERMINAL_NODE_STATES:
                self._begun.add(index)
                continue
            self.states[index] = state
            counts = None if state is _SUCCEEDED else self._not_run if state is _SKIPPED else self._failed
            for dependent in self._graph.dependents[index]:
                self._waiting[dependent] -= 1
                if counts is not None:
                    counts[dependent] = counts.get(dependent, 0) + 1
