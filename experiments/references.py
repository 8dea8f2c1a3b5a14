"""Which cells are named by what lies beside them: experiments, ensembles, other results, and students their teacher."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from experiments.cell import read_record

# Folders beside `cells/` whose JSON files are about cells.
NOTES = ("experiments", "ensembles", "distilled", "postprocessed", "campaigns")
_HASH = re.compile(r"\b[0-9a-f]{16}\b")


def noted_cells(out: Path) -> set[str]:
    """The hashes of all cells that a result below ``out`` names, and perhaps some that only look like one."""
    files = [path for name in NOTES for path in (out / name).rglob("*.json")]
    return set().union(*map(named_in, files))


def named_in(path: Path) -> set[str]:
    """The hashes of all cells that a file names, in its own name too; as ``noted_cells``. None without the file."""
    text = path.read_text(errors="replace") if path.is_file() else ""
    return set(_HASH.findall(f"{path.stem} {text}"))


def with_teachers(cells: Path, keys: Iterable[str]) -> set[str]:
    """The hashes given and those of all cells that these have learnt from, or will, and so on."""
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        if (key := waiting.pop()) not in found:
            found.add(key)
            waiting += filter(None, [_teacher_of(cells / key)])
    return found


def _teacher_of(folder: Path) -> str | None:
    """The hash of the cell that a distilled one learns from, by its record or, before it has one, its configuration."""
    record = read_record(folder)
    config: Any = record["config"] if record else None
    try:
        config = config or yaml.safe_load((folder / "config.yaml").read_text())
        return str(config["training"]["distillation"]["teacher"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None  # it has none
