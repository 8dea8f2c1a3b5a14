"""What is known of cells: their own records, and those of the same configuration by other sources or machines."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from ablations.plan import settles
from altformer.config import Config
from experiments.cell import Cell, Record, read_record

#: The rule by which a candidate is stopped where its test would follow; run as a final cell, it goes on to that.
VALIDATION_ONLY = {"type": "validation_only"}


def is_settled(record: Record | None, test: bool) -> bool:
    """Whether a cell need not run (again).

    A candidate (without ``test``) that fails is out of the choice; any other cell that failed is tried again.
    """
    if record is None:
        return False
    return settles(record, {} if test else VALIDATION_ONLY) or (not test and record["status"] == "failed")


class Records:
    """The records below ``<out>/cells``.

    A configuration that was trained on the same data counts whatever sources of altformer or machine did it, as long as
    the cell of these sources has nothing itself: a test set is read once for a final configuration, and minutes on a
    GPU are not spent twice. Its record says what trained it.
    """

    def __init__(self, out: Path) -> None:
        self._cells = out.resolve() / "cells"

    def of(self, cell: Cell, test: bool) -> Record | None:
        """The cell's record: its own where that settles it, else the newest settled one of its like, else its own."""
        own = read_record(cell.folder)
        if is_settled(own, test):
            return own
        others = (record for record in self._like.get(_key(cell.config, cell.data_hash), ()))
        return next((record for record in others if record["status"] != "failed" and is_settled(record, test)), own)

    @cached_property
    def _like(self) -> dict[str, list[Record]]:
        """The records that were there at the first look, the newest first, by configuration and data."""
        found: dict[str, list[Record]] = {}
        folders = self._cells.iterdir() if self._cells.is_dir() else ()
        records = [record for folder in folders if (record := read_record(folder)) is not None]
        for record in sorted(records, key=_ended, reverse=True):
            try:
                config = Config.model_validate(record["config"])  # options that came later have their defaults
            except ValidationError:
                continue
            found.setdefault(_key(config, record["data_hash"]), []).append(record)
        return found


def _ended(record: Record) -> str:
    return str((record.get("provenance") or {}).get("ended"))


def _key(config: Config, data_hash: str) -> str:
    return config.model_dump_json(exclude={"dataset": {"path", "graph"}}) + data_hash
