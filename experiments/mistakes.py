"""What pydantic says of a file's values, as one message: the place, the key, the rule, and what was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from altformer.errors import UserError, unknown_name
from experiments.yaml_file import as_written

# In our words, where pydantic's are of Python rather than of YAML.
_RULES = {
    "bool": "takes true or false",
    "dict": "takes a mapping (key: value)",
    "float": "takes a number",
    "int": "takes a whole number",
    "list": "takes a list",
    "model": "takes a mapping (key: value)",
    "string": "takes text (in quotes, where YAML would read it as something else)",
    "tuple": "takes a list",
}
_KINDS = ("_type", "_parsing", "_from_float", "_attributes_type")
_MOST = 80  # characters of a value that are shown


def place_of(path: Path | None, lines: Mapping[str, int], keys: Sequence[str], otherwise: str) -> str:
    """``file:line`` of a key, or of the nearest one around it; ``otherwise`` where the values are of no file."""
    line = as_written(lines, keys)[1]
    return f"{path}:{line}" if line else str(path or otherwise)


def explain(
    error: ValidationError, root: type[BaseModel], path: Path | None, lines: Mapping[str, int], otherwise: str
) -> UserError:
    """The first error of a validation with its place; an unknown key or type with the nearest known one.

    ``root`` is the model that was to be made of the file, ``otherwise`` what stands for the place without one.
    """
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])  # a typo is why one is missing
    found, around = _followed(list(map(str, first["loc"])), root)
    keys = as_written(lines, found)[0]
    name, place = ".".join(keys), place_of(path, lines, found, otherwise)
    if first["type"] == "extra_forbidden":
        return unknown_name("key", keys[-1], _keys_of(around), place)
    if first["type"] == "missing":
        return UserError(f"{place}: '{name}' is missing")
    if first["type"] == "union_tag_not_found":
        return UserError(f"{place}: '{name}.type' is missing (one of: {', '.join(_forms(around))})")
    if first["type"] == "union_tag_invalid":
        at = place_of(path, lines, [*found, "type"], otherwise)
        return unknown_name(f"type of {name}", str(first["ctx"]["tag"]), _forms(around), at)
    return UserError(f"{place}: {name}: {rule_of(first)}, got {shortened(first['input'])}")


def rule_of(problem: Mapping[str, Any]) -> str:
    """The rule that one of pydantic's errors is about, in words that do not need Python."""
    kind = str(problem["type"])
    known = next((_RULES[start] for end in _KINDS if (start := kind.removesuffix(end)) in _RULES), None)
    if known is not None and kind not in _RULES:
        return known
    if kind == "literal_error":
        return f"takes {problem['ctx']['expected']}"
    return (
        str(problem["msg"])
        .removeprefix("Value error, ")
        .replace("Input should ", "must ")
        .replace("String should ", "must ")
    )


def shortened(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."


def _followed(location: Sequence[str], root: Any) -> tuple[list[str], Any]:
    """The keys on the way to a value, without the forms of unions, which pydantic names too; and what is there.

    What is there is the type of the value, or where it has none (an unknown key) that of the mapping around it.
    """
    keys: list[str] = []
    there = root
    for part in location:
        there = _bare(there)
        if get_origin(there) in (Union, UnionType):
            there = _forms(there).get(part)
            continue
        if part == "[key]":
            break
        keys.append(part)
        if isinstance(there, type) and issubclass(there, BaseModel):
            field = next((f for name, f in there.model_fields.items() if part in (name, f.alias)), None)
            if field is None:
                break
            there = field.annotation
        else:
            there = _inside(there, part)
    return keys, _bare(there)


def _inside(there: Any, part: str) -> Any:
    """The type of an entry of a list or mapping."""
    inner = get_args(there)
    if not inner:
        return None
    if get_origin(there) is dict:
        return inner[1]
    fixed = get_origin(there) is tuple and inner[-1] is not Ellipsis
    return inner[int(part)] if fixed and part.isdigit() and int(part) < len(inner) else inner[0]


def _bare(there: Any) -> Any:
    """A type without what is annotated, and without the choice of leaving it out."""
    while get_origin(there) is Annotated:
        there = get_args(there)[0]
    if get_origin(there) in (Union, UnionType):
        given = [one for one in get_args(there) if one is not NoneType]
        if len(given) == 1:
            return _bare(given[0])
    return there


def _forms(there: Any) -> dict[str, Any]:
    """The models of a union by their ``type``."""
    members = [_bare(one) for one in get_args(there)] if get_origin(there) in (Union, UnionType) else []
    models = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    return {name: one for one in models if "type" in one.model_fields for name in _tags(one)}


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(model.model_fields["type"].annotation)


def _keys_of(model: Any) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
