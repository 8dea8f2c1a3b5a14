"""``altformer train --seeds 0,1,2``: seeds of one configuration, trained at once where they are not finished."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from altformer.config import Config
from altformer.errors import UserError
from cluster.faults import kind_of_raised
from cluster.preflight import check_out
from experiments import provenance
from experiments.bare_run import Trained, machine_of, note, tracked, train_alone, what_is_trained
from experiments.cell import Cell, Record, finished_record, make_cell
from experiments.cell_lock import refuse_trained
from experiments.cells_together import run_together
from experiments.scores_table import NOT_COMPARABLE, comparable, comparison_table
from experiments.tracked_cell import work_of


def train_seeds(config: Config, seeds: Sequence[int], name: str, args: argparse.Namespace) -> int:
    """Train or find the cells of all seeds, and print their scores with mean and spread; the exit code.

    Each is noted under the experiment's name and its seed. UserError where they cannot be trained together.
    """
    from altformer.data.datasets import load
    from altformer.fit_check import check_fit
    from altformer.training.together import check_together

    machine, data = machine_of(args), load(config.dataset)
    model = check_fit(config, data)
    configs = [config.model_copy(update={"seed": seed}) for seed in seeds]
    cells = [make_cell(one, machine, data.identity, args.out, args.profile) for one in configs]
    records = {cell.hash: found for cell in cells if not args.again and (found := finished_record(cell.folder))}
    missing = [cell for cell in cells if cell.hash not in records]
    if len(missing) > 1:
        check_together(config, model)
    for cell in cells:
        if cell.hash in records:
            print(f"{_name(name, cell)}: this very run is finished; --again trains it anew")
    if missing:
        check_out(args.out)
        for cell in missing if args.again else ():
            refuse_trained(cell.folder)
        listed = ", ".join(str(cell.config.seed) for cell in missing)
        print(f"{what_is_trained(name, config, data, machine)}, seeds {listed}", flush=True)
    if len(missing) == 1:
        records[missing[0].hash] = train_alone(missing[0], data, _name(name, missing[0]), args)
    elif missing:
        records |= _train(missing, data, name, args)
    for cell in cells:
        note(Trained(_name(name, cell), cell, records[cell.hash], data.step_minutes), args.out)
    print(shown([records[cell.hash] for cell in cells], data.step_minutes))
    return 0


def _name(name: str, cell: Cell) -> str:
    return f"{name}-seed{cell.config.seed}"


def _train(cells: Sequence[Cell], data: Any, name: str, args: argparse.Namespace) -> dict[str, Record]:
    """Train the cells at once, each tracked as a run of its own; their records by hash."""
    from experiments.train_progress import SeedProgress, TrainProgress

    started_by = provenance.started_by()
    works = [work_of(cell, _name(name, cell), {"experiment": name}, started_by) for cell in cells]
    records: dict[str, Record] = {}
    try:
        with tracked(works, args) as (tracker, ended):
            progress = TrainProgress(cells[0].machine.device, cells[0].config.training, name)
            contexts = [
                SeedProgress(progress, cell.config.seed, partial(tracker.cell_epoch, work))
                for cell, work in zip(cells, works, strict=True)
            ]
            with progress:
                for cell, record in run_together(cells, data, contexts, started_by, args.again):
                    records[cell.hash] = record
                    ended(cell, record)
    except Exception as error:
        if kind_of_raised(error) == "memory":
            raise UserError(
                f"{len(cells)} seeds at once do not fit into memory: give fewer --seeds, or a smaller batch"
            ) from error
        raise
    return records


def shown(records: Sequence[Record], step_minutes: int) -> str:
    """The test scores of each seed, their mean and standard deviation, as lines of text."""
    rows = {f"seed {record['seed']}": record["test"] for record in records}
    scored = [test for test in rows.values() if test is not None]
    if len(scored) > 1:
        rows |= {"mean": _over(scored, statistics.fmean), "std": _over(scored, statistics.stdev)}
    lines = [comparison_table("best epochs on the test set", rows, step_minutes)]
    for record in records:
        if record["status"] == "diverged":
            after = f"after epoch {record['epochs']} (NaN or infinity in loss or validation)"
            lines.append(f"  seed {record['seed']} diverged {after}")
    if not all(map(comparable, records)):
        lines.append(NOT_COMPARABLE)
    return "\n".join(lines)


def _over(scores: Sequence[Any], statistic: Callable[[Sequence[float]], float]) -> Any:
    """A statistic of each number of several scores; None where one has no such number."""
    if isinstance(scores[0], dict):
        return {key: _over([one[key] for one in scores], statistic) for key in scores[0]}
    return None if None in scores else statistic(scores)
