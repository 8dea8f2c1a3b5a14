"""What `--dataset auto` stands for."""

from __future__ import annotations

from pathlib import Path

from altformer.data.datasets import SIMULATED, find_file
from altformer.data.download import Patience
from altformer.data.fetch import fetch
from altformer.data.specs import SPECS
from altformer.errors import UserError

PREFERRED = "METR-LA"


def resolve_auto(folder: Path, patience: Patience | None = None) -> tuple[str, str]:
    """The data set that `auto` takes and the sentence that says why, for the user: METR-LA where it can be had.

    Only `auto` is ever resolved; a data set that was named is used or refused. A METR-LA file that is there but wrong
    raises UserError when it is loaded: it is not passed over.
    """
    path = find_file(PREFERRED, SPECS[PREFERRED].files, folder)
    if path is not None:
        return PREFERRED, f"Data set: {PREFERRED} (auto: found {path})."
    try:
        origin = fetch(PREFERRED, folder, patience).origin
    except UserError:
        return SIMULATED, (
            f"Data set: {SIMULATED} (auto: {PREFERRED} is neither in {folder} nor could it be fetched; "
            f"altformer data fetch {PREFERRED} says why)."
        )
    return PREFERRED, f"Data set: {PREFERRED} (auto: fetched from {origin})."
