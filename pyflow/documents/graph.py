"""Graphs of nodes: order, levels, cycles, reachability. All of it linear in nodes plus edges, none of it recursive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Graph:
    """A directed graph over ``0..n-1``; ``dependencies[i]`` are the nodes that ``i`` waits for."""

    __slots__ = ("dependencies", "dependents", "size")

    def __init__(self, dependencies: Sequence[Sequence[int]]) -> None:
        self.size = len(dependencies)
        self.dependencies: list[tuple[int, ...]] = [tuple(dict.fromkeys(deps)) for deps in dependencies]
        dependents: list[list[int]] = [[] for _ in dependencies]
        for node, deps in enumerate(self.dependencies):
            for dependency in deps:
                dependents[dependency].append(node)
        self.dependents: list[tuple[int, ...]] = [tuple(nodes) for nodes in dependents]

    def roots(self) -> list[int]:
        """The nodes that wait for nothing."""
        return [node for node, deps in enumerate(self.dependencies) if not deps]

    def order(self) -> list[int]:
        """A topological order (Kahn 1962), stable: shorter than the graph if there is a cycle."""
        waiting = [len(deps) for deps in self.dependencies]
        ready = deque(self.roots())
        order: list[int] = []
        while ready:
            node = ready.popleft()
            order.append(node)
            for dependent in self.dependents[node]:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    ready.append(dependent)
        return order

    def cycle(self) -> list[int]:
        """One cycle, in dependency order with its first node repeated at the end; empty if there is none."""
        left = set(range(self.size)) - set(self.order())
        if not left:
            return []
        # Every node that is left waits for another that is left: walking back must meet itself.
        node = min(left)
        path: list[int] = []
        at: dict[int, int] = {}
        while node not in at:
            at[node] = len(path)
            path.append(node)
            node = min(dependency for dependency in self.dependencies[node] if dependency in left)
        loop = path[at[node] :]
        loop.reverse()
        first = loop.index(min(loop))
        return [*loop[first:], *loop[: first + 1]]

    def levels(self) -> list[list[int]]:
        """The nodes by their distance from the roots: what could run at the same time."""
        depth = [0] * self.size
        levels: list[list[int]] = []
        for node in self.order():
            depth[node] = max((depth[d] + 1 for d in self.dependencies[node]), default=0)
            if depth[node] == len(levels):
                levels.append([])
            levels[depth[node]].append(node)
        return levels

    def longest_path(self) -> list[int]:
        """The longest chain of nodes: the critical path when all take equally long."""
        length = [0] * self.size
        before: list[int] = [-1] * self.size
        last = -1
        for node in self.order():
            for dependency in self.dependencies[node]:
                if length[dependency] + 1 > length[node]:
                    length[node], before[node] = length[dependency] + 1, dependency
            if last < 0 or length[node] > length[last]:
                last = node
        path: list[int] = []
        while last >= 0:
            path.append(last)
            last = before[last]
        path.reverse()
        return path

    def upstream(self, node: int) -> set[int]:
        """All nodes that ``node`` waits for, directly or not."""
        return self._reach(node, self.dependencies)

    def downstream(self, node: int) -> set[int]:
        """All nodes that wait for ``node``, directly or not."""
        return self._reach(node, self.dependents)

    @staticmethod
    def _reach(start: int, edges: Sequence[Sequence[int]]) -> set[int]:
        found: set[int] = set()
        queue = deque(edges[start])
        while queue:
            node = queue.popleft()
            if node not in found:
                found.add(node)
                queue.extend(edges[node])
        return found
