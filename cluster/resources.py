"""What one trial asks for, whether it fits on the nodes there are, and how many fit at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import pydantic

from cluster.errors import ClusterError

Node = Mapping[str, float]

# Ray counts in 1/10000; 3 x 1/3 of a GPU must count as one.
_ROUNDING = 1e-4


class Resources(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Workers of a trial and what each holds.

    `gpus_per_worker` None means automatic: 1 if the cluster has GPUs, else 0. A fraction puts several trials on one
    GPU and needs `workers: 1`, since two ranks of one group cannot share a GPU (NCCL refuses).
    """

    workers: int = pydantic.Field(default=1, ge=1)
    cpus_per_worker: int = pydantic.Field(default=1, ge=1)
    gpus_per_worker: float | None = pydantic.Field(default=None, ge=0)
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"

    @pydantic.model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        gpus = self.gpus_per_worker or 0.0
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus_per_worker is a whole number or a fraction below 1, not {gpus:g}")
        if 0 < gpus < 1 and self.workers > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} with {self.workers} workers: a fraction of a GPU needs workers: 1, "
                "since two ranks of one group cannot share a GPU"
            )
        return self

    def resolved(self, nodes: Sequence[Node]) -> Resources:
        """The same with automatic GPUs settled for these nodes."""
        if self.gpus_per_worker is not None:
            return self
        return self.model_copy(update={"gpus_per_worker": 1.0 if _total(nodes, "GPU") >= 1 else 0.0})

    def slots(self, nodes: Sequence[Node]) -> int:
        """How many trials run at once on idle nodes with these totals; 0 if not even one fits."""
        need = self.resolved(nodes)
        places = [need.workers_on(node) for node in nodes]
        if need.placement == "STRICT_PACK" or need.workers == 1:
            return sum(count // need.workers for count in places)
        if need.placement == "STRICT_SPREAD":
            # k trials fit if every one finds `workers` distinct nodes, each node giving at most one place per trial.
            trials = sum(places) // need.workers
            while trials and sum(min(count, trials) for count in places) < trials * need.workers:
                trials -= 1
            return trials
        return sum(places) // need.workers

    def check(self, nodes: Sequence[Node]) -> None:
        """Raises ClusterError, saying what is missing, if one trial does not fit on these nodes."""
        need = self.resolved(nodes)
        if need.slots(nodes) > 0:
            return
        alike = Counter(map(_described, nodes))
        there = ", ".join(f"{_count(number)} with {node}" for node, number in alike.items()) or "no node"
        gpus = f" and {need.gpus_per_worker:g} GPU" if need.gpus_per_worker else ""
        asked = f"{need.workers} x ({need.cpus_per_worker} CPU{gpus}), placement {need.placement}"
        missing, fewer = need._missing(nodes), need._fewer(nodes)
        way_out = f"; with workers: {fewer} it would fit" if fewer else ""
        raise ClusterError(f"one trial asks for {asked}, but the cluster has {there}: {missing}{way_out}")

    def bundle(self) -> dict[str, float]:
        """What a trial's own process holds, with the GPUs settled."""
        if self.workers == 1:
            return {"CPU": float(self.cpus_per_worker), "GPU": self.gpus_per_worker or 0.0}
        # The workers hold the CPUs and GPUs in a group of their own. Tune wants something for the trial's own process:
        # one byte, since even 0.01 CPU would keep two workers from fitting on two CPUs.
        return {"memory": 1.0}

    def double_bundle(self, nodes: Sequence[Node]) -> dict[str, float] | None:
        """Twice a trial's share of its device, so that half as many are on it; None where that is not to be had."""
        gpus = self.gpus_per_worker or 0.0
        if self.workers > 1 or gpus >= 1:
            return None
        bundle = self.bundle() | ({"GPU": min(2 * gpus, 1.0)} if gpus else {"CPU": 2.0 * self.cpus_per_worker})
        return bundle if fits_on_one(bundle, nodes) else None

    def workers_on(self, node: Node) -> int:
        """How many workers an idle node holds, with the GPUs settled."""
        count = int(node.get("CPU", 0.0) / self.cpus_per_worker + _ROUNDING)
        gpus = self.gpus_per_worker or 0.0
        if gpus >= 1:
            count = min(count, int(node.get("GPU", 0.0) / gpus + _ROUNDING))
        elif gpus > 0:
            # A fraction never spans two GPUs, so each GPU holds a whole number of trials.
            count = min(count, int(node.get("GPU", 0.0)) * int(1 / gpus + _ROUNDING))
        return count

    def _missing(self, nodes: Sequence[Node]) -> str:
        gpus = self.gpus_per_worker or 0.0
        if gpus and _total(nodes, "GPU") == 0:
            return "no GPU is there (gpus_per_worker: 0 trains on CPUs)"
        for name, each in (("CPU", float(self.cpus_per_worker)), ("GPU", gpus)):
            most, total = max((node.get(name, 0.0) for node in nodes), default=0.0), _total(nodes, name)
            if each > most:
                return f"a worker needs {each:g} {name} on one node, the largest has {most:g}"
            if each * self.workers > total:
                return f"{each * self.workers:g} {name} are needed, {total:g} are there"
        if self.placement == "STRICT_PACK":
            return f"no single node holds {self.workers} workers (placement: PACK may use several)"
        if self.placement == "STRICT_SPREAD":
            return f"{self.workers} nodes with room are needed (placement: SPREAD may put several workers on one)"
        fit = sum(map(self.workers_on, nodes))
        room = f"only {fit} of {self.workers} workers find room, each with all of its CPUs and GPUs on one node"
        return room if fit else "CPUs and GPUs are not on the same nodes"

    def _fewer(self, nodes: Sequence[Node]) -> int:
        """The most workers that a trial may have to fit; 0 if not even one does."""
        counts = range(self.workers - 1, 0, -1)
        return next((count for count in counts if self.model_copy(update={"workers": count}).slots(nodes)), 0)


def fits_on_one(bundle: Mapping[str, float], nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes has all that a bundle asks for."""
    return any(all(node.get(name, 0.0) >= each for name, each in bundle.items()) for node in nodes)


def _total(nodes: Sequence[Node], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _described(node: Node) -> str:
    return f"{node.get('CPU', 0.0):g} CPU and {node.get('GPU', 0.0):g} GPU"


def _count(nodes: int) -> str:
    return "a node" if nodes == 1 else f"{nodes} nodes"
