"""Our numbers beside the published ones of the same data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.arm_results import column_of
from ablations.claims import PublishedModel
from ablations.statistics import Summary


@dataclass(frozen=True)
class PublishedRow:
    """One model: what is published (None where nothing is), and our summaries over seeds, in the same order.

    ``mae`` by the steps of the report, then RMSE and MAPE over all steps. Without an arm there are no numbers of ours,
    and the baseline's own row has none that are published: then that half is empty.
    """

    model: str
    arm: str | None
    theirs: tuple[float | None, ...]
    ours: tuple[Summary, ...]
    their_parameters: str | None
    our_parameters: int | None


def beside_published(
    published: Mapping[str, PublishedModel],
    baseline: str | None,
    steps: Sequence[str],
    metrics: Mapping[str, Mapping[str, Summary]],
    params: Mapping[str, int | None],
) -> tuple[PublishedRow, ...]:
    """A row for each published model, and before them one for the baseline arm where nothing is published of it.

    ``metrics`` are the summaries by arm and column of cells.csv; an arm that is not among them has no numbers of ours.
    """
    columns = [*(column_of("mae", step) for step in steps), "test_rmse", "test_mape"]

    def ours(arm: str) -> tuple[Summary, ...]:
        return tuple(metrics[arm][column] for column in columns)

    rows, named = [], {one.arm for one in published.values()}
    if published and baseline is not None and baseline in metrics and baseline not in named:
        rows.append(PublishedRow(baseline, baseline, (), ours(baseline), None, params[baseline]))
    for model, numbers in published.items():
        arm = numbers.arm if numbers.arm in metrics else None
        theirs = (*(numbers.mae(step) for step in steps), numbers.rmse, numbers.mape)
        counted = None if arm is None else params[arm]
        rows.append(PublishedRow(model, arm, theirs, ours(arm) if arm else (), numbers.parameters, counted))
    return tuple(rows)
