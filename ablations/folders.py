"""The folders of matrices below ``--out``, what their ``plan.json`` says, and where their cells are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from altformer.errors import UserError, unknown_name

PLAN = "plan.json"
TUNED = "tuned.json"
CELLS = "cells"

_WAY_OUT = "the command that ran the matrix writes it anew and trains nothing that is finished"

Content = TypeVar("Content", bound=BaseModel)


class PlannedArm(BaseModel, frozen=True):
    """An arm with the fields that it sets."""

    name: str
    settings: dict[str, Any]
    is_baseline: bool


class Planned(BaseModel, frozen=True):
    """One arm with one seed, by the hash of its cell."""

    arm: str
    seed: int
    cell_hash: str = Field(pattern=r"^[0-9a-f]+$")


class PlanOnDisk(BaseModel, frozen=True):
    """What a ``plan.json`` says, as far as it is read again.

    ``scheduler`` is the rule as the records of cells it stops note it; ``members`` are the names of the folders beside
    this one whose distinct cells these are; ``looks`` the numbers of seeds at which a report was made with every cell
    settled.
    """

    schema_: Literal[2] = Field(alias="schema")
    matrix: dict[str, Any]
    arms: tuple[PlannedArm, ...]
    cells: tuple[Planned, ...]
    dataset: str
    profile: str
    scheduler: dict[str, Any]
    members: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The matrix's title, or its name."""
        return str(self.matrix.get("title") or self.matrix.get("name"))

    @property
    def objective(self) -> str:
        """The column of an epoch that cells are selected by."""
        return str(self.matrix.get("objective"))

    @property
    def seeds(self) -> dict[str, set[int]]:
        """The seeds of each arm."""
        found: dict[str, set[int]] = {}
        for cell in self.cells:
            found.setdefault(cell.arm, set()).add(cell.seed)
        return found


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
    folders = _matrices(out)
    fitting = _named(name, folders)
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


def split_arm(name: str, out: Path) -> tuple[str, str] | None:
    """Matrix and arm of ``MATRIX:ARM``, both of which may have colons; None for another name.

    UserError where there is a colon but no such matrix.
    """
    if ":" not in name or Path(name).exists():
        return None
    for matrix, arm in _splits(name):
        if is_matrix(matrix, out):
            return matrix, arm
    find_matrix(name.partition(":")[0], out)  # says what is wrong with it
    raise UserError(f"{name}: name an arm as MATRIX:ARM")


def is_matrix(name: str, out: Path) -> bool:
    """Whether a name is that of a matrix's folder, or its beginning; see ``find_matrix``."""
    return (Path(name) / PLAN).is_file() or bool(_named(name, _matrices(out)))


def all_matrices(out: Path) -> Iterator[Path]:
    """The folders of all matrices below ``out``, those that are stages of a tuning plan among them."""
    for pattern in (f"*/{PLAN}", f"*/*/{PLAN}"):
        yield from (found.parent for found in sorted(out.glob(pattern)) if CELLS not in found.parts[len(out.parts) :])


def read_plan(folder: Path) -> PlanOnDisk:
    """The plan of a matrix's folder; UserError where it is missing or damaged."""
    return read_file(folder / PLAN, PlanOnDisk)


def read_file(path: Path, kind: type[Content]) -> Content:
    """What a JSON file of a matrix's folder says; UserError where it is missing, damaged or of another version."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {_WAY_OUT}") from error
    except ValidationError as error:
        raise other_version(path, error) from error


def other_version(path: Path, error: ValidationError) -> UserError:
    """The error for a file whose content is not as this version writes it: the first thing wrong, and the way out."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    what = f"{field}: {first['msg']}" if field else first["msg"]
    return UserError(f"{path}: damaged or of another version of altformer ({what}); {_WAY_OUT}")


def known_plan(folder: Path) -> PlanOnDisk | None:
    """The plan of a matrix's folder, or None where it is missing or damaged."""
    try:
        return read_plan(folder)
    except UserError:
        return None


def _matrices(out: Path) -> list[Path]:
    """The folders of matrices right below ``out``."""
    return [found.parent for found in sorted(out.glob(f"*/{PLAN}"))]


def _named(name: str, folders: Sequence[Path]) -> list[Path]:
    """The folders of this name, else those whose names begin with it."""
    same = [folder for folder in folders if folder.name == name]
    return same or [folder for folder in folders if folder.name.startswith(f"{name}-")]


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to read a name as matrix and arm: both may have colons."""
    places = [place for place, mark in enumerate(name) if mark == ":"]
    yield from ((name[:place], name[place + 1 :]) for place in places if name[:place] and name[place + 1 :])
