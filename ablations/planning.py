"""From a matrix to its plan: every arm's configuration, the cells, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ablations.arms import (
    Arm,
    expand,
    refuse_other_data,
    refuse_set_fields,
    refuse_set_tuned,
    resolve_arms,
    settings_fields,
    tuned_fields,
    varied_fields,
)
from ablations.candidates import Tuned
from ablations.early_stopping import Asha, Futility
from ablations.folders import known_plan, short_id
from ablations.matrix import Matrix
from ablations.plan import Plan, PlannedCell, settles
from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from altformer.fit_check import check_fit
from altformer.model.build import count_parameters
from experiments.cell import Machine, make_cell, read_record
from experiments.compose import HERE as SHIPPED
from experiments.compose import compose, experiment_layer, profile_layer
from experiments.fields import locate, overlap


def configurations(
    matrix: Matrix, arms: Sequence[Arm], dataset: str | None, profile: str, settings: Mapping[str, Any]
) -> dict[str, Config]:
    """The configuration of every arm (with seed 0); UserError for arms that conflict with ``--set`` or are equal.

    The profile is the one that the matrix has been settled for (``Matrix.of``). ``--set`` wins over the matrix's own
    ``settings``; neither they nor what arms vary is touched by the profile.
    """
    refuse_set_fields(arms, settings)
    refuse_set_tuned(matrix, settings)
    refuse_other_data(arms)
    varied = _varied(matrix, arms)
    if "seed" in {*varied, *settings}:
        raise UserError("seed: a matrix runs every arm with the seeds 0..N-1; choose N with --seeds or seeds:")

    def resolve(arm: Arm) -> Config:
        return compose_with(matrix, settings, dataset=dataset, profile=profile, arm=arm.settings, varied=varied)

    return resolve_arms(arms, resolve)


def _varied(matrix: Matrix, arms: Sequence[Arm]) -> frozenset[str]:
    """The fields that the matrix decides, which no profile touches."""
    return varied_fields(arms) | settings_fields(matrix) | set(tuned_fields(matrix).values())


def _profile_notes(matrix: Matrix, arms: Sequence[Arm], profile: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the user's own experiment the profile replaces; a reader would take the file at its word."""
    own, theirs = experiment_layer(matrix.base_file), profile_layer(profile)
    kept = [locate(name) for name in {*_varied(matrix, arms), *settings}]
    if own.model_type != "altformer":  # whose sizes the profile does not know
        kept.append("model")
    replaced = [
        f"{path.rpartition('.')[2]} {value} instead of {own.values[path]} ({own.places[path]})"
        for path, value in theirs.values.items()
        if own.values.get(path, value) != value and not any(overlap(path, one) for one in kept)
        if Path(own.places[path].rpartition(":")[0]).resolve().parent != SHIPPED
    ]
    return (f"Profile {profile} takes {'; '.join(replaced)}.",) if replaced else ()


def compose_with(matrix: Matrix, settings: Mapping[str, Any], **layers: Any) -> Config:
    """The base experiment under the matrix's own ``settings`` and, over them, those of ``--set``.

    The matrix is settled for the profile; ``layers`` are those of ``compose``. UserError for a mistake in the matrix's
    ``settings``, with its file and line.
    """
    return compose(matrix.base_file, settings=matrix.settings_over(settings), **layers)


def make_plan(
    matrix: Matrix,
    data: TrafficData,
    machine: Machine,
    *,
    dataset: str | None,
    profile: str,
    settings: Mapping[str, Any],
    seeds: int,
    out: Path,
    first_seed: int = 0,
    keep_seeds: bool = False,
    tuned: Tuned | None = None,
) -> Plan:
    """The cells of a matrix on one data set, arm by arm within each seed, so that whole seeds are finished first.

    With ``keep_seeds`` the seeds beyond those asked for that an earlier plan of the same folder has, settled in every
    arm that had them, are part of this one: a run with fewer seeds must not replace a report on more. With ``tuned``
    every arm gets the values that were chosen for it.
    """
    as_written, matrix = matrix, matrix.of(profile)
    arms, notes = _arms_on(data, matrix, tuned)
    configs = configurations(matrix, arms, dataset, profile, settings)
    params = {arm.name: _parameters(arm, configs[arm.name], data) for arm in arms}
    _refuse_late_grace(matrix, profile, configs)
    _refuse_futility_without_baseline(matrix)
    folder = out.resolve() / f"{matrix.slug}-{data.name}-{_short(matrix, data, machine, profile, settings)}"

    def of_seed(seed: int) -> list[PlannedCell]:
        made = {
            name: make_cell(config.model_copy(update={"seed": seed}), machine, data.identity, out, profile)
            for name, config in configs.items()
        }
        return [PlannedCell(name, seed, cell, read_record(cell.folder)) for name, cell in made.items()]

    cells = [at for seed in range(first_seed, first_seed + seeds) for at in of_seed(seed)]
    scheduler, earlier = _scheduler(matrix, profile, of_seed(0)), known_plan(folder)
    kept = earlier.seeds if earlier and keep_seeds else {}
    for seed in range(seeds, 1 + max(map(max, kept.values()), default=-1)):
        more = [at for at in of_seed(seed) if seed in kept.get(at.arm, ())]
        if not all(at.record and settles(at.record, scheduler) for at in more):
            break
        cells += more
    return Plan(
        matrix=matrix,
        arms=arms,
        cells=cells,
        data=data,
        profile=profile,
        folder=folder,
        params=params,
        scheduler=scheduler,
        claimed_params=params if profile == "full" else _claimed_parameters(as_written, data, dataset, settings),
        notes=(*notes, *_profile_notes(matrix, arms, profile, settings)),
        looks=earlier.looks if earlier else (),
        tuned=tuned,
    )


def _scheduler(matrix: Matrix, profile: str, first: Sequence[PlannedCell]) -> dict[str, Any]:
    """The rule as it is noted in the records of cells it stops; with the baseline, by its ``first`` seed's cell."""
    against = [at.cell.hash for at in first if at.arm == matrix.baseline and isinstance(matrix.scheduler, Futility)]
    rule = {**matrix.scheduler.model_dump(mode="json"), "profile": profile, "metric": matrix.objective}
    return {**rule, "against": against} if against else rule


def _arms_on(data: TrafficData, matrix: Matrix, tuned: Tuned | None) -> tuple[list[Arm], tuple[str, ...]]:
    """The arms that the data allow, with the values tuned for them, and what is to be said of both."""
    left_out = matrix.needs_graph if data.adjacency is None else ()
    notes = [f"Arm {name} is left out: it needs a road graph, and {data.name} has none here." for name in left_out]
    arms = [arm for arm in expand(matrix) if arm.name not in left_out]
    if tuned is None:
        return arms, tuple(notes)
    arms = [replace(arm, settings={**arm.settings, **tuned.chosen.get(arm.name, {})}) for arm in arms]
    return arms, (*notes, *tuned.warnings)


def _short(matrix: Matrix, data: TrafficData, machine: Machine, profile: str, settings: Mapping[str, Any]) -> str:
    """What distinguishes a matrix's folder from those of its other settings."""
    identity = {
        "matrix": matrix.name,
        "data": data.identity,
        "profile": profile,
        "settings": {locate(name, "--set"): str(value) for name, value in settings.items()},
        "machine": asdict(machine),
    }
    return short_id(identity)


def _refuse_late_grace(matrix: Matrix, profile: str, configs: Mapping[str, Config]) -> None:
    """UserError where a scheduler would first look at a cell after the last epoch of every arm."""
    if not isinstance(matrix.scheduler, Asha):
        return
    grace, epochs = matrix.scheduler.grace_period.of(profile), max(one.training.epochs for one in configs.values())
    if grace > epochs:
        raise UserError(
            f"{matrix.where('scheduler', 'grace_period')}: grace_period must be at most the epochs of a cell: "
            f"grace_period {grace}, epochs {epochs}"
        )


def _refuse_futility_without_baseline(matrix: Matrix) -> None:
    """UserError where arms are to be judged against a baseline that there is not."""
    if isinstance(matrix.scheduler, Futility) and matrix.baseline is None:
        raise UserError(
            f"{matrix.where('scheduler')}: futility judges every arm against the baseline, and none is named; name an "
            "arm as baseline:, or use asha or none"
        )


def _claimed_parameters(
    matrix: Matrix, data: TrafficData, dataset: str | None, settings: Mapping[str, Any]
) -> dict[str, int]:
    """Parameters in the full profile of the arms that a claim on parameters names, and of the baseline."""
    about = {claim.arm for claim in matrix.claims if claim.parameters_fewer is not None or claim.parameters is not None}
    if not about:
        return {}
    matrix = matrix.of("full")
    arms = expand(matrix)
    configs = configurations(matrix, arms, dataset, "full", settings)
    counted = [arm for arm in arms if arm.name in {*about, matrix.baseline}]
    return {arm.name: _parameters(arm, configs[arm.name], data) for arm in counted}


def _parameters(arm: Arm, config: Config, data: TrafficData) -> int:
    """Count on a model built for the data; UserError with the arm's place where the two do not fit."""
    try:
        return count_parameters(check_fit(config, data))
    except UserError as error:
        raise UserError(f"{arm.where}: arm '{arm.name}': {error}") from None
