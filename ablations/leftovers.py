"""What may be removed of finished matrices, and its removal: at any moment interrupted, to be given again any time.

Of a cell that is done or diverged the best epoch's checkpoint is all that anybody reads. One that was stopped keeps its
last one too, since under another scheduler it goes on. Nothing is touched that a running process has locked.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.folders import CELLS, PlanOnDisk, all_matrices, read_plan
from ablations.matrix_lock import holder, only_writer
from ablations.plan import settles
from altformer.errors import UserError
from cluster.tracking_location import lock_file
from experiments.cell import read_record
from experiments.cell_lock import LOCK
from experiments.references import noted_cells, teacher_of

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
    plan, freed = read_plan(folder), Freed(dry_run)
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
        open_cells = _open_cells(plan)
        for key in dict.fromkeys(at.cell_hash for at in plan.cells):
            _collect_cell(plan.cells_folder / key, freed, is_finished=not open_cells)
        if open_cells:
            which = "1 cell has" if open_cells == 1 else f"{open_cells} cells have"
            freed.left.append(f"it is not finished ({which} no result), so its checkpoints are kept")
    return freed


def collect_unreferenced(out: Path, dry_run: bool = False) -> Freed:
    """Remove the cells that no matrix below ``out``, no experiment and no ensemble refers to.

    UserError, before anything is removed, where a plan cannot be read: what it refers to is not known.
    """
    freed, cells = Freed(dry_run), out / CELLS
    referenced = {at.cell_hash for folder in all_matrices(out) for at in read_plan(folder).cells}
    referenced |= noted_cells(out)
    referenced |= {teacher for key in list(referenced) if (teacher := teacher_of(cells / key)) is not None}
    for folder in sorted(cells.iterdir()) if cells.is_dir() else ():
        if not folder.is_dir() or folder.name in referenced:
            continue
        if folder.name.startswith(GONE):
            freed.remove(folder)
            continue
        with _locked(folder, freed.dry_run) as is_free:
            if is_free:
                freed.remove(folder)
                freed.cells += 1
            else:
                freed.left.append(f"cell {folder.name} is being trained")
    return freed


def _open_cells(plan: PlanOnDisk) -> int:
    records = {key: read_record(plan.cells_folder / key) for key in {at.cell_hash for at in plan.cells}}
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
        for path in [*_interrupted(folder), *_interrupted(folder / "checkpoints")]:
            freed.remove(path)
        record = read_record(folder) if is_finished else None
        if record is not None:
            kept = _kept(folder, record)
            if kept is None:
                freed.left.append(f"cell {folder.name}: its best or last checkpoint is damaged, so all are kept")
            else:
                for path in sorted((folder / "checkpoints").glob("[!.]*")):
                    if path.name not in kept:
                        freed.remove(path)
        freed.cells += freed.size > before


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
    with path.open("ab") as file:
        yield lock_file(file)


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_symlink() or one.is_file())
