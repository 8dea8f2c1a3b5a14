"""A report as MLflow holds it: numbers and verdicts of the arms on the parent run, what arms vary on the children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.arms import Arm, varied_fields
from ablations.reports.data import ReportData
from cluster.work import Scalar
from experiments.fields import leaf
from experiments.tracked_cell import Artifact

FILES = ("report.md", "report.html", "report.tex", "summary.md", "statistics.csv", "cells.csv", "plan.json", "run.json")
PLOTS = ("*.png", "*.pdf")


def report_metrics(report: ReportData) -> dict[str, float]:
    """Numbers of every arm by ``what/arm``.

    ``mean`` and ``std`` of the reported metric and ``seeds``; against the baseline ``diff``, its interval ``diff_low``
    and ``diff_high``, ``p_holm``, ``p_equivalent`` and ``d_z``. What there is no number for is left out.
    """
    return {f"{what}/{name}": value for what, name, value in _numbers(report) if value is not None}


def report_tags(report: ReportData) -> dict[str, str]:
    """The verdict of every arm by ``verdict/arm``, the reported metric and the sentence that sums it up."""
    keys = readable(arm.name for arm in report.arms)
    verdicts = {f"verdict/{keys[arm.name]}": arm.verdict for arm in report.arms}
    return {
        **verdicts,
        "reported": report.reported,
        "mlflow.note.content": f"{report.marker}\n\n{report.summary}".strip(),
    }


def report_files(folder: Path) -> list[Artifact]:
    """The files of a report that are there, with the folder inside the run that each goes to."""
    files = [(folder / name, "") for name in FILES]
    plots = [(path, "plots") for pattern in PLOTS for path in sorted((folder / "plots").glob(pattern))]
    return [*((path, place) for path, place in files if path.is_file()), *plots]


def varied_params(arms: Iterable[Arm], params: Mapping[str, Mapping[str, Scalar]]) -> dict[str, dict[str, Scalar]]:
    """By arm ``arm`` itself and, as ``arm.FIELD``, its values of the fields that differ among the arms.

    ``params`` are the dotted params of each arm. A field is called by its last name, or by its path where another
    differing field has the same last name.
    """
    fields = varied_fields(arms)
    paths = dict.fromkeys(path for own in params.values() for path in own if _is_below(path, fields))
    differing = [path for path in paths if len({str(own.get(path)) for own in params.values()}) > 1]
    leaves = [leaf(path) for path in differing]
    names = {path: leaf if leaves.count(leaf) == 1 else path for path, leaf in zip(differing, leaves, strict=True)}
    return {
        arm: {"arm": arm, **{f"arm.{name}": own[path] for path, name in names.items() if path in own}}
        for arm, own in params.items()
    }


def readable(names: Iterable[str]) -> dict[str, str]:
    """Names of arms as parts of MLflow's keys, without ``=`` and ``,``: ``lr=0.1,heads=2`` -> ``lr:0.1 heads:2``.

    Only where that keeps them apart; what else MLflow refuses is replaced when it is logged.
    """
    written = list(names)
    changed = {name: name.replace("=", ":").replace(",", " ") for name in written}
    return changed if len(set(changed.values())) == len(set(written)) else {name: name for name in written}


def _numbers(report: ReportData) -> Iterator[tuple[str, str, Any]]:
    keys = readable(arm.name for arm in report.arms)
    for arm in report.arms:
        name, summary, against = keys[arm.name], arm.metrics[report.reported], arm.comparison
        yield "mean", name, summary.mean
        yield "std", name, summary.std
        yield "seeds", name, arm.done
        if against is not None:
            yield "diff", name, against.difference
            yield "diff_low", name, against.low
            yield "diff_high", name, against.high
            yield "p_holm", name, against.p_holm
            yield "p_equivalent", name, against.p_equivalent
            yield "d_z", name, against.d_z


def _is_below(path: str, fields: Iterable[str]) -> bool:
    return any(f"{path}.".startswith(f"{field}.") for field in fields)
