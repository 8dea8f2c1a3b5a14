"""What a campaign makes of its winner: ensemble, distilled student, corrected forecasts, and all data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ablations.plan import Plan
from ablations.reports.data import ReportData
from ablations.reports.numbers import number
from ablations.reports.paper_table import paper_table, write_paper_table
from ablations.tuning.campaign import Campaign, StageArms, stage_arms, stage_plan, validation
from ablations.tuning.choices import arms_table, unfinished
from ablations.tuning.decision import Decision, best_of
from ablations.tuning.outcome import REPORT, Running, StageOutcome, Table
from ablations.tuning.stages import DatasetsStage, DistillationStage, EnsembleStage, PostprocessingStage, Stage
from altformer.data.datasets import data_dir, load
from altformer.files import write_json
from altformer.scores import flatten
from experiments.compose import compose
from experiments.dataset_choice import at_hand
from experiments.runs import Run

Scores = Mapping[str, Any]


def run_ensemble(running: Running, name: str, stage: EnsembleStage) -> StageOutcome:
    """Train the winner with as many seeds as the largest ensemble has members, and score each average of the first."""
    finished = running.run(name, winner_plan(running, name, max(stage.sizes)))
    if left := unfinished(name, finished):
        return left
    plan = finished.plan
    members = _done_runs(plan)
    scored: dict[str, Sequence[Scores]] = {f"seed {run.record['seed']}": [run.record] for run in members}
    for size in sorted(stage.sizes):
        chosen = members[:size]
        if len(chosen) == size:
            running.ledger.add(name, "ensemble", [run.hash for run in chosen], plan.data.name)
            scored[f"{size} models"] = [kept(plan.folder, f"ensemble-{size}", chosen, partial(_ensemble, chosen))]
    return _compared(running, name, stage, plan, scored, "An average is one forecast of the first seeds that are done.")


def run_distillation(running: Running, name: str, stage: DistillationStage) -> StageOutcome:
    """Train the smaller student alone and with the winner as its teacher; the winner itself stays the winner."""
    teaching = running.run(name, replace(winner_plan(running, name, 1), folder=_beside(running, name, "teacher")))
    if left := unfinished(name, teaching):
        return left
    if not (teachers := _done_runs(teaching.plan)):
        return _skipped(running, name, "the winner has no model that could teach")
    drafts = {
        f"distilled_{weight:g}": {**stage.student, "distillation": {"teacher": teachers[0].hash, "weight": weight}}
        for weight in stage.weights
    }
    arms = stage_arms(running.campaign, name, running.winner, {"student": stage.student, **drafts})
    finished = running.run(name, stage_plan(running.campaign, name, arms, baseline="student"))
    if left := unfinished(name, finished):
        return left
    plan = finished.plan
    decision = _decision(running, name, validation(plan), "students alone and distilled", plan)
    scored: dict[str, Sequence[Scores]] = {"teacher": [teachers[0].record], **_by_arm(plan)}
    tables = (arms_table(plan, decision.candidates), scores_table(running, scored))
    return StageOutcome(name, 0, decision, None, tables, (), (teaching.plan.folder / REPORT, plan.folder / REPORT))


def run_postprocessing(running: Running, name: str, stage: PostprocessingStage) -> StageOutcome:
    """Score the winner's forecasts as they are and with each correction, whose parameter validation chooses."""
    finished = running.run(name, winner_plan(running, name, 1))
    if left := unfinished(name, finished):
        return left
    plan = finished.plan
    if not (runs := _done_runs(plan)):
        return _skipped(running, name, "the winner has no model to forecast with")
    what = "postprocessing-" + "-".join(stage.methods)
    running.ledger.add(name, what, [run.hash for run in runs], plan.data.name)
    result = kept(plan.folder, what, runs, partial(_postprocessed, runs, list(stage.methods)))
    scored: dict[str, Sequence[Scores]] = {"as forecast": [result]}
    scored |= {f"{one['method']}, {one['parameter']} {one['value']:g}": [one] for one in result["methods"]}
    return _compared(running, name, stage, plan, scored, "Parameters were chosen on validation.")


def run_datasets(running: Running, name: str, stage: DatasetsStage) -> StageOutcome:
    """Train the winner on every data set and write the tables for a paper; nothing is decided any more."""
    reports: list[tuple[str, str, ReportData]] = []
    files: list[Path] = []
    for dataset in chosen_datasets(running.campaign, stage):
        finished = running.run(name, _dataset_plan(running, name, stage, dataset))
        files.append(finished.plan.folder / REPORT)
        if left := unfinished(name, finished):
            return left
        reports.append((finished.plan.data.name, finished.plan.matrix.name, finished.report))
    folder = running.campaign.stage_folder(name)
    if running.trained or not (folder / "table.md").is_file():
        write_paper_table(paper_table(reports), folder)
    note = "The tables for a paper are there in Markdown, LaTeX and CSV."
    return StageOutcome(name, 0, None, None, (), (note,), (folder / "table.md", *files))


def winner_plan(running: Running, stage: str, seeds: int) -> Plan:
    """The winner so far, with the first seeds; cells that exist already are these very cells."""
    arms = stage_arms(running.campaign, stage, running.winner, {"winner": {}})
    return stage_plan(running.campaign, stage, arms, baseline="winner", seeds=seeds)


def _done_runs(plan: Plan) -> list[Run]:
    """The cells of a plan that are done, by seed."""
    return [Run(at.cell.folder, at.record) for at in plan.cells if at.record and at.record["status"] == "done"]


def kept(folder: Path, what: str, runs: Sequence[Run], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The scores in ``<folder>/<what>.json`` if they are of these runs, else computed and written there.

    So a campaign that is started again reads no test set a second time.
    """
    path, hashes = folder / f"{what}.json", [run.hash for run in runs]
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("runs") == hashes and isinstance(known.get("scores"), dict):
        return dict(known["scores"])
    scores = compute()
    write_json(path, {"runs": hashes, "scores": scores})
    return scores


def scores_table(running: Running, scored: Mapping[str, Sequence[Scores]], note: str = "") -> Table:
    """Validation objective and test errors of each candidate, as means over the seeds it was scored with."""
    metric = running.campaign.tuning.objective
    columns = ["test_mae", "test_rmse", "test_mape", "test_mae_unmasked"]
    rows = []
    for name, seeds in scored.items():
        found = [{**_flat("val", one), **_flat("test", one)} for one in seeds]
        rows.append((name, str(len(found)), *(number(_mean(found, column), 4) for column in [metric, *columns])))
    header = ("what", "seeds", metric, "test MAE", "test RMSE", "test MAPE %", "test MAE unmasked")
    return Table(header, tuple(rows), note=" ".join(filter(None, ["A number is a mean over its seeds.", note])))


def _ensemble(runs: Sequence[Run]) -> dict[str, Any]:
    from experiments.dataset_choice import choose_device
    from experiments.ensemble_command import ensemble

    return ensemble(runs, choose_device("auto"))[0]


def _postprocessed(runs: Sequence[Run], methods: list[str]) -> dict[str, Any]:
    from experiments.dataset_choice import choose_device
    from experiments.postprocess_command import postprocessed

    return postprocessed(runs, methods, choose_device("auto"))[0]


def _compared(
    running: Running, name: str, stage: Stage, plan: Plan, scored: Mapping[str, Sequence[Scores]], note: str
) -> StageOutcome:
    metric = running.campaign.tuning.objective
    candidates = {what: _mean([_flat("val", one) for one in scores], metric) for what, scores in scored.items()}
    decision = _decision(running, name, candidates, stage.title.lower() or name, plan)
    return StageOutcome(name, 0, decision, None, (scores_table(running, scored, note),), (), (plan.folder / REPORT,))


def _decision(
    running: Running, name: str, candidates: Mapping[str, float | None], of: str, plan: Plan | None
) -> Decision:
    best, value = best_of(candidates)
    made = Decision(
        stage=name,
        metric=running.campaign.tuning.objective,
        candidates=candidates,
        winner=best,
        value=value,
        thresholds=None,
        path=running.campaign.tuning.following(name),
        reason=f"it has the least of {len(candidates)} ({of})" if best else f"there is nothing to compare: {of}",
        cells=tuple(at.cell.hash for at in plan.cells) if plan else (),
    )
    return running.decisions.standing(made)


def _skipped(running: Running, name: str, why: str) -> StageOutcome:
    return StageOutcome(name, 0, _decision(running, name, {}, why, None))


def _beside(running: Running, name: str, what: str) -> Path:
    return running.campaign.stage_folder(f"{name}-{what}")


def _by_arm(plan: Plan) -> dict[str, list[Scores]]:
    """The seeds that are done of every arm."""
    found: dict[str, list[Scores]] = {}
    for at in plan.cells:
        if at.record and at.record["status"] == "done":
            found.setdefault(at.arm, []).append(at.record)
    return found


def chosen_datasets(campaign: Campaign, stage: DatasetsStage) -> list[str]:
    """The names asked for; the campaign's own first where they are those at hand."""
    if stage.datasets != "at-hand":
        return list(stage.datasets)
    own = campaign.data.name
    return [own, *(name for name in at_hand(data_dir()) if name != own)]


def _dataset_plan(running: Running, name: str, stage: DatasetsStage, dataset: str) -> Plan:
    """The winner on a data set; its folder says which."""
    campaign = running.campaign
    if dataset != campaign.data.name:
        tuning = campaign.tuning
        settings = tuning.settings_over(campaign.settings)
        source = compose(tuning.base_file, dataset=dataset, profile=campaign.profile, settings=settings).dataset
        campaign = replace(campaign, dataset=dataset, data=load(source))
    arms: StageArms = stage_arms(campaign, name, running.winner, {"winner": stage.settings})
    return replace(
        stage_plan(campaign, name, arms, baseline="winner", objective=stage.objective),
        folder=_beside(running, name, dataset),
    )


def _flat(part: str, scores: Scores) -> dict[str, float]:
    return flatten(part, scores[part]) if scores.get(part) else {}


def _mean(seeds: Sequence[Mapping[str, float]], column: str) -> float | None:
    """The mean of a number over seeds; None where one of them lacks it."""
    values = [one[column] for one in seeds if column in one]
    return sum(values) / len(values) if values and len(values) == len(seeds) else None
