"""The fields of a configuration by name: each can be set by its leaf name (``lr``) or dotted path (``training.lr``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from altformer.config import Config
from altformer.errors import unknown_name
from altformer.schema import Strict

OWN_OPTIONS = "model.options."  # of a user's own model, which alone knows their names
SECTIONS = tuple(name for name in Config.model_fields if name != "seed")


#: The fields of a data set that its readings do not depend on.
WINDOWS = ("input_len", "output_len", "val_stride", "test_stride")


def leaf(path: str) -> str:
    """The last word of a dotted path."""
    return path.rpartition(".")[2]


def overlap(one: str, other: str) -> bool:
    """Whether two dotted paths are one field, or one of them is a section with the other in it."""
    return f"{one}.".startswith(f"{other}.") or other.startswith(f"{one}.")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted path; an empty one is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return found


def locate(name: str, where: str = "") -> str:
    """The dotted path of a field given by leaf name, dotted path, or an end of it that no other path has.

    UserError with the nearest name when unknown.
    """
    leaves = leaf_paths()
    if name in leaves:
        return leaves[name]
    if name in leaves.values() or name in SECTIONS or name in _types() or name.startswith(OWN_OPTIONS):
        return name
    ends = {path for path in {*leaves.values(), *_types()} if path.endswith(f".{name}")}
    if len(ends) == 1:
        return ends.pop()
    section, _, last = name.rpartition(".")
    known = [leaf(path) for path in leaves.values() if path.startswith(f"{section}.")] if section else leaves
    raise unknown_name("field", last if section and known else name, known or leaves, where)


@cache
def leaf_paths() -> dict[str, str]:
    """Leaf name -> dotted path, for every field of every section; ``name`` and ``path`` of the data set included."""
    leaves: dict[str, str] = {}
    for path in _paths(Config, ""):
        name = leaf(path)
        if name != "type" and leaves.setdefault(name, path) != path:
            raise AssertionError(f"leaf name {name} stands for both {leaves[name]} and {path}")
    return leaves


@cache
def _types() -> frozenset[str]:
    return frozenset(path for path in _paths(Config, "") if path.endswith(".type"))


def _paths(model: type[Strict], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        below = list(_models(field.annotation))
        if prefix or not below:
            yield path
        for nested in below:
            yield from _paths(nested, f"{path}.")


def _models(annotation: Any) -> Iterator[type[Strict]]:
    """The configuration models an annotation admits, through unions and optionals."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
