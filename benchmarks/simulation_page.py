"""The page of a simulation: its tables, with their origin, in the results; and the same tables in a document."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablations.reports.markdown_text import table
from altformer.files import write_text
from experiments import provenance

ENDS = "<!-- end of what it has written -->"


@dataclass(frozen=True)
class SimulationPage:
    """Where a simulation, ``python -m MODULE``, writes: a page of its own, and between markers of a document."""

    module: str
    title: str
    page: Path
    document: Path

    @property
    def begins(self) -> str:
        """The line of both after which the tables stand, up to ``ENDS``."""
        return f"<!-- written by python -m {self.module} -->"

    def filled(self, text: str, block: str) -> str:
        """A document with what stands between the markers replaced; ValueError where it lacks them."""
        before, begins, rest = text.partition(self.begins)
        _, ends, after = rest.partition(ENDS)
        if not begins or not ends:
            raise ValueError(f"no place for the tables: lines {self.begins!r} and {ENDS!r} are needed")
        return f"{before}{begins}\n\n{block}\n\n{ENDS}{after}"

    def block_of(self, text: str) -> str:
        """What stands between the markers; empty where there are none."""
        return text.partition(self.begins)[2].partition(ENDS)[0].strip()

    def main(self, description: str | None, tables: Callable[[], Iterable[str]]) -> int:
        """The simulation's command: write the page and the tables of the document."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=description)
        parser.add_argument("--out", type=Path, default=self.page)
        parser.add_argument("--docs", type=Path, default=self.document, help="its tables are replaced too")
        args = parser.parse_args()
        state, block = provenance.git_state(), "\n\n".join(tables())
        origin = (
            f"Written by `python -m {self.module}` at commit {state['git_commit']}"
            f"{' with changes' if state['git_dirty'] else ''}, {provenance.now()}, numpy {np.__version__}. "
            f"What the numbers mean: [{self.document.name}](../../{self.document.as_posix()})."
        )
        write_text(args.out, f"# {self.title}\n\n{origin}\n\n{self.begins}\n\n{block}\n\n{ENDS}\n")
        write_text(args.docs, self.filled(args.docs.read_text(), block))
        print(f"wrote {args.out} and the tables of {args.docs}")
        return 0


def number_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table whose first column names the rows."""
    return table(header, [[str(cell) for cell in row] for row in rows], numbers=range(1, len(header)))


def percent(share: float, decimals: int = 1) -> str:
    """A share as readers see it; ``-`` for that of nothing (NaN)."""
    return "-" if math.isnan(share) else f"{100 * share:.{decimals}f} %"
