"""From a matrix to its arms, each a named set of overrides, and what must hold among them."""

from __future__ import annotations

import itertools
import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ablations.matrix import Matrix
from altformer.errors import UserError, unknown_name
from experiments.compose import fields_of
from experiments.fields import WINDOWS, leaf, locate, overlap

Resolved = TypeVar("Resolved")


@dataclass(frozen=True)
class Arm:
    """One configuration under comparison: ``settings`` (field by leaf name or dotted path -> value) over the base."""

    name: str
    settings: dict[str, Any]
    is_baseline: bool
    where: str  # file:line, for messages


def expand(matrix: Matrix) -> list[Arm]:
    """All arms: those of the grids, then of the zips, then the named ones, each in the order written.

    UserError: no arm, two of one name or with the same settings, zip lists of unequal length, a comparison without a
    baseline, a baseline, a label's field, or an arm named by a claim, alias or published model that does not exist;
    ``tune_per_arm`` in a search, of an unknown field, or of one that an arm or the ``settings`` set.
    """
    drafts = [*_grid_arms(matrix), *_zip_arms(matrix), *_named_arms(matrix)]
    if not drafts:
        raise UserError(f"{matrix.where()}: the matrix has no arms; give grid:, zip: or arms:")
    _refuse_unused_label_fields(matrix)
    arms = [Arm(name, settings, name == matrix.baseline, where) for name, settings, where in drafts]
    _refuse_twice(arms, lambda arm: arm.name, "name")
    _refuse_twice(arms, _canonical, "settings")
    _refuse_bad_baseline(matrix, arms)
    _refuse_unknown_references(matrix, [arm.name for arm in arms])
    _refuse_bad_tuning(matrix, arms)
    return arms


def resolve_arms(arms: Sequence[Arm], resolve: Callable[[Arm], Resolved]) -> dict[str, Resolved]:
    """What each arm resolves to (its whole configuration), by name, in order.

    UserError, with the arm's file and line, where ``resolve`` raises one, and where two arms resolve to the same: an
    arm that spells out the baseline's own values is the baseline under another name, and would only be compared with
    itself.
    """
    resolved: dict[str, Resolved] = {}
    named: dict[str, str] = {}  # by what its configuration looks like; to compare all pairs takes long with many arms
    for arm in arms:
        try:
            configuration = resolve(arm)
        except UserError as error:
            wrong = re.sub(r"^arm [^:\s]+: ", "", str(error), flags=re.MULTILINE)  # the field is named again after it
            raise UserError(f"{arm.where}: arm '{arm.name}': {wrong}") from None
        if (name := named.setdefault(repr(configuration), arm.name)) != arm.name:
            raise UserError(
                f"{arm.where}: arms '{name}' and '{arm.name}' are one configuration under two names; remove one"
            )
        resolved[arm.name] = configuration
    return resolved


def varied_fields(arms: Iterable[Arm]) -> frozenset[str]:
    """The dotted path of every field that some arm sets; a profile must set none of them, in any arm."""
    return frozenset(path for arm in arms for path in fields_of(arm.settings, arm.where))


def settings_fields(matrix: Matrix) -> frozenset[str]:
    """The dotted path of every field of the matrix's own ``settings``, which win over the profile."""
    written = matrix.settings.items()
    return frozenset(
        path for name, value in written for path in fields_of({name: value}, matrix.where("settings", name))
    )


def tuned_fields(matrix: Matrix) -> dict[str, str]:
    """The dotted path of every field of ``tune_per_arm``, by its name there; UserError for an unknown one."""
    return {name: locate(name, matrix.where("tune_per_arm", name)) for name in matrix.tune_per_arm}


def refuse_set_tuned(matrix: Matrix, fields: Iterable[str]) -> None:
    """UserError where ``--set`` names a field of ``tune_per_arm``, as of one that an arm sets."""
    for field in fields:
        for name, path in tuned_fields(matrix).items():
            if overlap(locate(field, "--set"), path):
                raise UserError(
                    f"--set {field}: every arm is tuned over {name} ({matrix.where('tune_per_arm', name)}); change it "
                    "there"
                )


def refuse_set_fields(arms: Iterable[Arm], fields: Iterable[str]) -> None:
    """UserError where ``--set`` names a field that an arm sets: one of the two would silently win."""
    asked = {field: locate(field, "--set") for field in fields}
    for arm in arms:
        own = fields_of(arm.settings, arm.where)
        for field, path in asked.items():
            if any(overlap(path, other) for other in own):
                raise UserError(
                    f"--set {field}: arm '{arm.name}' sets this field itself ({arm.where}); change it there"
                )


def refuse_other_data(arms: Iterable[Arm]) -> None:
    """UserError where an arm sets a field of the data set itself.

    Its cells would be compared across data sets, on the readings that were loaded for another one.
    """
    for arm in arms:
        for path in fields_of(arm.settings, arm.where):
            section, _, field = path.partition(".")
            if section == "dataset" and field not in WINDOWS:
                raise UserError(
                    f"{arm.where}: arm '{arm.name}' sets {path}: an arm cannot be another data set; use --dataset A,B "
                    f"(an arm may set {', '.join(sorted(WINDOWS))})"
                )


def spell(settings: Mapping[str, Any], between: str = ",") -> str:
    """Settings in short, by leaf name: ``lr=0.001,dropout=0.1``."""
    return between.join(f"{leaf(path)}={spell_value(value)}" for path, value in settings.items())


def spell_value(value: Any) -> str:
    """A value as names of arms have it: text as it is, else as in JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


_Draft = tuple[str, dict[str, Any], str]


def _grid_arms(matrix: Matrix) -> Iterator[_Draft]:
    for index, block in enumerate(matrix.grid):
        for values in itertools.product(*block.values()):
            settings = dict(zip(block, values, strict=True))
            yield _label(matrix, settings), settings, matrix.where("grid", str(index))


def _zip_arms(matrix: Matrix) -> Iterator[_Draft]:
    for index, block in enumerate(matrix.zip):
        where = matrix.where("zip", str(index))
        lengths = {field: len(values) for field, values in block.items()}
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{field} has {length}" for field, length in lengths.items())
            raise UserError(f"{where}: zip needs lists of equal length: {given}")
        for values in zip(*block.values(), strict=True):
            settings = dict(zip(block, values, strict=True))
            yield _label(matrix, settings), settings, where


def _named_arms(matrix: Matrix) -> Iterator[_Draft]:
    for name, settings in matrix.arms.items():
        if not name.strip():
            raise UserError(f"{matrix.where('arms', name)}: an arm needs a name, got {name!r}")
        yield name, dict(settings), matrix.where("arms", name)


def _label(matrix: Matrix, settings: Mapping[str, Any]) -> str:
    """The arm's name from its values: by the template where it has all fields of it, else ``field=value,...``."""
    leaves = {leaf(path): spell_value(value) for path, value in settings.items()}
    fields = _label_fields(matrix)
    if matrix.labels and fields <= leaves.keys():
        return matrix.labels.format(**leaves)
    return spell(settings)


def _label_fields(matrix: Matrix) -> set[str]:
    """The plain field names of the template; anything cleverer than ``{field}`` is refused."""
    try:
        parts = list(string.Formatter().parse(matrix.labels or ""))
    except ValueError as error:
        raise UserError(f"{matrix.where('labels')}: labels: {error}, got {matrix.labels!r}") from None
    fields = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in fields:
        if not name.isidentifier() or spec or conversion:
            raise UserError(
                f"{matrix.where('labels')}: labels takes plain fields such as {{lr}}, got {matrix.labels!r}"
            )
    return {name for name, _, _ in fields}


def _refuse_unused_label_fields(matrix: Matrix) -> None:
    blocks = [{leaf(path) for path in block} for block in (*matrix.grid, *matrix.zip)]
    fields = _label_fields(matrix)
    known = set().union(*blocks) if blocks else set()
    for field in sorted(fields - known):
        raise unknown_name("field of a label", field, known, matrix.where("labels"))
    if matrix.labels and not any(fields <= block for block in blocks):
        raise UserError(f"{matrix.where('labels')}: no grid or zip has all the fields of labels {matrix.labels!r}")


def _refuse_twice(arms: Sequence[Arm], key: Callable[[Arm], str], what: str) -> None:
    first: dict[str, Arm] = {}
    for arm in arms:
        if (other := first.setdefault(key(arm), arm)) is not arm:
            who = f"'{arm.name}'" if other.name == arm.name else f"'{other.name}' and '{arm.name}'"
            raise UserError(f"{arm.where}: the same arm twice, by {what}: {who} (first at {other.where})")


def _refuse_bad_baseline(matrix: Matrix, arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if matrix.baseline is None:
        if matrix.kind == "comparison":
            raise UserError(
                f"{matrix.where()}: a comparison needs one arm named as baseline: (one of: {', '.join(names)})"
            )
    elif matrix.baseline not in names:
        raise unknown_name("baseline arm", matrix.baseline, names, matrix.where("baseline"))


def _refuse_unknown_references(matrix: Matrix, names: Sequence[str]) -> None:
    """UserError where a claim, an alias or a published model names an arm that the matrix does not have."""
    for alias, row in matrix.aliases.items():
        if alias in names:
            raise UserError(
                f"{matrix.where('aliases', alias)}: '{alias}' is an arm already; an alias needs another name"
            )
        for name in (row.of, row.against):
            if name not in names:
                raise unknown_name("arm", name, names, matrix.where("aliases", alias))
    for claim in matrix.claims:
        for name in filter(None, (claim.arm, claim.equal_to)):
            if name not in {*names, *matrix.aliases}:
                raise unknown_name("arm of a claim", name, [*names, *matrix.aliases], matrix.where("claims"))
    for name in matrix.needs_graph:
        if name not in names or name == matrix.baseline:
            raise unknown_name("arm", name, set(names) - {matrix.baseline}, matrix.where("needs_graph"))
    for dataset, models in matrix.published.items():
        for model, numbers in models.items():
            if numbers.arm is not None and numbers.arm not in names:
                raise unknown_name("arm", numbers.arm, names, matrix.where("published", dataset, model))


def _refuse_bad_tuning(matrix: Matrix, arms: Sequence[Arm]) -> None:
    """UserError where ``tune_per_arm`` makes no sense: in a search, or of a field that is set or named elsewhere."""
    if matrix.tune_per_arm and matrix.kind == "search":
        raise UserError(
            f"{matrix.where('tune_per_arm')}: tune_per_arm is for a comparison; a search varies fields by its arms: "
            "list their values in grid:"
        )
    tuned = tuned_fields(matrix)
    setters = [("settings:", matrix.settings, matrix.where("settings"))]
    setters += [(f"arm '{arm.name}'", arm.settings, arm.where) for arm in arms]
    for name, path in tuned.items():
        where = matrix.where("tune_per_arm", name)
        for other, its_path in tuned.items():
            if other != name and overlap(path, its_path):
                raise UserError(f"{where}: tune_per_arm: '{other}' and '{name}' are one field; keep one of them")
        for setter, settings, place in setters:
            if any(overlap(path, own) for own in fields_of(settings, place)):
                raise UserError(
                    f"{where}: tune_per_arm: {name} is set by {setter} itself ({place}); a field is either set or tuned"
                )
        _refuse_value_twice(matrix.tune_per_arm[name], f"{where}: tune_per_arm: {name}")


def _refuse_value_twice(values: Any, place: str) -> None:
    spelled = [spell_value(value) for value in values] if isinstance(values, list) else []  # else: one for each profile
    for value in spelled:
        if spelled.count(value) > 1:
            raise UserError(f"{place}: the value {value} is given twice")


def _canonical(arm: Arm) -> str:
    """Equal for equal settings, whatever their order and whether fields are named by leaf or by path."""
    return json.dumps(fields_of(arm.settings, arm.where), sort_keys=True, default=str)
