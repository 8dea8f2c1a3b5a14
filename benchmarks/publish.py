"""Publish the matrices and the tuning campaign of a run below experiments/results: ``make results``.

Every matrix gets a folder with its report and table (the depth matrix in all three formats and with its plots, which
the README shows); the newest page over several matrices becomes ``summary.md``, with its links pointing there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.tuning.ledger import merge_ledgers
from altformer.files import write_text

WITH_PLOTS = ("depth",)
SEVERAL = ("all", "several")  # plans of several matrices, which only the page over them shows
REPORTS = ("report.md", "report.html", "report.tex")
CSVS = ("cells.csv", "statistics.csv")
PUBLISHED = (*REPORTS, *CSVS, "plan.json")
TABLES = ("table.md", "table.tex", "table.csv")
LINK = re.compile(r"\]\(\.\./([^/)]+)/report\.md\)")
STAGE_REPORTS = re.compile(r"^In full: .*\n\n?", re.MULTILINE)
PLOTS = re.compile(r"^## Plots\n.*?(?=^## )", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Publish what lies below one ``--out`` folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder given to altformer ablate as --out")
    parser.add_argument("--to", type=Path, default=Path("experiments/results"))
    args = parser.parse_args()
    for path in publish(args.runs, args.to):
        print(f"published {path}")


def publish(runs: Path, to: Path) -> list[Path]:
    """Copy reports, tables and the summary; returns the files and folders written."""
    places = _places(runs)
    for name in {place.partition("/")[0] for place in places.values()}:
        _remove_published(to / name)
    written = [_publish_matrix(runs / folder, to / place) for folder, place in places.items()]
    for table in runs.glob("*-data-sets-*/table.md"):
        name = re.sub(r"-\d+-data-sets-\w+$", "", table.parent.name)
        (to / name).mkdir(parents=True, exist_ok=True)
        written += [Path(shutil.copy2(table.with_name(file), to / name / file)) for file in TABLES]
    campaigns = sorted((path.parent for path in runs.glob("*/decisions.jsonl")), key=_age)
    written += [_publish_campaign(campaign, to / campaign.name.partition("-")[0]) for campaign in campaigns[-1:]]
    if campaigns:
        written += merge_ledgers(runs, to)
    if summaries := sorted(runs.glob("*/summary.md"), key=_age):
        text = LINK.sub(lambda found: _link(found[1], places), summaries[-1].read_text())
        write_text(to / "summary.md", text)
        written.append(to / "summary.md")
    return written


def _places(runs: Path) -> dict[str, str]:
    """Where each matrix's folder goes: the matrix's name, with the data set where there are several of it.

    Of two folders for the same (other settings) the newer one counts.
    """
    newest: dict[tuple[str, str], str] = {}
    for report in sorted(runs.glob("*/report.md"), key=_age):
        if not (report.parent / "plan.json").is_file():  # a tuning campaign
            continue
        plan = _plan(report.parent)
        if plan["matrix"]["name"] not in SEVERAL:
            newest[plan["matrix"]["name"], plan["dataset"]] = report.parent.name
    names = [name for name, _ in newest]
    return {
        folder: name if names.count(name) == 1 else f"{name}/{dataset}" for (name, dataset), folder in newest.items()
    }


def _publish_matrix(run: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in CSVS:
        if (run / name).is_file():  # candidates that arms were tuned with are not compared
            shutil.copy2(run / name, target / name)
    if target.name in WITH_PLOTS:
        for name in (*REPORTS, "plan.json"):
            shutil.copy2(run / name, target / name)
        shutil.copytree(run / "plots", target / "plots", dirs_exist_ok=True)
    else:
        write_text(target / "report.md", PLOTS.sub("", (run / "report.md").read_text()))
    return target


def _remove_published(folder: Path) -> None:
    """Remove what an earlier publication of a matrix has left, also of its data sets; other files stay."""
    for place in (folder, *(path.parent for path in folder.glob("*/report.md"))):
        for name in (*PUBLISHED, *TABLES):
            (place / name).unlink(missing_ok=True)
        shutil.rmtree(place / "plots", ignore_errors=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _publish_campaign(campaign: Path, target: Path) -> Path:
    """A tuning campaign's report, decisions and table over the data sets, without the reports of its stages."""
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / "report.md", STAGE_REPORTS.sub("", (campaign / "report.md").read_text()))
    shutil.copy2(campaign / "decisions.jsonl", target / "decisions.jsonl")
    for table in campaign.glob("*-datasets/table.*"):
        shutil.copy2(table, target / table.name)
    return target


def _link(folder: str, places: Mapping[str, str]) -> str:
    return f"]({places[folder]}/report.md)" if folder in places else "](#)"


def _plan(folder: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return plan


def _age(path: Path) -> float:
    return path.stat().st_mtime


if __name__ == "__main__":
    main()
