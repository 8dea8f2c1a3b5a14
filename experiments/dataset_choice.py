"""What the command line chooses: data set, seeds and the machine's device."""

from __future__ import annotations

from pathlib import Path

from altformer.data.datasets import data_dir, find_file
from altformer.data.specs import SIMULATED, SPECS
from altformer.errors import UserError, unknown_name

AT_HAND = "at-hand"


def choose_dataset(name: str) -> tuple[str, str]:
    """The data set's name and a sentence that says which it is and why; a named one is never replaced by another."""
    if name != "auto":
        return name, f"Data set: {name}."
    from altformer.data.fetch import resolve_auto

    chosen, reason = resolve_auto(data_dir())
    return chosen, reason


def choose_datasets(text: str) -> list[tuple[str, str]]:
    """One data set or several with commas between, each as ``choose_dataset`` gives it.

    ``at-hand`` stands for every known data set whose file is in the data folder. UserError where that is none, and for
    a data set given twice.
    """
    folder = data_dir()
    if text.strip() == AT_HAND:
        names = at_hand(folder)
        if not names:
            raise UserError(f"--dataset {AT_HAND}: none of {', '.join(SPECS)} is in {folder} (set ALTFORMER_DATA)")
        return [(name, f"Data set: {name} (at hand in {folder}).") for name in names]
    chosen = [choose_dataset(name.strip()) for name in text.split(",")]
    names = [name for name, _ in chosen]
    for name in names:
        if not name or names.count(name) > 1:
            raise UserError(f"--dataset takes different names with commas between, got '{text}'")
        if not is_own(name):
            _refuse_unknown(name)
    return chosen


def is_own(name: str) -> bool:
    """Whether a data set is named by the experiment file that describes it."""
    return name.endswith((".yaml", ".yml")) and Path(name).is_file()


def _refuse_unknown(name: str) -> None:
    if name not in (known := [*SPECS, SIMULATED]):
        beside = [path.name for path in sorted(Path().glob("*.y*ml"))] if name.endswith((".yaml", ".yml")) else []
        how = "" if beside else "; a file of your own: --dataset my.yaml, with `dataset: {path: ...}` in it"
        raise UserError(f"{unknown_name('data set', name, [*known, *beside], '--dataset')}{how}")


def at_hand(folder: Path) -> list[str]:
    """The known data sets whose file of readings is in a folder, in the order they are known."""
    return [name for name, spec in SPECS.items() if find_file(name, spec.files, folder) is not None]


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``0,1,2``, in that order; UserError where they are none, or one is named twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--seeds takes whole numbers with commas between, such as 0,1,2, got '{text}'")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds takes each seed once, got '{text}'")
    return seeds


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU when there is one. UserError when a GPU is asked for in vain."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", name, ("auto", "cpu", "cuda"), "--device")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("--device cuda: torch finds no usable GPU here (is the driver installed, is this a CPU build?)")
    return "cuda" if found and name != "cpu" else "cpu"
