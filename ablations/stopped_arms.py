"""What early stopping did to a matrix: which arms it stopped and where they stood then, and what it saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ablations.cells import CellResult
from ablations.early_stopping import Asha, Futility
from ablations.matrix import Matrix
from ablations.power import MIN_SEEDS


@dataclass(frozen=True)
class StoppedArm:
    """An arm with stopped cells, as it stood at the first epoch that stopped one.

    ``epochs`` are those at which its cells were stopped, each once, rising. ``value`` and ``baseline`` are means over
    ``seeds`` of the best validation objective up to the first of them, ``difference`` is arm minus baseline there: a
    description of what the rule saw, without a p value, since the rule chose the moment. None where no seed has both.
    """

    epochs: tuple[int, ...]
    seeds: tuple[int, ...]
    value: float | None
    baseline: float | None

    @property
    def epoch(self) -> int:
        """The first epoch that stopped one of its cells."""
        return self.epochs[0]

    @property
    def difference(self) -> float | None:
        """Arm minus baseline; below zero is better."""
        return None if self.value is None or self.baseline is None else self.value - self.baseline

    @property
    def where(self) -> str:
        """For instance ``stopped at epoch 12``."""
        if len(self.epochs) == 1:
            return f"stopped at epoch {self.epoch}"
        return f"stopped at epochs {self.epoch} to {self.epochs[-1]}"


def stopped_arm(
    cells: Sequence[CellResult], baseline: Sequence[CellResult] | None, objective: str
) -> StoppedArm | None:
    """Where an arm stood when it was stopped; None for an arm without a stopped cell. ``baseline``: None if it is."""
    epochs = sorted({int((cell.record or {})["epochs"]) for cell in cells if cell.status == "stopped"})
    if not epochs:
        return None
    own, others = (_best_until(some, epochs[0], objective) for some in (cells, baseline or ()))
    seeds = tuple(sorted(own.keys() & others.keys()))
    if not seeds:
        return StoppedArm(tuple(epochs), (), None, None)
    means = (fmean(values[seed] for seed in seeds) for values in (own, others))
    return StoppedArm(tuple(epochs), seeds, *means)


def _best_until(cells: Iterable[CellResult], epoch: int, objective: str) -> dict[int, float]:
    """By seed the lowest objective of the first epochs, of cells that got so far or ended well before.

    As the rule (cluster.futility) has it, which takes no notice of what becomes of a cell later.
    """
    found: dict[int, float] = {}
    for cell in cells:
        if cell.status == "done" or len(cell.curve) >= epoch:
            values = [value for one in cell.curve[:epoch] if (value := one.get(objective)) is not None]
            finite = [float(value) for value in values if math.isfinite(value)]
            if finite:
                found[cell.seed] = min(finite)
    return found


def scheduler_text(matrix: Matrix, profile: str, results: Sequence[CellResult]) -> str:
    """Which rule ran, what it stopped, and what that means for the comparison."""
    scheduler = matrix.scheduler
    if isinstance(scheduler, Asha):
        return (
            f"asha on {matrix.objective} by epoch (grace period {scheduler.grace_period.of(profile)}, reduction factor "
            f"{scheduler.reduction_factor}): a search. Cells that fell behind were stopped, which also depends on the "
            "order in which they ran. An arm with a stopped cell is neither averaged nor compared, and differences "
            "among the arms that finished are those of a selection: confirm a finding in a comparison with scheduler: "
            f"none. {_stopped(results)}"
        )
    if isinstance(scheduler, Futility):
        if reason := _never(scheduler, matrix, results):
            return f"futility on {matrix.objective}, but {reason}: every cell ran to its own end, as with none."
        shares = _listed([f"{100 * share:g}" for share in scheduler.rungs])
        epochs = _baseline_epochs(matrix, results)
        rungs = scheduler.rungs_of(epochs) if epochs else ()  # several shares may be one rung
        count = len(rungs or scheduler.rungs)
        at = f": after {'epoch' if len(rungs) == 1 else 'epochs'} {_listed([*map(str, rungs)])}" if rungs else ""
        return (
            f"futility on {matrix.objective} (margin {scheduler.margin:g}, alpha {scheduler.alpha:g} over "
            f"{_count(count, 'rung')}, at {shares} % of the epochs{at}). An arm is judged as a whole once all its "
            "seeds are at a rung, by a one-sided paired t test against the baseline there, and stopped if it is shown "
            "to be worse by more than the margin. Neither the order in which cells ran nor other arms play a part, and "
            "the baseline is never stopped. A stopped arm is neither averaged nor compared; what remains of a "
            f"selection in the arms that finished is measured in docs/early-stopping.md. {_stopped(results)}"
        )
    return "none: every cell runs to its own end, so that no arm and no seed is selected while training."


def _never(rule: Futility, matrix: Matrix, results: Sequence[CellResult]) -> str:
    """Why the rule could stop nothing, whatever the cells do; empty where it could."""
    if any(result.status == "stopped" for result in results):
        return ""
    if results and len({result.seed for result in results}) < MIN_SEEDS:
        return f"with fewer than {MIN_SEEDS} seeds it stops nothing"
    epochs = _baseline_epochs(matrix, results)
    without = epochs is not None and not rule.rungs_of(epochs)
    return f"in {_count(epochs or 0, 'epoch')} there is no rung before the last" if without else ""


def _stopped(results: Sequence[CellResult]) -> str:
    """Arms and cells stopped, and roughly what that saved."""
    stopped = [result for result in results if result.status == "stopped"]
    if not stopped:
        return "It stopped no cell."
    arms = {result.arm for result in stopped}
    counts = f"It stopped {_count(len(stopped), 'cell')} of {len(results)}, of {_count(len(arms), 'arm')}"
    share = epochs_saved(results)
    return f"{counts}." if share is None else f"{counts}, which saved about {100 * share:.0f} % of the epochs planned."


def epochs_saved(results: Sequence[CellResult]) -> float | None:
    """The share of all planned epochs that stopped cells did not train; None where the planned ones are not known.

    A stopped cell might have ended before its last planned epoch by itself, so this is at most what was saved.
    """
    planned = {result.cell_hash: _planned_epochs(result) for result in results}
    known = [epochs for epochs in planned.values() if epochs]
    if not known:
        return None
    usual = fmean(known)  # for cells without a record
    saved = sum(
        (planned[result.cell_hash] or usual) - int((result.record or {})["epochs"])
        for result in results
        if result.status == "stopped"
    )
    return saved / sum(epochs or usual for epochs in planned.values())


def _baseline_epochs(matrix: Matrix, results: Sequence[CellResult]) -> int | None:
    planned = (_planned_epochs(result) for result in results if result.arm == matrix.baseline)
    return next(filter(None, planned), None)


def _planned_epochs(result: CellResult) -> int | None:
    epochs = result.training.get("epochs")
    return int(epochs) if epochs else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
