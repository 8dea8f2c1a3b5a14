"""Claims that a metric is below a number: where the number counts, and what was measured in any case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.cells import CellResult
from ablations.claims import Claim
from ablations.evidence import CONTRADICTED, SUPPORTED, UNDECIDED, Evidence, untestable
from ablations.power import MIN_SEEDS
from ablations.statistics import Summary, summarise


def of_threshold(claim: Claim, evidence: Evidence) -> str:
    """A metric below a number, for runs that are comparable with the guide's: full profile, whole epochs, its scoring.

    A seed that diverged or was stopped before the epoch leaves a selection, which decides nothing; any seed without a
    value is named.
    """
    assert claim.metric is not None and claim.below is not None
    cells = evidence.cells[claim.arm]
    values = {cell.seed: _at_epoch(cell, claim.metric, claim.epoch) for cell in cells}
    summary = summarise([value for value in values.values() if value is not None])
    begun = any(cell.record for cell in cells)
    without = [f"seed {cell.seed} ({_why(cell)})" for cell in cells if begun and values[cell.seed] is None]
    measured = "" if summary.mean is None else f"measured {summary.mean:.3f}"
    if summary.low is not None and summary.high is not None and summary.n >= MIN_SEEDS:
        measured += f" [{summary.low:.3f}, {summary.high:.3f}]"
    if without:
        measured = "; ".join(filter(None, [measured, f"no value of {', '.join(without)}"]))
    if reasons := list(_reasons(claim, evidence, cells)):
        command = f"test it with: {_command(claim, evidence)}" if evidence.repeat else ""
        return untestable("; ".join(filter(None, [*reasons, measured, command])))
    if diverged := sum(cell.status == "diverged" for cell in cells):
        return f"not compared: {diverged} of {len(cells)} seeds diverged ({measured})"
    if any(cell.status == "stopped" and values[cell.seed] is None for cell in cells):
        return f"not compared: early stopping selected the seeds ({measured})"
    if summary.mean is None:
        at = f" at epoch {claim.epoch}" if claim.epoch else ""
        return untestable("; ".join(filter(None, [f"no cell has {claim.metric}{at}", measured])))
    return f"{_decided(summary, claim.below)} ({measured})"


def _decided(summary: Summary, below: float) -> str:
    """The interval over seeds lies below the number, above it, or around it."""
    if summary.n < MIN_SEEDS or summary.low is None or summary.high is None:
        return "not enough seeds"
    if summary.high < below:
        return SUPPORTED
    return CONTRADICTED if summary.low >= below else UNDECIDED


def _reasons(claim: Claim, evidence: Evidence, cells: Sequence[CellResult]) -> Iterator[str]:
    """Why the number does not count for these cells; nothing where it does."""
    if evidence.profile == "quick":
        yield "quick profile; the guide's numbers are of full training"
    if claim.dataset is not None and claim.dataset != evidence.dataset:
        yield f"the number is of {claim.dataset}"
    trainings = [cell.training for cell in cells if cell.record and cell.status != "failed"]
    losses = {str(training.get("loss", "masked_mae")) for training in trainings}
    if claim.metric == "val_mae_unmasked" and trainings and losses != {"mae_unmasked"}:
        yield f"trained with {', '.join(sorted(losses))}; the guide's scoring needs loss: mae_unmasked"
    if evidence.profile == "quick":
        return
    if any(training.get("steps_per_epoch") is not None for training in trainings):
        yield "steps_per_epoch is set, so that an epoch is no whole one"
    fewest = min((training["epochs"] for training in trainings if "epochs" in training), default=claim.needed_epochs)
    if fewest < claim.needed_epochs:
        yield f"trained for {fewest} epochs; the number is of {claim.needed_epochs}"


def _command(claim: Claim, evidence: Evidence) -> str:
    dataset = f" --dataset {claim.dataset}" if claim.dataset not in (None, evidence.dataset) else ""
    unmasked = claim.metric == "val_mae_unmasked" and "training.loss" not in evidence.varied
    return f"{evidence.repeat}{dataset} --profile full" + (" --set loss=mae_unmasked" if unmasked else "")


def _why(cell: CellResult) -> str:
    """Why a cell has no value: what ended it, and when."""
    epochs = (cell.record or {}).get("epochs")
    return cell.status if cell.status in ("failed", "not run") else f"{cell.status} after epoch {epochs}"


def _at_epoch(cell: CellResult, metric: str, epoch: int | None) -> float | None:
    """A validation metric after an epoch (from 1), or at the best one of a cell that ran to its end."""
    if epoch is None:
        return cell.value(metric) if cell.status == "done" else None
    return cell.at_epoch(metric, epoch)
