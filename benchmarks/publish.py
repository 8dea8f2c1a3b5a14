"""Copy a finished matrix's report, table and plots below experiments/results: ``make results``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

FILES = ("report.md", "cells.csv", "plan.json")


def main() -> None:
    """Publish one run folder under a name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("run", type=Path, help="a matrix's folder below runs/")
    parser.add_argument("name", help="folder below experiments/results")
    args = parser.parse_args()
    target = Path("experiments/results") / args.name
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy2(args.run / name, target / name)
    shutil.copytree(args.run / "plots", target / "plots", dirs_exist_ok=True)
    print(f"{args.run} is published as {target}")


if __name__ == "__main__":
    main()
