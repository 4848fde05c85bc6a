"""Random graphs with random ends: the scheduler agrees with a definition of its rules that only looks back.

The reference below knows nothing of events or counters. It goes over the nodes again and again until nothing changes.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.states import NodeState, RunState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.plan import FINALLY, MAIN, ON_FAILURE, Plan
from pyflow.execution.scheduler import Scheduler
from tests.support.factories import stage

ENDS = st.sampled_from([NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED, NodeState.TIMED_OUT])
RUN_IFS = ("all_succeeded", "none_failed", "all_done", "any_failed", "any_succeeded")
FAILED = {NodeState.FAILED, NodeState.TIMED_OUT, NodeState.CANCELLED}
REGISTRY = stage.registry()


@dataclass
class Case:
    """A plan, how each node ends when it runs, and in which order they end."""

    plan: Plan
    ends: list[NodeState]
    order: list[int]

    def __repr__(self) -> str:
        return f"{[node.definition for node in self.plan.nodes]} {self.ends} {self.order}"


@st.composite
def cases(draw: Any, on_errors: tuple[str, ...] = ("stop", "skip", "continue"), version: int = 2) -> Case:
    sections: dict[str, list[dict[str, Any]]] = {}
    for name in ("nodes", "on_failure", "finally") if version == 2 else ("nodes",):
        count = draw(st.integers(1 if name == "nodes" else 0, 8 if name == "nodes" else 3))
        sections[name] = []
        for i in range(count):
            depends_on = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
            node: dict[str, Any] = {
                "id": f"{name}{i}",
                "type": "echo",
                "depends_on": [f"{name}{d}" for d in depends_on],
            }
            node["on_error"] = draw(st.sampled_from(on_errors))
            if version == 2:
                usable = RUN_IFS if depends_on else RUN_IFS[:3]
                node["run_if"] = draw(st.sampled_from(usable))
            sections[name].append(node)
        sections[name] = draw(st.permutations(sections[name]))
    head = {"version": 2} if version == 2 else {"trigger": {"type": "manual"}}
    plan = Plan(WorkflowDef.model_validate({"name": "t", **head, **sections}), REGISTRY)
    size = len(plan.nodes)
    return Case(plan, draw(st.lists(ENDS, min_size=size, max_size=size)), draw(st.permutations(range(size))))


def play(case: Case, scheduler: Scheduler, ready: list[int], stop_after: int | None = None) -> set[int]:
    """End ready nodes in the order of the case; return those that were left running."""
    running = set(ready)
    steps = 0
    while running and steps != stop_after:
        index = min(running, key=case.order.index)
        running.discard(index)
        running |= set(scheduler.finish(index, case.ends[index]))
        scheduler.skips.clear()
        steps += 1
    return running


def ends_of(scheduler: Scheduler) -> tuple[list[NodeState], RunState, bool]:
    # What was never reached is reported as skipped.
    states = [NodeState.SKIPPED if state is NodeState.PENDING else state for state in scheduler.states]
    return states, scheduler.run_state, scheduler.done


def reference(case: Case) -> tuple[list[NodeState], RunState]:
    """The ends of all nodes where no failure stops others, by the rules as they are written."""
    plan, states = case.plan, [NodeState.SKIPPED] * len(case.plan.nodes)
    outcome = RunState.SUCCEEDED
    for section, members in enumerate(plan.sections):
        if section == ON_FAILURE and outcome is not RunState.FAILED:
            continue
        known: dict[int, NodeState] = {}
        while len(known) < len(members):
            for index in members:
                before = plan.graph.dependencies[index]
                if index not in known and all(other in known for other in before):
                    runs = fits(str(plan.nodes[index].run_if), [known[other] for other in before])
                    known[index] = case.ends[index] if runs else NodeState.SKIPPED
        for index, state in known.items():
            states[index] = state
            if state in FAILED and plan.nodes[index].on_error != "skip" and section != ON_FAILURE:
                outcome = RunState.FAILED
    return states, outcome


def fits(run_if: str, before: list[NodeState]) -> bool:
    return {
        "all_succeeded": all(state is NodeState.SUCCEEDED for state in before),
        "none_failed": not any(state in FAILED for state in before),
        "all_done": True,
        "any_failed": any(state in FAILED for state in before),
        "any_succeeded": any(state is NodeState.SUCCEEDED for state in before),
    }[run_if]


@given(cases(on_errors=("skip", "continue")))
def test_without_stop_the_ends_are_those_of_the_reference(case: Case):
    scheduler = Scheduler(case.plan)
    assert play(case, scheduler, scheduler.start()) == set()
    assert ends_of(scheduler) == (*reference(case), True)


@given(cases(on_errors=("skip", "continue")), st.randoms(use_true_random=False))
def test_without_stop_the_order_of_completion_does_not_matter(case: Case, random: Any):
    there, back = Scheduler(case.plan), Scheduler(case.plan)
    play(case, there, there.start())
    random.shuffle(case.order)
    play(case, back, back.start())
    assert ends_of(there) == ends_of(back)


@given(cases())
def test_every_run_ends_with_every_node_ended_or_never_reached(case: Case):
    scheduler = Scheduler(case.plan)
    assert play(case, scheduler, scheduler.start()) == set()
    assert scheduler.done
    main = [scheduler.states[index] for index in case.plan.sections[MAIN]]
    assert NodeState.PENDING not in main
    assert NodeState.PENDING not in [scheduler.states[index] for index in case.plan.sections[FINALLY]]


@given(cases())
def test_nothing_runs_before_its_dependencies_have_ended_and_nothing_twice(case: Case):
    scheduler = Scheduler(case.plan)
    started: set[int] = set()
    running = set(scheduler.start())
    while running:
        for index in running - started:
            assert all(scheduler.states[d] is not NodeState.PENDING for d in case.plan.graph.dependencies[index])
            assert all(d not in running for d in case.plan.graph.dependencies[index])
        started |= running
        index = min(running, key=case.order.index)
        running.discard(index)
        new = scheduler.finish(index, case.ends[index])
        assert not started & set(new)
        assert len(set(new)) == len(new)
        running |= set(new)


@given(cases())
def test_after_a_failure_that_stops_only_cleaning_up_starts(case: Case):
    scheduler = Scheduler(case.plan)
    running = set(scheduler.start())
    while running:
        index = min(running, key=case.order.index)
        running.discard(index)
        phase = scheduler.phase
        new = scheduler.finish(index, case.ends[index])
        if scheduler.stopped and scheduler.phase == phase:
            assert all(case.plan.nodes[i].run_if in ("all_done", "any_failed") for i in new)
        running |= set(new)


@given(cases(), st.integers(0, 14))
def test_recorded_states_at_any_point_lead_to_the_same_end(case: Case, steps: int):
    whole, first, second = Scheduler(case.plan), Scheduler(case.plan), Scheduler(case.plan)
    play(case, whole, whole.start())
    running = play(case, first, first.start(), stop_after=steps)
    recorded = {i: state for i, state in enumerate(first.states) if state is not NodeState.PENDING}
    recorded |= dict.fromkeys(running, NodeState.RUNNING)
    again = second.start(recorded)
    assert set(again) == running
    play(case, second, again)
    assert ends_of(second) == ends_of(whole)


@given(cases(on_errors=("skip",), version=1))
def test_in_v1_every_node_runs_however_those_before_it_ended(case: Case):
    scheduler = Scheduler(case.plan)
    play(case, scheduler, scheduler.start())
    assert scheduler.states == case.ends
    assert scheduler.run_state is RunState.SUCCEEDED


@given(cases(on_errors=("stop", "skip"), version=1))
def test_in_v1_nothing_starts_after_a_failure_that_stops(case: Case):
    scheduler = Scheduler(case.plan)
    running, stopped = set(scheduler.start()), False
    while running:
        index = min(running, key=case.order.index)
        running.discard(index)
        new = scheduler.finish(index, case.ends[index])
        stopped |= case.ends[index] in FAILED and case.plan.nodes[index].on_error == "stop"
        assert not (stopped and new)
        running |= set(new)
    assert scheduler.run_state is (RunState.FAILED if stopped else RunState.SUCCEEDED)


STOPS = st.sampled_from([RunState.CANCELLED, RunState.TIMED_OUT])


def stop(case: Case, scheduler: Scheduler, running: set[int], outcome: RunState) -> tuple[set[int], set[int]]:
    """Stop the run; returns what executes now, and which of it was interrupted."""
    for index in running:
        scheduler.states[index] = NodeState.RUNNING
    phase = scheduler.phase
    ready = scheduler.stop(outcome)
    cuts = phase == MAIN or (phase == ON_FAILURE and outcome is RunState.CANCELLED)
    return running | set(ready), set(running) if cuts else set()


@given(cases(), st.integers(0, 14), STOPS)
def test_a_stop_decides_the_end_if_it_cuts_the_graph_short(case: Case, steps: int, outcome: RunState):
    whole, stopped = Scheduler(case.plan), Scheduler(case.plan)
    play(case, whole, whole.start())
    running = play(case, stopped, stopped.start(), stop_after=steps)
    in_graph = stopped.phase == MAIN
    running, interrupted = stop(case, stopped, running, outcome)
    for index in interrupted:
        running |= set(stopped.finish(index, NodeState.CANCELLED))
    assert play(case, stopped, [*running - interrupted]) == set()
    assert stopped.done
    if in_graph:
        assert stopped.run_state is outcome
        assert NodeState.PENDING not in [stopped.states[index] for index in case.plan.sections[MAIN]]
        if outcome is RunState.CANCELLED:
            assert all(stopped.states[index] is NodeState.PENDING for index in case.plan.sections[ON_FAILURE])
    else:
        assert stopped.run_state is whole.run_state
        for section in (MAIN, FINALLY):
            indices = case.plan.sections[section]
            assert [stopped.states[i] for i in indices] == [whole.states[i] for i in indices]


@given(cases(), st.integers(0, 14), st.integers(0, 14), STOPS)
def test_a_crash_after_a_stop_is_not_seen_in_how_the_run_ends(case: Case, steps: int, more: int, outcome: RunState):
    first, second = Scheduler(case.plan), Scheduler(case.plan)
    running, interrupted = stop(case, first, play(case, first, first.start(), stop_after=steps), outcome)
    if more:  # else it crashes before the interrupted nodes have ended
        for index in sorted(interrupted):
            running |= set(first.finish(index, NodeState.CANCELLED))
        running = play(case, first, [*running - interrupted], stop_after=more - 1)
        interrupted = set()
    recorded = {index: state for index, state in enumerate(first.states) if state is not NodeState.PENDING}
    recorded |= dict.fromkeys(running, NodeState.RUNNING)
    cut = outcome if first.ended_as is outcome else None
    play(case, second, second.start(recorded, cut=cut, outcome=outcome))
    for index in sorted(interrupted):
        running |= set(first.finish(index, NodeState.CANCELLED))
    play(case, first, [*running - interrupted])
    assert ends_of(second) == ends_of(first)


@pytest.mark.parametrize("outcome", [RunState.CANCELLED, RunState.TIMED_OUT])
def test_a_stop_that_cuts_nothing_short_counts_for_nothing(outcome: RunState):
    plan = Plan(stage.workflow(stage.node("last")), REGISTRY)
    scheduler = Scheduler(plan)
    [last] = scheduler.start()
    scheduler.states[last] = NodeState.RUNNING
    assert scheduler.stop(outcome) == []
    assert scheduler.finish(last, NodeState.SUCCEEDED) == []
    assert (scheduler.done, scheduler.run_state) == (True, RunState.SUCCEEDED)
