"""What the configuration says of a user's own model; free of torch."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from altformer.schema import Strict


class OwnModelConfig(Strict):
    """Where the class is (`package.module:Name`) and the options that it is built with.

    It is built as `Name(shape, **options)`, with `shape` a `ForecastShape`, and called as our own model is (see
    `AltFormer.forward`). In YAML: `model: {class: my_package.module:MyModel, ...}`, all but the class its options.
    """

    type: Literal["own"]
    class_path: str
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("class_path")
    @classmethod
    def _names_module_and_class(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ValueError("takes the class as package.module:Name")
        return value
