"""Which cells are named by what lies beside them: experiments, ensembles, other results, and students their teacher."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.cell import read_record

# Folders beside `cells/` whose JSON files are about cells.
NOTES = ("experiments", "ensembles", "distilled", "postprocessed")
_HASH = re.compile(r"\b[0-9a-f]{16}\b")


def noted_cells(out: Path) -> set[str]:
    """The hashes of all cells that a result below ``out`` names, and perhaps some that only look like one."""
    files = [path for name in NOTES for path in (out / name).rglob("*.json")]
    return {key for path in files for key in _HASH.findall(f"{path.stem} {path.read_text(errors='replace')}")}


def teacher_of(folder: Path) -> str | None:
    """The hash of the cell that a distilled one learnt from."""
    record = read_record(folder)
    distillation = record["config"].get("training", {}).get("distillation") if record else None
    return str(distillation["teacher"]) if distillation else None
