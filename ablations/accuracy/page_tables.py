"""The tables of the accuracy page, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablations.accuracy.plan import meets
from ablations.accuracy.steps import AccuracyCampaign, Step, Task
from ablations.arm_results import METRICS, column_of
from ablations.cells import MISSING, by_seed
from ablations.claims import PublishedModel
from ablations.matrix import load_matrix, matrix_file
from ablations.power import MIN_SEEDS
from ablations.reports.markdown_text import escape, table
from ablations.reports.numbers import difference, number, spread
from ablations.statistics import compare_all
from ablations.tuning.campaign import field_names
from experiments.cell import at_once
from experiments.provenance import installed_text

STEPS = ("3", "6", "12", "all")
Trained = Sequence[tuple[AccuracyCampaign, Task]]


def _published_models(dataset: str) -> Mapping[str, PublishedModel]:
    """The published numbers of a data set, as the matrix of baselines has them."""
    return load_matrix(matrix_file("baselines")).published.get(dataset, {})


def beside_published_table(dataset: str, trained: Trained) -> str:
    """Our configurations, then the published ones: MAE at each step, and MAE, RMSE and MAPE over all."""
    header = ["model", "seeds", *(f"MAE, step {step}" for step in STEPS[:-1]), "MAE", "RMSE", "MAPE", "parameters"]
    columns = [*(column_of("mae", step) for step in STEPS), "test_rmse", "test_mape"]
    rows = [
        [_name(campaign, task), _seeds(task), *(_spread(task, column) for column in columns), f"{task.params:,}"]
        for campaign, task in trained
    ]
    for model, known in _published_models(dataset).items():
        numbers = [*map(known.mae, STEPS), known.rmse, known.mape]
        rows.append(
            [f"{model} (published)", MISSING, *(number(value, 2) for value in numbers), known.parameters or MISSING]
        )
    return table(header, rows, numbers=range(1, len(header))) if rows else "Nothing is published or trained yet."


def goals_table(campaigns: Sequence[AccuracyCampaign]) -> str:
    """Every goal with the number reached by the final configuration, else by the first one."""
    rows: list[list[str]] = []
    for campaign in campaigns:
        for dataset, goals in campaign.plan.goals.items():
            task, start = _judged(campaign, dataset), [campaign.name, dataset]
            reached = MISSING if task is None else _spread(task, "test_mae")
            mean = None if task is None else task.summary("test_mae").mean
            rows += [[*start, f"test MAE {bound}", reached, _met(task, mean, bound)] for bound in goals.mae]
            if goals.minutes is not None:
                seconds = None if task is None else task.summary("train_seconds").mean
                minutes = None if seconds is None or task is None else seconds * seeds_at_once(task) / 60
                bound = f"< {goals.minutes:g}"
                rows.append([*start, f"minutes per seed {bound}", number(minutes, 1), _met(task, minutes, bound)])
    return table(["campaign", "data set", "goal", "reached", "verdict"], rows, numbers=[3])


def scores_table(trained: Trained) -> str:
    """MAE, RMSE and MAPE at steps 3, 6, 12 and over all, of each of our configurations."""
    header = ["configuration", "data set", *(f"{metric.upper()} {step}" for step in STEPS for metric in METRICS)]
    rows = [
        [
            _name(campaign, task),
            task.dataset,
            *(_spread(task, column_of(metric, step)) for step in STEPS for metric in METRICS),
        ]
        for campaign, task in trained
    ]
    return table(header, rows, numbers=range(2, len(header)))


def cost_table(trained: Trained) -> str:
    """Parameters, epochs, seconds of training per seed, hardware and commit."""
    header = ["configuration", "data set", "parameters", "seeds", "epochs", "seconds per seed", "hardware", "commit"]
    rows = [
        [
            _name(campaign, task),
            task.dataset,
            f"{task.params:,}",
            _seeds(task),
            spread(task.summary("epochs"), 1),
            spread(task.summary("train_seconds"), 0) + _share(task),
            "; ".join(_distinct(task, hardware_of)),
            "; ".join(_distinct(task, commit_of)),
        ]
        for campaign, task in trained
    ]
    return table(header, rows, numbers=[2, 4, 5])


def tuning_table(campaign: AccuracyCampaign) -> str:
    """The candidates of every round that has begun, by validation MAE."""
    steps = [step for step in campaign.steps() if step.name.startswith("tune") and _is_begun(step)]
    header = ["round", "candidate", "changes", "parameters", "val MAE", "seconds", ""]
    rows = []
    for step in steps:
        for task in sorted(step.tasks, key=lambda task: (task.val is None, task.val)):
            verdict = "chosen" if task is step.best and step.is_settled else status_of(task)
            seconds = sum(result.value("train_seconds") or 0.0 for result in task.results)
            numbers = [f"{task.params:,}", number(task.val, 4), number(seconds or None, 0)]
            rows.append([step.name.removeprefix("tune "), task.name, field_names(task.settings), *numbers, verdict])
    return table(header, rows, numbers=[3, 4, 5]) if rows else ""


def ablation_table(campaign: AccuracyCampaign) -> str:
    """Each arm against the final configuration on the same seeds: paired differences, verdicts after Holm."""
    steps = {step.name: step for step in campaign.steps()}
    step, plan = steps.get("ablate"), campaign.plan.steps.ablate
    if step is None or plan is None or step.provisional or not any(task.summary("test_mae").n for task in step.tasks):
        return ""
    [final] = [task for task in steps["final"].tasks if task.dataset == plan.dataset]
    values = {task.name: by_seed(task.results, "test_mae") for task in step.tasks}
    found = compare_all(by_seed(final.results, "test_mae"), values)
    rows = [["final", "", f"{final.params:,}", _seeds(final), _spread(final, "test_mae"), MISSING, "baseline"]]
    for task in step.tasks:
        comparison = found[task.name]
        verdict = comparison.note or comparison.verdict
        numbers = [f"{task.params:,}", _seeds(task), _spread(task, "test_mae"), difference(comparison)]
        rows.append([task.name, field_names(task.settings), *numbers, verdict])
    header = ["arm", "changes", "parameters", "seeds", "test MAE", "difference", "verdict"]
    return table(header, rows, numbers=[2, 4, 5])


def seeds_at_once(task: Task) -> int:
    """How many seeds of a configuration were trained as one model: a seed's seconds are this share of its time; 1."""
    return max((at_once(epoch) for at in task.cells for epoch in at.result.curve), default=1) or 1


def _share(task: Task) -> str:
    return f", {found} at once" if (found := seeds_at_once(task)) > 1 else ""


def status_of(task: Task) -> str:
    """How the seeds that have no number have ended."""
    found = dict.fromkeys(result.status for result in task.results)
    return ", ".join(status for status in found if status not in ("done", "stopped"))


def commit_of(record: Mapping[str, Any]) -> str:
    """The commit that trained a cell, short, and whether it had changes; the installed version where none is known."""
    made = record.get("provenance") or {}
    if not made.get("git_commit"):
        return installed_text(made.get("versions")) or "unknown"
    commit = str(made["git_commit"])[:10]
    return f"{commit} with changes" if made.get("git_dirty") else commit


def hardware_of(record: Mapping[str, Any]) -> str:
    """What a cell was trained on: the GPU, else the processor with the threads that were used."""
    made = (record.get("provenance") or {}).get("hardware") or {}
    threads = (record.get("machine") or {}).get("threads")
    return str(made.get("gpu") or f"{made.get('cpu', 'unknown')}, {threads} threads")


def _judged(campaign: AccuracyCampaign, dataset: str) -> Task | None:
    """What goals of a data set are judged by: its final configuration if that has a number, else the first one."""
    tasks = [
        task
        for step in reversed(campaign.steps())
        if step.name in ("final", "first") and not step.provisional
        for task in step.tasks
        if task.dataset == dataset and task.summary("test_mae").n
    ]
    return next(iter(tasks), None)


def _met(task: Task | None, value: float | None, bound: str) -> str:
    if task is None or value is None:
        return "open"
    if task.cells[0].cell.profile == "rehearsal":
        return "not judged: a rehearsal"
    seeds = task.summary("test_mae").n
    few = "" if seeds >= MIN_SEEDS else f", by {seeds} {'seed' if seeds == 1 else 'seeds'} only"
    return f"{'met' if meets(value, bound) else 'not met'}{few} ({task.step})"


def _is_begun(step: Step) -> bool:
    return not step.provisional and any(at.record for task in step.tasks for at in task.cells)


def _name(campaign: AccuracyCampaign, task: Task) -> str:
    return f"{campaign.name}: {task.step}"


def _seeds(task: Task) -> str:
    done = task.summary("test_mae").n
    return str(done) if done == len(task.cells) else f"{done} of {len(task.cells)} ({status_of(task)})"


def _spread(task: Task, column: str) -> str:
    return spread(task.summary(column), 2 if "mape" in column else 3)


def _distinct(task: Task, text_of: Any) -> list[str]:
    return list(dict.fromkeys(escape(text_of(at.record)) for at in task.cells if at.record))
