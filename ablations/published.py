"""Our numbers beside the published ones of the same data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.claims import PublishedModel
from ablations.statistics import Summary

MAE_COLUMN = {"all": "test_mae"}


@dataclass(frozen=True)
class PublishedRow:
    """One model: what is published (None where nothing is), and our summaries over seeds, in the same order.

    ``mae`` by the steps of the report, then RMSE and MAPE over all steps.
    """

    model: str
    arm: str
    theirs: tuple[float | None, ...]
    ours: tuple[Summary, ...]
    their_parameters: str | None
    our_parameters: int | None


def beside_published(
    published: Mapping[str, PublishedModel],
    steps: Sequence[str],
    metrics: Mapping[str, Mapping[str, Summary]],
    params: Mapping[str, int | None],
) -> tuple[PublishedRow, ...]:
    """A row for each published model; ``metrics`` are the summaries by arm and column of cells.csv."""
    columns = [*(MAE_COLUMN.get(step, f"test_mae_{step}") for step in steps), "test_rmse", "test_mape"]
    return tuple(
        PublishedRow(
            model,
            numbers.arm,
            (*(numbers.mae(step) for step in steps), numbers.rmse, numbers.mape),
            tuple(metrics[numbers.arm][column] for column in columns),
            numbers.parameters,
            params[numbers.arm],
        )
        for model, numbers in published.items()
    )
