"""Which data set ``auto`` is, and the machine's device."""

from __future__ import annotations

from altformer.data.datasets import data_dir
from altformer.errors import UserError, unknown_name


def choose_dataset(name: str) -> tuple[str, str]:
    """The data set's name and a sentence that says which it is and why; a named one is never replaced by another."""
    if name != "auto":
        return name, f"Data set: {name}."
    from altformer.data.auto import resolve_auto

    chosen, reason = resolve_auto(data_dir())
    return chosen, reason


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU when there is one. UserError when a GPU is asked for in vain."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", name, ("auto", "cpu", "cuda"), "--device")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("--device cuda: torch finds no usable GPU here (is the driver installed, is this a CPU build?)")
    return "cuda" if found and name != "cpu" else "cpu"
