"""The folders of matrices below ``--out``, what their ``plan.json`` says in short, and where their cells are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altformer.errors import UserError, unknown_name

PLAN = "plan.json"
TUNED = "tuned.json"
CELLS = "cells"


@dataclass(frozen=True)
class Planned:
    """One arm with one seed, by the hash of its cell."""

    arm: str
    seed: int
    cell_hash: str


@dataclass(frozen=True)
class PlanOnDisk:
    """What a ``plan.json`` says of its cells.

    ``scheduler`` is the rule as the records of cells it stops note it; ``members`` are the names of the folders beside
    this one whose distinct cells these are.
    """

    folder: Path
    title: str
    dataset: str
    profile: str
    objective: str
    cells: tuple[Planned, ...]
    scheduler: dict[str, Any]
    members: tuple[str, ...]

    @property
    def cells_folder(self) -> Path:
        """The folder of the cells' folders."""
        return cells_folder(self.folder)


def cells_folder(matrix: Path) -> Path:
    """The folder of the cells' folders; a stage of a tuning plan lies a folder deeper than a matrix."""
    above = matrix.resolve().parent
    return next((at / CELLS for at in (above, above.parent) if (at / CELLS).is_dir()), above / CELLS)


def short_id(identity: Any) -> str:
    """What distinguishes a folder from others of its name: six hex digits over what JSON can hold."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]


def find_matrix(name: str, out: Path) -> Path:
    """The folder of a matrix, given by its path or by its name (its beginning is enough) below ``out``; UserError.

    Another folder of that name in the current one, ``data`` say, is not in the way.
    """
    path = Path(name)
    if (path / PLAN).is_file():
        return path
    no_matrix = UserError(f"{name}: no folder of a matrix, it has no {PLAN}; `altformer ablate ...` writes one")
    if path.is_dir() and os.sep in name:
        raise no_matrix
    folders = [found.parent for found in sorted(out.glob(f"*/{PLAN}"))]
    fitting = [folder for folder in folders if folder.name == name]
    fitting = fitting or [folder for folder in folders if folder.name.startswith(f"{name}-")]
    if len(fitting) > 1:  # the folder of its tuning phase is only meant when it is named
        fitting = [folder for folder in fitting if not folder.name.startswith(f"{name}-tuning-")]
    if len(fitting) > 1:
        raise UserError(f"matrix '{name}' stands for {len(fitting)} folders: {', '.join(at.name for at in fitting)}")
    if fitting:
        return fitting[0]
    if path.is_dir():
        raise no_matrix
    if not folders:
        raise UserError(f"unknown matrix '{name}': {out} has none yet; `altformer ablate ...` makes them")
    raise unknown_name("matrix", name, [folder.name for folder in folders], str(out))


def all_matrices(out: Path) -> Iterator[Path]:
    """The folders of all matrices below ``out``, those that are stages of a tuning plan among them."""
    for pattern in (f"*/{PLAN}", f"*/*/{PLAN}"):
        yield from (found.parent for found in sorted(out.glob(pattern)) if CELLS not in found.parts[len(out.parts) :])


def read_plan(folder: Path) -> PlanOnDisk:
    """The plan of a matrix's folder; UserError where it is missing or damaged."""
    path = folder / PLAN
    try:
        plan = json.loads(path.read_text())
        matrix = plan["matrix"]
        return PlanOnDisk(
            folder=folder,
            title=str(matrix.get("title") or matrix["name"]),
            dataset=str(plan["dataset"]),
            profile=str(plan["profile"]),
            objective=str(matrix["objective"]),
            cells=tuple(Planned(str(at["arm"]), int(at["seed"]), str(at["cell_hash"])) for at in plan["cells"]),
            scheduler=dict(plan["scheduler"]),
            members=tuple(map(str, plan.get("members", ()))),
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged, or of another version of altformer; the command that ran the matrix writes it anew"
        ) from error
