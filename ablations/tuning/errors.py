"""What pydantic says of a tuning plan, as one message with the place in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ablations.early_stopping import Asha, NoScheduler
from ablations.per_profile import PerProfile
from ablations.tuning.goals import PARTS, Goal, Goals
from ablations.tuning.search import Choice, LogUniform, Uniform
from ablations.tuning.stages import KINDS, Bound, Gate
from altformer.errors import UserError, unknown_name
from altformer.schema import Strict
from cluster.resources import Resources

# Where the file has one of several forms: key of the mapping, or of the mapping of them -> type -> model.
_ONE_OF: dict[str, Mapping[str, type[Strict]]] = {"scheduler": {"none": NoScheduler, "asha": Asha}}
_EACH_ONE_OF: dict[str, Mapping[str, type[Strict]]] = {
    "stages": KINDS,
    "space": {"uniform": Uniform, "loguniform": LogUniform, "choice": Choice},
}
_MODELS: dict[str, type[BaseModel]] = {
    "gate": Gate,
    "below": Bound,
    "above": Bound,
    "goals": Goals,
    **dict.fromkeys(PARTS, Goal),
    "seeds": PerProfile,
    "grace_period": PerProfile,
    "resources": Resources,
}


def place_of(path: Path | None, lines: Mapping[str, int], keys: Sequence[str]) -> str:
    """``file:line`` of a key, or of the nearest one around it."""
    for end in range(len(keys), 0, -1):
        if line := lines.get(".".join(keys[:end])):
            return f"{path}:{line}"
    return str(path or "tuning plan")


def explain(error: ValidationError, root: type[Strict], path: Path, lines: Mapping[str, int]) -> UserError:
    """The first error of a validation with its place; an unknown key or type with the nearest known one."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])  # a typo is why one is missing
    keys, model = _as_written(list(map(str, first["loc"])), root)
    name, place = ".".join(keys), place_of(path, lines, keys)
    if first["type"] == "extra_forbidden":
        return unknown_name("key", keys[-1], model.model_fields, place)
    if first["type"] == "missing":
        return UserError(f"{place}: '{name}' is missing")
    if first["type"] == "union_tag_not_found":
        return UserError(f"{place}: '{name}.type' is missing (one of: {', '.join(_forms(keys))})")
    if first["type"] == "union_tag_invalid":
        given = str(first["ctx"]["tag"])
        return unknown_name(f"type of {name}", given, _forms(keys), place_of(path, lines, [*keys, "type"]))
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return UserError(f"{place}: {name}: {first['msg'].removeprefix('Value error, ')}, got {shown}")


def _forms(keys: Sequence[str]) -> Mapping[str, type[Strict]]:
    """The types that the mapping at the end of these keys can have."""
    if keys[-1:] and keys[-1] in _ONE_OF:
        return _ONE_OF[keys[-1]]
    return _EACH_ONE_OF.get(keys[-2], {}) if len(keys) > 1 else {}


def _as_written(location: Sequence[str], root: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The keys as they stand in the file (pydantic names the form of a union too), and the model of the last one."""
    keys: list[str] = []
    model: type[BaseModel] = root
    for place, part in enumerate(location):
        last = place + 1 == len(location)
        forms = _forms(keys)
        if part in forms and not last:
            model = forms[part]
            continue
        if not last:
            model = _MODELS.get(part, model)
        keys.append(part)
    return keys, model
