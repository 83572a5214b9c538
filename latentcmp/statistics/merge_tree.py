"""Sums whose bits do not depend on who computed which part of them, or when.

Structures are cut into numbered blocks. The statistics of one block are a leaf of a fixed binary tree over the numbers,
and two siblings merge, left with right, as soon as both are there: any shard, rank or order of arrival comes to the
same additions in the same order, and never holds more than a node a level.
"""

from typing import Any, Generic, Protocol, TypeVar

from latentcmp.errors import InputError


class Mergeable(Protocol):
    """The requirement on nodes: add another of the same kind in place."""

    def merge(self, other: Any) -> None:
        """Add another."""


Node = TypeVar("Node", bound=Mergeable)


class MergeTree(Generic[Node]):
    """Nodes {(level, index): merged blocks index * 2^level .. (index + 1) * 2^level} whose sibling is not there yet."""

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.nodes: dict[tuple[int, int], Node] = {}

    def add(self, block: int, leaf: Node) -> None:
        """Add the leaf of a block. Raises InputError for a block that was added before."""
        self.put(0, block, leaf)

    def put(self, level: int, index: int, node: Node) -> None:
        """Add a node, and merge upwards as far as siblings are there."""
        self._check_new(level, index)
        width = -(-self.n_blocks // 2**level)
        while width > 1:
            sibling = self.nodes.pop((level, index ^ 1), None)
            if index ^ 1 < width:
                if sibling is None:
                    break
                node, other = (sibling, node) if index % 2 else (node, sibling)
                node.merge(other)
            level, index, width = level + 1, index // 2, -(-width // 2)
        self.nodes[level, index] = node

    def merge(self, other: "MergeTree[Node]") -> None:
        """Add the nodes of a tree over the same blocks. Raises InputError for blocks that both hold."""
        if other.n_blocks != self.n_blocks:
            raise InputError(f"trees of {self.n_blocks} and of {other.n_blocks} blocks do not merge")
        for (level, index), node in sorted(other.nodes.items()):
            self.put(level, index, node)

    def missing(self) -> list[int]:
        """Return the numbers of the blocks that were not added."""
        held = {block for node in self.nodes for block in self._span(*node)}
        return sorted(set(range(self.n_blocks)) - held)

    def total(self) -> Node:
        """Return all nodes merged in the order of the blocks. Raises InputError where there is none."""
        if not self.nodes:
            raise InputError("no block of structures has been accumulated")
        first, *others = sorted(self.nodes, key=lambda node: self._span(*node).start)
        for node in others:  # only where blocks are missing; else there is the root alone
            self.nodes[first].merge(self.nodes.pop(node))
        return self.nodes[first]

    def _span(self, level: int, index: int) -> range:
        return range(index << level, min((index + 1) << level, self.n_blocks))

    def _check_new(self, level: int, index: int) -> None:
        span = self._span(level, index)
        if not span:
            raise InputError(f"block {index << level} is not one of the {self.n_blocks} blocks")
        for node in self.nodes:
            held = self._span(*node)
            if span.start < held.stop and held.start < span.stop:
                raise InputError(f"blocks {max(span.start, held.start)} and up are accumulated already")
