"""``altformer gc``: remove what finished matrices need no longer, and what dead runs have left."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from altformer.errors import UserError

if TYPE_CHECKING:
    from ablations.leftovers import Freed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="folder of a matrix, or its name below --out (the beginning is enough: depth); none: all of them",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where matrices are found (default: runs)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument(
        "--unreferenced",
        action="store_true",
        help="also cells that no matrix, experiment or ensemble below --out refers to: of earlier code, say",
    )


def run(args: argparse.Namespace) -> int:
    """Go through the matrices and say what each frees; 1 when something could not be removed."""
    from ablations.estimate_text import size
    from ablations.folders import all_matrices, find_matrix
    from ablations.leftovers import Freed, collect, collect_unreferenced

    folders = [find_matrix(name, args.out) for name in args.runs] or list(all_matrices(args.out))
    total, code = Freed(args.dry_run), 0
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        try:
            freed = collect(folder, args.dry_run)
        except (UserError, OSError) as error:
            print(f"altformer: {folder.name}: {error}", file=sys.stderr)
            code = 1
            continue
        _print(folder.name, freed)
        total.size += freed.size
    if args.unreferenced:
        try:
            freed = collect_unreferenced(args.out.resolve(), args.dry_run)
        except OSError as error:
            print(f"altformer: {args.out / 'cells'}: {error}", file=sys.stderr)
            return 1
        _print("unreferenced", freed)
        total.size += freed.size
    if not folders and not args.unreferenced:
        print(f"No matrix in {args.out} yet; `altformer ablate ...` makes them.")
    else:
        print(f"{_verb(total)} in all: {size(total.size)}")
    return code


def _print(name: str, freed: Freed) -> None:
    from ablations.estimate_text import size

    cells = f" in {freed.cells} {'cell' if freed.cells == 1 else 'cells'}" if freed.cells else ""
    print(f"{name}: {_verb(freed).lower()} {size(freed.size)}{cells}")
    for why in freed.left:
        print(f"  left alone: {why}")


def _verb(freed: Freed) -> str:
    return "Would free" if freed.dry_run else "Freed"
