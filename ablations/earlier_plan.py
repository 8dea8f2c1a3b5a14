"""What a matrix's folder says of its earlier plan: the seeds of each arm, and the looks at its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Earlier:
    """``seeds`` by arm, and ``looks``: the numbers of seeds at which a report was made with every cell settled."""

    seeds: Mapping[str, frozenset[int]] = field(default_factory=dict)
    looks: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of seeds of the arm that has most."""
        return 1 + max((max(own) for own in self.seeds.values()), default=-1)


def read_earlier(folder: Path) -> Earlier:
    """From the ``plan.json`` of a folder; nothing without one, or from one that is damaged."""
    try:
        plan = json.loads((folder / "plan.json").read_text())
        seeds: dict[str, set[int]] = {}
        for cell in plan["cells"]:
            seeds.setdefault(str(cell["arm"]), set()).add(int(cell["seed"]))
        looks = tuple(int(look) for look in plan.get("looks", ()))
        return Earlier({arm: frozenset(own) for arm, own in seeds.items()}, looks)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Earlier()
