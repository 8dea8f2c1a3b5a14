"""``accuracy.md``: final configurations beside published ones, goals, cost, curves, and what is still to be done.

All of it is from records; beside it, in ``accuracy/``, lie the configurations to repeat it with, every cell's numbers
unrounded, and the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ablations.accuracy.curves import draw_curves
from ablations.accuracy.page_tables import (
    ablation_table,
    beside_published_table,
    cost_table,
    goals_table,
    scores_table,
    tuning_table,
)
from ablations.accuracy.steps import AccuracyCampaign, Task
from ablations.accuracy.tried import write_tried
from ablations.cells import TABLE, write_cells
from ablations.reports.markdown_text import code_block, escape
from ablations.tuning.ledger import merge_ledgers
from altformer.files import write_text

PAGE, BESIDE = "accuracy.md", "accuracy"


def publish(campaigns: Sequence[AccuracyCampaign], folder: Path) -> list[Path]:
    """Write the page, what lies beside it, the log of what did not help and the ledgers; returns what was written."""
    page, beside = folder / PAGE, folder / BESIDE
    trained = [(campaign, task) for campaign in campaigns for task in _published_tasks(campaign)]
    commands = {}
    for campaign, task in trained:
        file = beside / f"{campaign.name}-{task.step}-{task.dataset}.yaml"
        write_text(file, yaml.safe_dump(task.config.model_dump(mode="json"), sort_keys=False))
        commands[campaign.name, task.label] = _command(file, task)
    curves = [drawn for campaign in campaigns for drawn in draw_curves(campaign, beside)]
    every = [task for campaign in campaigns for step in campaign.steps() for task in step.tasks]
    write_cells(beside / TABLE, [result for task in every for result in task.results])
    images = [f"![Learning curves: {path.stem}]({BESIDE}/{path.name})" for path in curves]
    write_text(page, "\n\n".join(_sections(campaigns, trained, commands, images)) + "\n")
    datasets = {campaign.data(task.config.dataset).name for campaign, task in trained}
    ledgers = merge_ledgers(campaigns[0].out.resolve(), folder, datasets)
    return [page, beside, write_tried(campaigns, folder), *ledgers]


def _published_tasks(campaign: AccuracyCampaign) -> list[Task]:
    """The configurations with a row of their own: of the first and the final step, as soon as a seed is done."""
    steps = [step for step in campaign.steps() if step.name in ("first", "final") and not step.provisional]
    return [task for step in steps for task in step.tasks if task.summary("test_mae").n]


def _is_comparable(campaign: AccuracyCampaign, task: Task) -> bool:
    """Whether a configuration is trained in full on the data set itself, and scored on every window."""
    return not campaign.rehearsal and campaign.plan.profile == "full" and task.config.dataset.test_stride == 1


def _sections(
    campaigns: Sequence[AccuracyCampaign],
    trained: Sequence[tuple[AccuracyCampaign, Task]],
    commands: dict[tuple[str, str], str],
    images: Sequence[str],
) -> Iterator[str]:
    names = " ".join(campaign.plan.called for campaign in campaigns)
    yield "# Accuracy"
    yield (
        f"Written by `altformer campaign {names} --publish` from the records of the cells. Mean ± standard deviation "
        "over seeds; masked MAE, RMSE and MAPE (%) on the test set, which is read once for each seed of a final "
        "configuration. Every choice was made on validation."
    )
    if not all(_is_comparable(campaign, task) for campaign, task in trained):
        yield "> **A rehearsal, the quick profile or not every window scored: not comparable with published numbers.**"
    for dataset in dict.fromkeys(name for campaign in campaigns for name in campaign.datasets()):
        yield f"## {escape(dataset)}"
        yield beside_published_table(dataset, [pair for pair in trained if pair[1].dataset == dataset])
    yield "## Goals"
    yield goals_table(campaigns)
    if trained:
        yield "## Errors at every step"
        yield scores_table(trained)
        yield "## Cost"
        yield cost_table(trained)
        yield "Repeated from the root of the repository, seeds that were trained one by one with `--seed` 0 and up, by:"
        yield code_block(commands.values())
    if images:
        yield "## Learning curves"
        yield from images
    yield from _of_each("Tuning", campaigns, tuning_table)
    yield from _of_each("Ablations", campaigns, ablation_table)
    yield from _open(campaigns)


def _of_each(
    title: str, campaigns: Iterable[AccuracyCampaign], make: Callable[[AccuracyCampaign], str]
) -> Iterator[str]:
    for campaign in campaigns:
        if text := make(campaign):
            yield f"## {title}: {escape(campaign.name)}"
            yield text


def _open(campaigns: Sequence[AccuracyCampaign]) -> Iterator[str]:
    """What is not done, by what it waits for."""
    for needs_gpu, title in ((True, "Waits for a GPU"), (False, "Not done yet")):
        lines = [
            line
            for campaign in campaigns
            if (campaign.plan.machine.device == "cuda") == needs_gpu
            for line in _open_steps(campaign)
        ]
        if lines:
            yield f"## {title}"
            yield "\n".join(lines)


def _open_steps(campaign: AccuracyCampaign) -> Iterator[str]:
    for step in campaign.steps():
        open_tasks = [task for task in step.tasks if task.open_cells]
        if step.is_settled:
            continue
        cells = sum(len(task.open_cells) for task in open_tasks)
        total = sum(len(task.cells) for task in step.tasks)
        names = ", ".join(task.name for task in open_tasks)
        after = "; starts from what is chosen before" if step.provisional else ""
        command = f"altformer campaign {campaign.plan.called}{' --rehearse' if campaign.rehearsal else ''}"
        what = escape(f"{campaign.name}, {step.name}: {cells} of {total} cells ({names}){after}")
        yield f"- {what}: `{command}`"


def _command(file: Path, task: Task) -> str:
    """Seeds that were trained at once are repeated at once: apart they round otherwise."""
    record: Any = task.results[0].record or {}
    machine = record.get("machine") or {}
    options = "".join(f" --{key} {machine[key]}" for key in ("device", "threads") if key in machine)
    together = (record.get("provenance") or {}).get("together")
    seeds = f"--seeds {','.join(map(str, together))}" if together else "--seed 0"
    return f"altformer train --cfg {file} {seeds}{options}"
