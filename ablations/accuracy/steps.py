"""From a plan and the records to steps: what is to be trained, how far it is, and what tuning has chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ablations.accuracy.plan import START, AccuracyPlan, Round, Settings, Training
from ablations.accuracy.records import Records, is_settled
from ablations.candidates import TUNING_SEED
from ablations.cells import CellResult, by_seed
from ablations.plan import PlannedCell
from ablations.statistics import Summary, summarise
from altformer.config import Config
from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from experiments.cell import Machine, make_cell
from experiments.compose import Layer, compose, fields_of, settings_over

#: A rehearsal has every step and candidate, on a small simulated network in place of each data set.
REHEARSAL: Mapping[str, Any] = {
    "sensors": 8,
    "days": 8,
    "val_stride": 40,
    "test_stride": 40,
    "batch_size": 8,
    "epochs": 2,
    "steps_per_epoch": 3,
    "compile": False,
}


@dataclass(frozen=True)
class Task:
    """One configuration on one data set, with its seeds; ``dataset`` is the plan's name of it.

    ``test`` says whether the test set is read. ``settings`` is what a candidate or arm changes. ``at_once``: its seeds
    are trained as one model, if its configuration allows that.
    """

    step: str
    name: str
    dataset: str
    config: Config  # of the first seed
    cells: tuple[PlannedCell, ...]
    test: bool
    settings: Settings
    params: int
    at_once: bool

    @property
    def label(self) -> str:
        """For people: step, and what of it."""
        return f"{self.step} {self.name}"

    @property
    def open_cells(self) -> tuple[PlannedCell, ...]:
        """The seeds that are yet to be trained."""
        return tuple(at for at in self.cells if not is_settled(at.record, self.test))

    @property
    def results(self) -> list[CellResult]:
        """Its cells as a matrix has them, those that have a record by that record's hash."""
        return [replace(at.result, cell_hash=at.record["cell_hash"]) if at.record else at.result for at in self.cells]

    def summary(self, column: str) -> Summary:
        """A column of ``cells.csv`` over the seeds that are done."""
        return summarise([*by_seed(self.results, column).values()])

    @property
    def val(self) -> float | None:
        """Validation MAE at the best epoch, mean over seeds; None where one is open, has diverged or failed."""
        records = [at.record for at in self.cells]
        if any(record is None or record["status"] not in ("done", "stopped") for record in records):
            return None
        return sum(float(record["val"]["all"]["mae"]) for record in records if record) / len(records)


@dataclass(frozen=True)
class Step:
    """A step with its tasks; of a ``provisional`` one the start is not chosen yet: the best so far stands for it."""

    name: str
    tasks: tuple[Task, ...]
    provisional: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is left to do."""
        return not self.provisional and not any(task.open_cells for task in self.tasks)

    @property
    def best(self) -> Task | None:
        """The task with the least validation MAE, of those that have one; the first of equal ones."""
        known = [task for task in self.tasks if task.val is not None]
        return min(known, key=lambda task: task.val or 0.0, default=None)


class AccuracyCampaign:
    """A plan on a machine, with the data it needs; UserError with the place of what cannot be trained."""

    def __init__(self, plan: AccuracyPlan, machine: Machine, out: Path, rehearsal: bool = False) -> None:
        self.plan, self.machine, self.out, self.rehearsal = plan, machine, out, rehearsal
        self.name = f"{plan.name}-rehearsal" if rehearsal else plan.name
        self._records = Records(out)
        self._data: dict[str, TrafficData] = {}
        self._params: dict[str, int] = {}

    @property
    def folder(self) -> Path:
        """``<out>/campaigns/<name>``: its page, and a note of its cells; nothing in it is needed to go on."""
        return self.out.resolve() / "campaigns" / self.name

    def steps(self) -> list[Step]:
        """All steps as the records are now, in order; what tuning has chosen so far is the start of the later ones."""
        written = self.plan.steps
        start = _over(Layer(), self.plan.settings, partial(self.plan.where, "settings"))
        found = [self._trained("first", written.first, start, False)] if written.first else []
        provisional = False
        for name, one in written.tune.items():
            found.append(step := self._round(name, one, start, provisional))
            provisional = provisional or not step.is_settled
            best = step.best
            if best is None and step.is_settled:
                raise UserError(f"{self.plan.where('steps', 'tune', name)}: no candidate of this round has a result")
            start = start if best is None else _over(start, best.settings, "the winner's {}".format)
        if written.final:
            found.append(self._trained("final", written.final, start, provisional))
            provisional = provisional or not found[-1].is_settled
        if written.ablate and written.final:
            found.append(self._ablation(start, provisional))
        return found

    def data(self, source: DatasetConfig) -> TrafficData:
        """The readings, loaded once."""
        key = source.model_dump_json()
        if key not in self._data:
            self._data[key] = load(source)
        return self._data[key]

    def _trained(self, step: str, training: Training, start: Layer, provisional: bool) -> Step:
        """The configuration on every data set of the step."""
        seeds, tasks = range(training.seeds), []
        for dataset in training.datasets:
            place = self.plan.where("steps", step, "datasets", dataset)
            layer = self._of_dataset(step, training, start, dataset)
            tasks.append(self._task(step, dataset, dataset, layer, {}, seeds, place, True, provisional))
        return Step(step, tuple(tasks), provisional)

    def _of_dataset(self, step: str, training: Training, start: Layer, dataset: str) -> Layer:
        """What a step and its data set set, over the start."""
        where = partial(self.plan.where, "steps", step)
        layer = _over(start, training.settings, partial(where, "settings"))
        return _over(layer, training.datasets[dataset], partial(where, "datasets", dataset))

    def _round(self, name: str, one: Round, start: Layer, provisional: bool) -> Step:
        keys = ("steps", "tune", name)
        layer = _over(start, one.settings, partial(self.plan.where, *keys, "settings"))
        seeds = range(TUNING_SEED, TUNING_SEED + one.seeds)  # so that no final cell was itself selected
        tasks = [
            self._task(f"tune {name}", candidate, one.dataset, layer, settings, seeds, place, False, provisional)
            for candidate, settings in {START: {}, **one.candidates}.items()
            for place in [self.plan.where(*keys, "candidates", candidate)]
        ]
        return Step(f"tune {name}", tuple(tasks), provisional)

    def _ablation(self, start: Layer, provisional: bool) -> Step:
        final, ablation = self.plan.steps.final, self.plan.steps.ablate
        assert final is not None and ablation is not None
        layer = self._of_dataset("final", final, start, ablation.dataset)
        seeds, tasks = range(ablation.seeds), []
        for arm, settings in ablation.arms.items():
            place = self.plan.where("steps", "ablate", "arms", arm)
            tasks.append(self._task("ablate", arm, ablation.dataset, layer, settings, seeds, place, True, provisional))
        return Step("ablate", tuple(tasks), provisional)

    def _task(
        self,
        step: str,
        name: str,
        dataset: str,
        start: Layer,
        settings: Settings,
        seeds: Sequence[int],
        place: str,
        test: bool,
        provisional: bool,
    ) -> Task:
        """A task with its cells; UserError where it is no valid configuration, or has more parameters than allowed.

        A provisional one may have them: what it starts from is not chosen yet.
        """
        try:
            config = self._config(dataset, start, settings)
        except UserError as error:
            raise UserError(f"{place}: {name}: {error}") from None
        data = self.data(config.dataset)
        params = self._parameters(config, data)
        if params > self.plan.max_parameters and not provisional:
            raise UserError(
                f"{place}: {name} has {params:,} parameters; max_parameters is {self.plan.max_parameters:,}"
            )
        profile = "rehearsal" if self.rehearsal else self.plan.profile
        cells = []
        for seed in seeds:
            cell = make_cell(config.model_copy(update={"seed": seed}), self.machine, data.identity, self.out, profile)
            cells.append(PlannedCell(f"{self.name}/{step}/{name}", seed, cell, self._records.of(cell, test)))
        at_once = self.plan.machine.seeds_at_once and test and len(cells) > 1
        return Task(step, name, dataset, cells[0].cell.config, tuple(cells), test, settings, params, at_once)

    def _config(self, dataset: str, start: Layer, settings: Settings) -> Config:
        if not self.rehearsal:
            return compose(
                self.plan.base_file, dataset=dataset, profile=self.plan.profile, settings=start, arm=settings
            )
        number = self.datasets().index(dataset)
        small = {**REHEARSAL, "simulation_seed": number}
        arm = {**fields_of(settings, "candidate"), **fields_of(small, "rehearsal")}
        return compose(self.plan.base_file, dataset="simulated", profile=self.plan.profile, settings=start, arm=arm)

    def datasets(self) -> list[str]:
        """The data sets of the plan, each once."""
        steps = self.plan.steps
        names = [name for step in (steps.first, steps.final) if step for name in step.datasets]
        names += [one.dataset for one in steps.tune.values()]
        return list(dict.fromkeys(names))

    def _parameters(self, config: Config, data: TrafficData) -> int:
        from altformer.fit_check import check_fit
        from altformer.model.build import count_parameters

        key = config.model_dump_json(include={"model", "dataset"})
        if key not in self._params:
            self._params[key] = count_parameters(check_fit(config, data))
        return self._params[key]


def _over(below: Layer, settings: Settings, place_of: Callable[[str], str]) -> Layer:
    """Settings, each written at a place, on top of a layer, which stays as it is."""
    layer = Layer(dict(below.values), dict(below.places), below.file)
    layer.update(settings_over(settings, place_of, Path(), {}))
    return layer
