"""The base of every configuration model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen pydantic model that refuses unknown keys, infinite numbers and silent type changes of strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
