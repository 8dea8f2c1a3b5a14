"""Cells that differ in the seed alone, trained at once, each with the folder, lock, log and record it has alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from experiments import provenance
from experiments.cell import (
    Cell,
    Record,
    begin,
    finished_record,
    is_finished,
    left_waiting,
    record_of,
    write_record,
)
from experiments.cell_lock import only_trainer
from experiments.cell_log import cell_log, end_logged
from experiments.earlier_result import earlier_aside


def run_together(
    cells: Sequence[Cell], data: Any, contexts: Sequence[Any], started_by: Mapping[str, Any], again: bool = False
) -> Iterator[tuple[Cell, Record]]:
    """Train the cells at once and write each one's record as soon as it ends; the cells with their records.

    As for a cell alone (``cell.run_cell``): one that another process trains is waited for, and its record taken; it is
    interrupted where its context leaves meanwhile. A cell is let go of as soon as it has its record.
    """
    with ExitStack() as all_held:
        held: dict[str, ExitStack] = {}
        # All commands lock in this order, so that no two wait for each other.
        for cell, context in sorted(zip(cells, contexts, strict=True), key=lambda pair: pair[0].hash):
            stack = all_held.enter_context(ExitStack())
            with cell_log(cell.folder):
                is_ours = stack.enter_context(only_trainer(cell.folder, context))
                left = None if is_ours else left_waiting(cell, started_by)
            if left is not None:
                yield cell, left
                continue
            stack.enter_context(earlier_aside(cell.folder, again, is_finished))
            stack.enter_context(_end_told(cell.folder))
            held[cell.hash] = stack
        ours = []
        for cell, context in zip(cells, contexts, strict=True):
            if cell.hash not in held:
                continue
            if (found := finished_record(cell.folder)) is None:
                ours.append((cell, context))
                continue
            held[cell.hash].close()
            yield cell, found  # by another process, while this one waited
        for cell, record in _train(ours, data, started_by):
            held[cell.hash].close()
            yield cell, record


def _train(ours: Sequence[tuple[Cell, Any]], data: Any, started_by: Mapping[str, Any]) -> Iterator[tuple[Cell, Record]]:
    if not ours:
        return
    import torch

    from altformer.training.together import Member, train_together

    torch.set_num_threads(ours[0][0].machine.threads)
    started, seeds = provenance.now(), [cell.config.seed for cell, _ in ours]
    for cell, _ in ours:
        with cell_log(cell.folder):
            begin(cell)
    members = [Member(cell.config, context, cell.folder, partial(cell_log, cell.folder)) for cell, context in ours]
    for number, result in train_together(members, data):
        cell = ours[number][0]
        record = record_of(cell, result, started_by, started, seeds)
        with cell_log(cell.folder):
            write_record(cell, record)
        yield cell, record


@contextmanager
def _end_told(folder: Path) -> Iterator[None]:
    """Say in the cell's log what ends its training, if an exception does."""
    try:
        yield
    except BaseException:
        with cell_log(folder), end_logged():
            raise
