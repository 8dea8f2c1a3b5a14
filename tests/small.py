"""Settings of cells that train in a second or two: what several test files vary by an entry or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Eight days of a simulated network of eight sensors, scored at one origin in forty.
SMALL_DATA: Mapping[str, Any] = {"sensors": 8, "days": 8, "val_stride": 40, "test_stride": 40}
#: A model of some ten thousand parameters on it; how many epochs of how many steps is each test's own.
SMALL: Mapping[str, Any] = {
    **SMALL_DATA,
    "embed_dim": 8,
    "num_heads": 2,
    "adaptive_dim": 4,
    "patch_len": 3,
    "batch_size": 8,
}


def as_settings(values: Mapping[str, Any]) -> list[str]:
    """Fields as `--set` takes them."""
    return [f"--set={name}={value}" for name, value in values.items()]


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Fields as options of `altformer train`."""
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]
