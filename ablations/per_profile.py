"""One value for each profile, anywhere in a matrix: ``{quick: 24, full: 64}``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from altformer.schema import Strict

KEYS = {"quick", "full"}
TAKES_BOTH = "one value for each profile takes exactly the keys quick and full"


class PerProfile(Strict):
    """A number that depends on the profile; a plain number stands for the same in both."""

    quick: int = Field(ge=1)
    full: int = Field(ge=1)

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"quick": value, "full": value}
        if not isinstance(value, Mapping | PerProfile):
            raise ValueError("takes a whole number, or {quick: 1, full: 3}")
        return value

    def of(self, profile: str) -> int:
        """The number for a profile; every profile but ``quick`` counts as full."""
        return self.quick if profile == "quick" else self.full


def is_per_profile(value: object) -> bool:
    """Whether a value is a mapping with exactly the keys ``quick`` and ``full``."""
    return isinstance(value, Mapping) and value.keys() == KEYS


def partial_mapping(value: Any, keys: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, Any]] | None:
    """The first mapping in a value that is meant for profiles but has not exactly both, with the keys that lead to it.

    Meant for profiles: it has ``quick`` or ``full``, and whatever else is in it reads like one of them. (Options of a
    user's own model may well be called ``full``.)
    """
    if isinstance(value, Mapping):
        names = [str(name) for name in value]
        if value.keys() != KEYS and KEYS & set(names) and all(_is_like(name) for name in names):
            return keys, value
    inside = (partial_mapping(item, (*keys, str(name))) for name, item in _items(value))
    return next(filter(None, inside), None)


def _is_like(name: str) -> bool:
    return bool(difflib.get_close_matches(name, KEYS))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def for_profile(value: Any, profile: str) -> Any:
    """The value with every ``{quick: ..., full: ...}`` in it, however deep, replaced by the profile's own."""
    if is_per_profile(value):
        return for_profile(value["quick" if profile == "quick" else "full"], profile)
    if isinstance(value, Mapping):
        return {key: for_profile(item, profile) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(for_profile(item, profile) for item in value)
    return value
