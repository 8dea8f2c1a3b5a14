"""``altformer report``: the files of a report from what the run left, without data, Ray or MLflow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from altformer.errors import UserError

if TYPE_CHECKING:
    from ablations.reported import Reported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a matrix, or its name below --out (the beginning is enough: depth); several: a page over them",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where matrices are found (default: runs)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the page over several matrices goes")


def run(args: argparse.Namespace) -> int:
    """Write every report anew, and for several matrices a page over them; exit code 0."""
    from ablations.folders import find_matrix
    from ablations.rebuilding import files_of, page_folder, rebuild, write_page

    folders = list(dict.fromkeys(find_matrix(name, args.out).resolve() for name in args.runs))
    if args.output is not None and len(folders) == 1:
        raise UserError("--output is where the page over several matrices goes; a report is in its matrix's folder")
    matrices: dict[Path, Reported] = {}
    for folder in folders:
        rebuilt = rebuild(folder)
        matrices |= {one.folder: one for one in rebuilt}
        for one in rebuilt:
            print(f"{one.report.title}\n{one.report.summary}")
            first, *others = files_of(one.folder)
            print(f"Report: {first} (beside it: {', '.join(path.name for path in others)})\n")
        if len(rebuilt) > 1:
            print(f"Summary of {len(rebuilt)} matrices: {folder / 'summary.md'}\n")
    if len(folders) > 1:
        several = list(matrices.values())
        page = write_page(several, args.output.resolve() if args.output else page_folder(several))
        print(f"Summary of {len(several)} matrices: {page}\nTable of all test errors: {page.with_name('table.md')}")
    return 0
