"""The ledger of test sets: every reading of one, once, over all campaigns that write to the same folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from ablations.plan import PlannedCell
from ablations.tuning.log import Entry, JsonLines
from experiments import provenance

PLANNED = "cell planned"  # no reading yet: the cell's training reads the test set at its end, unless it is stopped


class Ledger:
    """``<out>/test_ledger-<data set>.jsonl``: what was scored on a test set, when, and by which campaign first.

    It lies outside the campaigns' own folders, since a test set is as worn by the readings of other plans. A reading is
    noted before it is made, so that a crash loses none: cells as planned before they run and as read once they are
    done, an average or a correction (whose scores are kept) before it is scored.
    """

    def __init__(self, out: Path, campaign: str) -> None:
        self._out, self._campaign = out, campaign

    def file(self, dataset: str) -> Path:
        """The ledger of a data set."""
        return self._out / f"test_ledger-{dataset}.jsonl"

    @property
    def files(self) -> list[Path]:
        """The ledgers in which this campaign has noted something."""
        found = sorted(self._out.glob("test_ledger-*.jsonl"))
        return [path for path in found if any(map(self._is_own, JsonLines(path).read()))]

    @property
    def entries(self) -> list[Entry]:
        """What this campaign has noted first, data set by data set."""
        return [entry for path in self.files for entry in JsonLines(path).read() if self._is_own(entry)]

    def plan_cells(self, stage: str, cells: Iterable[PlannedCell], dataset: str) -> None:
        """Note the cells that are about to run and so may read the test set."""
        now = provenance.now()
        self._add(dataset, [_entry(at.cell.hash, PLANNED, stage, dataset, now) for at in cells])

    def add_cells(self, stage: str, cells: Iterable[PlannedCell]) -> None:
        """Note the cells that are done, whose test columns exist; one noted before is not noted again.

        ``trained_in`` names the matrix that read the test set first, which may be one outside the campaign.
        """
        found: dict[str, list[Entry]] = {}
        for at in cells:
            if at.record is not None and at.record["status"] == "done":
                made, dataset = at.record.get("provenance") or {}, str(at.record["dataset"])
                entry = _entry(at.cell.hash, "cell", stage, dataset, made.get("ended"))
                found.setdefault(dataset, []).append({**entry, "trained_in": made.get("matrix")})
        for dataset, entries in found.items():
            self._add(dataset, entries)

    def add(self, stage: str, what: str, cells: Iterable[str], dataset: str) -> None:
        """Note a reading that is no cell's own and is about to be made: an ensemble's, or of corrected forecasts."""
        self._add(dataset, [_entry("+".join(cells), what, stage, dataset, provenance.now())])

    def _add(self, dataset: str, entries: Iterable[Entry]) -> None:
        log = JsonLines(self.file(dataset))
        known = {_key(entry) for entry in log.read()}
        for entry in entries:
            if (key := _key(entry)) not in known:
                log.append({**entry, "campaign": self._campaign})
                known.add(key)

    def _is_own(self, entry: Entry) -> bool:
        return entry.get("campaign") == self._campaign


def merge_ledgers(out: Path, to: Path, datasets: Collection[str] | None = None) -> list[Path]:
    """Add what the ledgers of ``out`` have to those in another folder, whose own entries stay; returns their paths.

    Of all data sets, or of the named ones alone.
    """
    written = []
    for path in sorted(out.glob("test_ledger-*.jsonl")):
        if datasets is not None and path.stem.removeprefix("test_ledger-") not in datasets:
            continue
        there = JsonLines(to / path.name)
        known = there.read()
        for entry in JsonLines(path).read():
            if entry not in known:
                there.append(entry)
        written.append(there.path)
    return written


def _entry(cell: str, what: str, stage: str, dataset: str, time: str | None) -> Entry:
    return {"cell": cell, "what": what, "stage": stage, "dataset": dataset, "time": time}


def _key(entry: Entry) -> tuple[str, str]:
    return str(entry.get("cell")), str(entry.get("what"))
