"""Validation MAE by epoch: of the first and final configurations, and of the candidates of each round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablations.accuracy.plan import START
from ablations.accuracy.steps import AccuracyCampaign, Task
from experiments.figure import COLOURS, LINES, QUIET, drawing, short

Panel = tuple[str, Sequence[Task]]
ABOVE = 1.3  # of the lowest error: higher ones, of the first epochs, are cut off


def draw_curves(campaign: AccuracyCampaign, folder: Path) -> list[Path]:
    """A figure of the first and final configurations and one of the candidates, where there are any; their paths."""
    drawn = []
    note = "not comparable with published numbers" if campaign.rehearsal or campaign.plan.profile == "quick" else ""
    for name, found in ((campaign.name, _by_dataset(campaign)), (f"{campaign.name}-tune", _by_round(campaign))):
        panels = [(title, tasks) for title, tasks in found if any(map(_curves, tasks))]
        if panels:
            drawn.append(path := folder / f"{name}.png")
            with drawing(path, (max(3.6 * len(panels), 5.0), 3.0), panels=len(panels), note=note) as axes:
                for one, (title, tasks) in zip(axes, panels, strict=True):
                    _draw(one, title, tasks)
    return drawn


def _by_dataset(campaign: AccuracyCampaign) -> list[Panel]:
    steps = [step for step in campaign.steps() if step.name in ("first", "final") and not step.provisional]
    tasks = [task for step in steps for task in step.tasks]
    return [(name, [task for task in tasks if task.dataset == name]) for name in campaign.datasets()]


def _by_round(campaign: AccuracyCampaign) -> list[Panel]:
    """The best one last, so that it is drawn on top of the others."""
    rounds = [step for step in campaign.steps() if step.name.startswith("tune") and not step.provisional]
    return [(step.name, sorted(step.tasks, key=lambda task: task is step.best)) for step in rounds]


def _draw(axes: Any, title: str, tasks: Sequence[Task]) -> None:
    lowest = min(epoch["val_mae"] for task in tasks for curve in _curves(task) for epoch in curve)
    coloured = [task for task in tasks if len(tasks) <= len(COLOURS) or task.name == START or task is tasks[-1]]
    for task in tasks:
        place = coloured.index(task) if task in coloured else None
        colour = QUIET if place is None else COLOURS[place]
        name = short(task.step if task.name == task.dataset else task.name)
        for number, curve in enumerate(_curves(task)):
            axes.plot(
                [epoch["epoch"] for epoch in curve],
                [epoch["val_mae"] for epoch in curve],
                color=colour,
                linestyle=LINES[(place or 0) % len(LINES)],
                linewidth=1.2,
                label=name if number == 0 and place is not None else None,
            )
    axes.set_title(title)
    axes.set(xlabel="epoch", ylabel="validation MAE", ylim=(0.99 * lowest, ABOVE * lowest))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _curves(task: Task) -> list[Any]:
    return [at.record["curve"] for at in task.cells if at.record and at.record["curve"]]
