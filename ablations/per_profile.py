"""One value for each profile, anywhere in a matrix: ``{quick: 24, full: 64}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from altformer.schema import Strict

KEYS = {"quick", "full"}


class PerProfile(Strict):
    """A number that depends on the profile; a plain number stands for the same in both."""

    quick: int = Field(ge=1)
    full: int = Field(ge=1)

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        return {"quick": value, "full": value} if isinstance(value, int) and not isinstance(value, bool) else value

    def of(self, profile: str) -> int:
        """The number for a profile; every profile but ``quick`` counts as full."""
        return self.quick if profile == "quick" else self.full


def is_per_profile(value: object) -> bool:
    """Whether a value is a mapping with exactly the keys ``quick`` and ``full``."""
    return isinstance(value, Mapping) and value.keys() == KEYS


def for_profile(value: Any, profile: str) -> Any:
    """The value with every ``{quick: ..., full: ...}`` in it, however deep, replaced by the profile's own."""
    if is_per_profile(value):
        return for_profile(value["quick" if profile == "quick" else "full"], profile)
    if isinstance(value, Mapping):
        return {key: for_profile(item, profile) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(for_profile(item, profile) for item in value)
    return value
