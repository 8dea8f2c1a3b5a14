"""Which machines the cluster has, which are lost, and which are about to be taken away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster.connection import listens

_LOOK_SECONDS = 2.0

# Asked of the node itself, where Ray may not know yet that it is gone.
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Change:
    """What is different from the look before: node ids with their names."""

    lost: dict[str, str] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)
    came: bool = False


class Nodes:
    """The nodes as they were at the last look.

    Ray is asked in a thread: without its head such a question is not answered and cannot be interrupted either.
    """

    def __init__(self) -> None:
        self._now = _ask()
        self._alive, self._leaving = self._now

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Ask again and again meanwhile."""
        over = threading.Event()

        def keep_asking() -> None:
            while not over.wait(_LOOK_SECONDS):
                with contextlib.suppress(Exception):  # asked again
                    self._now = _ask()

        thread = threading.Thread(target=keep_asking, daemon=True, name="nodes")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(_ANSWER_SECONDS)

    @property
    def resources(self) -> list[dict[str, float]]:
        """What the nodes have that stay."""
        return self.others("")

    @property
    def leaving(self) -> frozenset[str]:
        """The nodes that are about to be taken away."""
        return frozenset(self._leaving)

    def others(self, identity: str) -> list[dict[str, float]]:
        """What the nodes have but one."""
        return [dict(node["Resources"]) for other, node in self.staying.items() if other != identity]

    @property
    def staying(self) -> dict[str, dict[str, Any]]:
        """The nodes that are not about to be taken away, as Ray describes them, by id."""
        return {identity: node for identity, node in self._alive.items() if identity not in self._leaving}

    def look(self) -> Change:
        """What has changed since the look before."""
        before, leaving_before = self._alive, self._leaving
        self._alive, self._leaving = self._now
        return Change(
            lost={identity: node_name(node) for identity, node in before.items() if identity not in self._alive},
            leaving={identity: node_name(self._alive[identity]) for identity in self._leaving - leaving_before},
            came=bool(self._alive.keys() - before.keys()),
        )

    def is_gone(self, identity: str) -> bool:
        """Whether a node is lost, as Ray knows or as it shows by not answering."""
        node = self._now[0].get(identity)
        return node is None or not listens(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", _ANSWER_SECONDS)


def _ask() -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The nodes that live, and which of them Ray was told to drain: by an autoscaler, or by who takes them back."""
    import ray
    from ray._private.state import state

    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    leaving: set[str] = set()
    with contextlib.suppress(AttributeError, TypeError):  # a question of Ray's own, which may change
        leaving = set(state.get_draining_nodes() or {})
    return alive, leaving & alive.keys()


def node_name(node: dict[str, Any]) -> str:
    """A node for people: its host, its address, and the first digits of its id."""
    return f"{node.get('NodeManagerHostname') or 'node'} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
