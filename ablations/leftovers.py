"""What may be removed of finished matrices, and its removal: at any moment interrupted, to be given again any time.

Of a cell that is done or diverged the best epoch's checkpoint is all that anybody reads. One that was stopped keeps its
last one too, since under another scheduler it goes on. Nothing is touched that a running process has locked, or that
can be gone on with.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.folders import CELLS, PLAN, TUNED, PlanOnDisk, all_matrices, cells_folder, read_plan
from ablations.matrix_lock import holder, only_writer
from ablations.plan import settles
from altformer.errors import UserError
from cluster.file_lock import open_locked
from experiments.cell import HAS_RESULT, finished_record, read_record
from experiments.cell_lock import LOCK
from experiments.earlier_result import ASIDE, MOVING
from experiments.references import named_in, noted_cells, with_teachers

_CELL = re.compile(r"[0-9a-f]{16}")
GONE = ".gone-"  # the name of what is being removed begins with it
# Written elsewhere, then moved into place: `.record.json.1a2b3c4d`, `.epoch-0003.new`; never the locks.
_INTERRUPTED = re.compile(r"\..+\.([0-9a-f]{8}|new|old)|\.epoch-\d+|\.ray-.+|\.gone-.+")


@dataclass
class Freed:
    """What was removed, or with ``dry_run`` would be: bytes, and in words what was left alone."""

    dry_run: bool = False
    size: int = 0
    cells: int = 0
    left: list[str] = field(default_factory=list)

    def remove(self, path: Path) -> None:
        """Remove a file or folder, whose name is given up first: what has its name is whole."""
        self.size += _size(path)
        if self.dry_run:
            return
        gone = path if path.name.startswith(GONE) else path.with_name(f"{GONE}{path.name}")
        if gone != path:
            if gone.exists():  # of an earlier time, interrupted
                shutil.rmtree(gone)
            path.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def collect(folder: Path, dry_run: bool = False) -> Freed:
    """Remove what the matrix of a folder needs no longer; UserError without a plan that can be read."""
    plan, cells, freed = read_plan(folder), cells_folder(folder), Freed(dry_run)
    if (held := holder(folder)) is not None:
        freed.left.append(f"it is being run ({held})")
        return freed
    with ExitStack() as stack:
        if not dry_run:
            try:
                stack.enter_context(only_writer(folder))
            except UserError as error:
                freed.left.append(str(error))
                return freed
        for path in [folder / "tune", *_interrupted(folder)]:  # of drivers that died
            if path.exists():
                freed.remove(path)
        open_cells = _open_cells(plan, cells)
        for key in dict.fromkeys(at.cell_hash for at in plan.cells):
            _collect_cell(cells / key, freed, is_finished=not open_cells)
        if open_cells:
            which = "1 cell has" if open_cells == 1 else f"{open_cells} cells have"
            freed.left.append(f"it is not finished ({which} no result), so its checkpoints are kept")
    return freed


def collect_unreferenced(out: Path, dry_run: bool) -> Freed:
    """Remove the cells that no matrix below ``out``, no experiment, ensemble or student refers to, and that are ended.

    UserError, before anything is removed, where a plan cannot be read: what it refers to is not known.
    """
    freed, cells = Freed(dry_run), out / CELLS
    found = [path for path in sorted(cells.iterdir()) if path.is_dir()] if cells.is_dir() else []
    referenced = noted_cells(out)
    for matrix in all_matrices(out):
        referenced |= {at.cell_hash for at in read_plan(matrix).cells}
        referenced |= named_in(matrix / PLAN) | named_in(matrix / TUNED)
    without_result = {folder.name for folder in found if not _has_result(folder)}
    referenced |= with_teachers(cells, referenced | without_result) - without_result
    for folder in found:
        if folder.name.startswith(GONE):
            freed.remove(folder)
        elif _CELL.fullmatch(folder.name) and folder.name not in referenced:
            _collect_unreferenced(folder, freed)
    return freed


def _collect_unreferenced(folder: Path, freed: Freed) -> None:
    """Remove a cell unless it is being trained, or was left in the middle."""
    with _locked(folder, freed.dry_run) as is_free:
        if not is_free:
            freed.left.append(f"cell {folder.name} is being trained")
        elif _can_go_on(folder):
            freed.left.append(f"cell {folder.name} was interrupted and can be gone on with; else remove {folder}")
        else:
            freed.remove(folder)
            freed.cells += 1


def _has_result(folder: Path) -> bool:
    record = read_record(folder)
    return record is not None and record["status"] in HAS_RESULT


def _can_go_on(folder: Path) -> bool:
    """Whether a cell without a result has checkpoints, or an earlier result that stands aside."""
    aside = any((folder / name).exists() for name in (ASIDE, MOVING))
    return not _has_result(folder) and (aside or any((folder / "checkpoints").glob("[!.]*")))


def _open_cells(plan: PlanOnDisk, cells: Path) -> int:
    records = {key: read_record(cells / key) for key in {at.cell_hash for at in plan.cells}}
    return sum(record is None or not settles(record, plan.scheduler) for record in records.values())


def _collect_cell(folder: Path, freed: Freed, is_finished: bool) -> None:
    """Remove what is left of interrupted writes and, of a cell of a finished matrix, the checkpoints nobody reads."""
    if not folder.is_dir():
        return
    with _locked(folder, freed.dry_run) as is_free:
        if not is_free:
            freed.left.append(f"cell {folder.name} is being trained")
            return
        before = freed.size
        replaced = [folder / ASIDE] if finished_record(folder) and (folder / ASIDE).is_dir() else []
        for path in [*replaced, *_interrupted(folder), *_interrupted(folder / "checkpoints")]:
            freed.remove(path)
        record = read_record(folder) if is_finished else None
        if record is not None:
            _collect_checkpoints(folder, record, freed)
        freed.cells += freed.size > before


def _collect_checkpoints(folder: Path, record: dict[str, Any], freed: Freed) -> None:
    """Remove those of a cell with a result that nobody reads any more."""
    checkpoints = sorted((folder / "checkpoints").glob("[!.]*"))
    if record["status"] == "stopped" and any(_epoch(path) > record["epochs"] for path in checkpoints):
        freed.left.append(f"cell {folder.name}: it has been gone on with since it was stopped, so all are kept")
    elif (kept := _kept(folder, record)) is None:
        freed.left.append(f"cell {folder.name}: its best or last checkpoint is damaged, so all are kept")
    else:
        for path in checkpoints:
            if path.name not in kept:
                freed.remove(path)


def _epoch(checkpoint: Path) -> int:
    """The epoch that a checkpoint is of, or of a part of."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _kept(folder: Path, record: dict[str, Any]) -> set[str] | None:
    """The names of the checkpoints that a cell with a result keeps; None where they are not whole."""
    from altformer.training.checkpoint import best_checkpoint, last_curve

    best, last = record["best_epoch"], record["epochs"]
    names = {f"epoch-{epoch:04d}" for epoch in ([best, last] if record["status"] == "stopped" else [best]) if epoch}
    there = {path.name for path in (folder / "checkpoints").glob("[!.]*")}
    if there <= names:
        return names  # nothing to remove
    if best is None:
        return set() if record["status"] == "diverged" else None
    try:
        found = best_checkpoint(folder).name
    except UserError:
        return None
    is_whole = found == f"epoch-{best:04d}" and (record["status"] != "stopped" or len(last_curve(folder)) == last)
    return names if is_whole else None


def _interrupted(folder: Path) -> Iterable[Path]:
    """What writes that were interrupted have left in a folder."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if _INTERRUPTED.fullmatch(path.name)]


@contextmanager
def _locked(folder: Path, dry_run: bool) -> Iterator[bool]:
    """Hold a cell's lock, if nobody trains it: whoever wants to meanwhile waits."""
    path = folder / LOCK
    if dry_run and not path.exists():
        yield True
        return
    file = open_locked(path)
    with file or nullcontext():
        yield file is not None


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_symlink() or one.is_file())
