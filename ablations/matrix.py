"""A matrix as it is written in YAML: a base experiment, arms, a baseline, seeds, and how its cells are run."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ablations.claims import Alias, Claim, PublishedModel, text_keys
from ablations.early_stopping import Asha, Futility, NoScheduler
from ablations.per_profile import TAKES_BOTH, PerProfile, for_profile, is_per_profile, partial_mapping
from ablations.written import Written
from altformer.errors import UserError, unknown_name
from cluster.resources import Resources
from cluster.retries import Retries
from experiments.mistakes import explain, place_of, shortened
from experiments.yaml_file import as_written, read_yaml

PACKAGE = Path(__file__).parent
PER_PROFILE = ("grid", "zip", "arms", "settings", "tune_per_arm")  # where a value may be one for each profile
COMMAND_LINE = "command line"  # the place of what is in no file
ALL = "all"  # the name of all shipped matrices together
OBJECTIVES = ("val_mae", "val_rmse", "val_mape", "val_mae_3", "val_mae_6", "val_mae_12", "val_mae_unmasked")


def _known_objective(value: str) -> str:
    if value not in OBJECTIVES:
        raise ValueError(str(unknown_name("objective", value, OBJECTIVES)))
    return value


Objective = Annotated[str, AfterValidator(_known_objective), WithJsonSchema({"enum": list(OBJECTIVES)})]


def _list_of_values(value: Any) -> Any:
    """A list with something in it, or one for each profile."""
    lists = list(value.values()) if is_per_profile(value) else [value]
    if not all(isinstance(one, list) for one in lists):
        raise ValueError("takes a list of values")
    if not all(lists):
        raise ValueError("takes at least 1 value")
    return value


Values = Annotated[Any, AfterValidator(_list_of_values)]


class Matrix(Written):
    """Arms x seeds over one base experiment.

    Arms are the concatenation of every ``grid`` (all combinations of its lists), every ``zip`` (first with first,
    second with second) and the named ``arms``. ``labels`` names grid and zip arms from their values, for instance
    ``"{temporal_depth_1}-{spatial_depth_1}"``; it is used for each grid or zip that has all its fields.
    ``settings`` are fields of every arm that does not set them itself; they win over the profile, and ``--set`` wins
    over them. In all of these ``{quick: 24, full: 64}`` stands for one value per profile.
    The objective is minimised by the scheduler (where none is named ``futility``, in a search ``asha``); the report
    compares the same metric on the test set, judges the ``claims``, adds a row for each of the ``aliases`` and sets our
    numbers beside those that are ``published`` (by data set and model). Arms of ``needs_graph`` are left out, with a
    note, on data without a road graph. ``part_of_all`` says whether ``altformer ablate all`` runs the matrix,
    ``paper_table`` whether the table over data sets is written for one data set too. The ``note`` is for the report's
    readers.
    ``margin`` is the difference in the reported metric below which two arms count as equivalent, ``looks`` how often
    the report may be looked at with more seeds each time (alpha is divided by it), ``tune_per_arm`` the values of
    fields of which each arm gets those that do best on validation.
    """

    KIND = "matrix"
    SHIPPED = PACKAGE

    name: str = Field(min_length=1)
    title: str = ""
    base: str
    grid: tuple[dict[str, Values], ...] = ()
    zip: tuple[dict[str, Values], ...] = ()
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    baseline: str | None = Field(None, coerce_numbers_to_str=True)
    labels: str | None = None
    seeds: PerProfile = PerProfile(quick=3, full=5)
    objective: Objective = "val_mae"
    kind: Literal["comparison", "search"] = "comparison"
    scheduler: Annotated[NoScheduler | Asha | Futility, Field(discriminator="type")] = Futility()
    margin: float = Field(0.02, gt=0)
    looks: int = Field(1, ge=1)
    tune_per_arm: dict[str, Values] = Field(default_factory=dict)
    resources: Resources = Resources()
    retries: Retries = Retries()
    claims: tuple[Claim, ...] = ()
    aliases: dict[str, Alias] = Field(default_factory=dict)
    published: dict[str, dict[str, PublishedModel]] = Field(default_factory=dict)
    needs_graph: tuple[str, ...] = ()
    part_of_all: bool = True
    paper_table: bool = False
    note: str = ""

    @property
    def heading(self) -> str:
        """The title, or the name."""
        return self.title or self.name

    @field_validator("grid", "zip", mode="before")
    @classmethod
    def _one_block_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict) else value

    @field_validator("arms", mode="before")
    @classmethod
    def _plain_arms(cls, value: Any) -> Any:
        """Names such as 48 are text, and an arm without overrides may be left empty."""
        if not isinstance(value, dict):
            return value
        return {str(name): {} if overrides is None else overrides for name, overrides in value.items()}

    @field_validator("aliases", "published", mode="before")
    @classmethod
    def _names_are_text(cls, value: Any) -> Any:
        return text_keys(value)

    @model_validator(mode="before")
    @classmethod
    def _scheduler_of_the_kind(cls, values: Any) -> Any:
        """A search stops what falls behind, a comparison only arms that are shown to be worse."""
        is_search = isinstance(values, dict) and values.get("kind") == "search"
        return {"scheduler": "asha", **values} if is_search else values

    @field_validator("scheduler", mode="before")
    @classmethod
    def _name_is_short_for_type(cls, value: Any) -> Any:
        if value is None:
            return {"type": "none"}
        return {"type": value} if isinstance(value, str) else value

    @property
    def reported(self) -> str:
        """The metric that arms are compared by: the objective's, on the test set."""
        return self.objective.replace("val_", "test_", 1)

    @property
    def slug(self) -> str:
        """The name as part of a path: letters, digits, ``-`` and ``_`` only."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-")[:60] or "matrix"

    def aliases_of(self, arms: Container[str]) -> dict[str, Alias]:
        """The aliases whose arms are both among these: an arm that needs a road graph may be left out."""
        return {alias: row for alias, row in self.aliases.items() if row.of in arms and row.against in arms}

    def of(self, profile: str) -> Matrix:
        """The same matrix with every ``{quick: ..., full: ...}`` in its arms and settings settled for a profile."""
        return self.model_copy(update={name: for_profile(getattr(self, name), profile) for name in PER_PROFILE})

    def changed(self, changes: dict[str, Any]) -> Matrix:
        """The same matrix with some keys given anew, as from the command line; UserError where one is not valid."""
        try:
            matrix = Matrix.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise explain(error, Matrix, None, {}, COMMAND_LINE) from None
        return matrix.read_from(self._path, self._lines)


def restore_matrix(values: Mapping[str, Any], file: str | None) -> Matrix:
    """The matrix of a ``plan.json``, once read from ``file`` (a path, or a shipped one's name); ValidationError."""
    matrix = Matrix.model_validate(values)
    if file is None:
        return matrix
    shipped = PACKAGE / f"{file}.yaml"
    return matrix.read_from(shipped if shipped.is_file() else Path(file))


def load_matrix(path: Path) -> Matrix:
    """Read a matrix file; UserError with file and line for what is wrong with it."""
    values, lines = read_yaml(path)
    return make_matrix(values, path, lines).read_from(path, lines)


def make_matrix(values: Any, place: Path = Path("matrix"), lines: dict[str, int] | None = None) -> Matrix:
    """The matrix of the values that a file would hold; UserError naming the place of what is wrong with them."""
    lines = lines or {}
    try:
        matrix = Matrix.model_validate(values)
    except ValidationError as error:
        raise explain(error, Matrix, place, lines, COMMAND_LINE) from None
    for section in PER_PROFILE:
        if found := partial_mapping(getattr(matrix, section), (section,)):
            keys, given = as_written(lines, found[0])[0], found[1]
            at = place_of(place, lines, found[0], COMMAND_LINE)
            raise UserError(f"{at}: {'.'.join(keys)}: {TAKES_BOTH}, got {shortened(given)}")
    return matrix


def matrix_file(name: str) -> Path:
    """The file of a matrix given by path, or by the name of one that comes with the package (``depth``)."""
    path = Path(name)
    if path.is_file():
        return path
    if path.parent in (Path(), Path("ablations")) and (PACKAGE / f"{path.stem}.yaml").is_file():
        return PACKAGE / f"{path.stem}.yaml"
    beside = [*map(str, path.parent.glob("*.yaml")), *map(str, path.parent.glob("*.yml"))]
    raise unknown_name("matrix", name, [ALL, *(path.stem for path in PACKAGE.glob("*.yaml")), *beside])


def matrix_files(names: Sequence[str]) -> list[Path]:
    """The files of several matrices; ``all``: every shipped one that is part of it. UserError for one given twice."""
    files: list[Path] = []
    for name in names:
        files += shipped_matrices() if name == ALL else [matrix_file(name)]
    real = [file.resolve() for file in files]
    for file in real:
        if real.count(file) > 1:
            raise UserError(f"matrix {file.stem} is given twice")
    return files


def load_matrices(names: Sequence[str]) -> list[Matrix]:
    """Several matrices; UserError for a file given twice, and for two of one name, which would share a folder."""
    first: dict[str, Matrix] = {}
    for matrix in map(load_matrix, matrix_files(names)):
        if (other := first.setdefault(matrix.slug, matrix)) is not matrix:
            raise UserError(
                f"{matrix.where('name')}: two matrices are named '{matrix.name}' (the other at {other.where('name')}); "
                "give one of them another name"
            )
    return list(first.values())


def shipped_matrices() -> list[Path]:
    """The files of the matrices that ``altformer ablate all`` runs, by name."""
    return [path for path in sorted(PACKAGE.glob("*.yaml")) if load_matrix(path).part_of_all]
