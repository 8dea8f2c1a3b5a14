"""The ledger of a campaign: every reading of a test set, once."""

from __future__ import annotations

from collections.abc import Iterable

from ablations.plan import PlannedCell
from ablations.tuning.log import Entry, JsonLines
from experiments import provenance


class Ledger:
    """``test_ledger.jsonl``: what was scored on a test set (a cell, or an average or correction of cells), and when."""

    def __init__(self, log: JsonLines) -> None:
        self._log = log
        self._known = {self._key(entry) for entry in log.read()}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def entries(self) -> list[Entry]:
        """All readings."""
        return self._log.read()

    def add_cells(self, stage: str, cells: Iterable[PlannedCell]) -> None:
        """Note the cells that are done, whose test columns exist; one noted before is not noted again.

        ``trained_in`` names the matrix that read the test set first, which may be one outside the campaign.
        """
        for at in cells:
            if at.record is not None and at.record["status"] == "done":
                made = at.record.get("provenance") or {}
                self._add(
                    {
                        "cell": at.cell.hash,
                        "what": "cell",
                        "stage": stage,
                        "dataset": at.record["dataset"],
                        "time": made.get("ended"),
                        "trained_in": made.get("matrix"),
                    }
                )

    def add(self, stage: str, what: str, cells: Iterable[str], dataset: str) -> None:
        """Note a reading that is no cell's own: an ensemble's, or that of corrected forecasts."""
        self._add({"cell": "+".join(cells), "what": what, "stage": stage, "dataset": dataset, "time": provenance.now()})

    def _add(self, entry: Entry) -> None:
        if (key := self._key(entry)) not in self._known:
            self._log.append(entry)
            self._known.add(key)

    @staticmethod
    def _key(entry: Entry) -> tuple[str, str]:
        return str(entry.get("cell")), str(entry.get("what"))
