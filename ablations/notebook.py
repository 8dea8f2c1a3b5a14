"""From Python, in a few lines: read a matrix, run it as ``altformer ablate`` does, look at its report."""

from __future__ import annotations

import argparse
import html
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cells import TABLE, read_cells
from ablations.folders import find_matrix
from ablations.matrix import Matrix, make_matrix, matrix_file
from ablations.matrix import load_matrix as read_matrix
from ablations.rebuilding import rebuild
from ablations.reported import Reported, read_reported
from altformer.errors import UserError, unknown_name
from experiments.provenance import as_command

if TYPE_CHECKING:
    import pandas as pd

OWN = ("files", "set", "no_mlflow", "dry_run")  # options of the command that are written otherwise here, or are none
COMPARED = ("difference", "low", "high", "p_holm", "d_z", "p_equivalent")  # of an arm's comparison, in its table
HEIGHT = 640  # of a report shown in a notebook, in pixels


@dataclass(frozen=True, repr=False)
class Result:
    """A matrix that was run, as its folder has it: tables for pandas, and the report.

    ``exit_code`` is that of ``altformer ablate``: 0 when every cell has a result, 1 when one failed, 3 when a budget
    ended the run, 130 after an interruption; the same call goes on.
    """

    folder: Path
    exit_code: int = 0

    @cached_property
    def reported(self) -> Reported:
        """The matrix, its arms, its cells with their records, and what is known of the run."""
        return read_reported(self.folder)

    @property
    def summary(self) -> str:
        """The report's first sentence."""
        return self.reported.report.summary

    @property
    def report(self) -> Path:
        """The report as one HTML file; ``report.md`` and ``report.tex`` are beside it."""
        return self.folder / "report.html"

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per arm: mean and std over seeds of the reported metric, and the comparison with the baseline.

        ``difference`` is arm minus baseline with its paired 95 % interval ``low`` to ``high``; what there is no number
        for is NaN.
        """
        import pandas as pd

        report = self.reported.report
        rows = []
        for arm in report.arms:
            own, against = arm.metrics[report.reported], arm.comparison
            compared = {name: getattr(against, name, None) for name in COMPARED}
            rows.append(
                {
                    "arm": arm.name,
                    "parameters": arm.params,
                    "seeds": arm.done,
                    "mean": own.mean,
                    "std": own.std,
                    **compared,
                    "verdict": arm.verdict,
                }
            )
        numbers = dict.fromkeys(("mean", "std", *COMPARED), "float64")
        table = pd.DataFrame(rows).set_index("arm").astype({**numbers, "parameters": "Int64"})
        table.columns.name = report.reported
        return table

    @cached_property
    def cells(self) -> pd.DataFrame:
        """``cells.csv``: one row per cell that has a record, what is missing as None."""
        import pandas as pd

        return pd.DataFrame(read_cells(self.folder / TABLE))

    def __repr__(self) -> str:
        return f"{self.reported.report.title}\n{self.summary}\nReport: {self.report}"

    def _repr_html_(self) -> str:
        """The report in a frame of its own, so that its style and the notebook's leave each other alone."""
        page = html.escape(self.report.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'

    def _repr_markdown_(self) -> str:
        return (self.folder / "report.md").read_text(encoding="utf-8")


def load_matrix(matrix: str | Path | Mapping[str, Any]) -> Matrix:
    """A matrix by the name of a shipped one (``depth``), by the path of a file, or from what such a file would hold.

    UserError for what is wrong with it.
    """
    if isinstance(matrix, Mapping):
        return make_matrix(dict(matrix))
    return read_matrix(matrix_file(str(matrix)))


def run(
    matrix: Matrix | str | Path | Mapping[str, Any],
    *,
    dataset: str | None = None,
    profile: str = "auto",
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path = "runs",
    mlflow: bool = True,
    **options: Any,
) -> Result:
    """Plan, run and report on one matrix on one data set; finished cells are not run again.

    ``settings`` are fields that are set in every arm, as by ``--set``. ``options`` are the others of ``altformer
    ablate`` with ``_`` for ``-``: ``max_hours=2``, ``scheduler="none"``, ``address="auto"``, ``undecided=True``.
    UserError for a mistake in any of them.
    """
    from ablations.command import run_matrices

    read = matrix if isinstance(matrix, Matrix) else load_matrix(matrix)
    if dataset is not None and ("," in dataset or dataset == "at-hand"):
        raise UserError(f"dataset: run takes one data set, got '{dataset}'; call it for each")
    given = {"dataset": dataset, "profile": profile, "seeds": seeds, "out": Path(out), **options}
    args = _arguments(given)
    args.set = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
    args.no_mlflow = not mlflow
    with as_command(_as_typed(read, args, given)):
        code, [folder] = run_matrices([read], args)
    return Result(folder, code)


def report(matrix: str | Path, out: str | Path = "runs") -> Result:
    """A finished matrix by its folder or by its name below ``out``, its report written anew; UserError for neither."""
    folder = find_matrix(str(matrix), Path(out)).resolve()
    if members := read_reported(folder).members:
        raise UserError(f"{folder}: is over several matrices; name one of them: {', '.join(members)}")
    rebuild(folder)
    return Result(folder)


def _arguments(given: Mapping[str, Any]) -> argparse.Namespace:
    """The command's options, those not given at their defaults; UserError for one that it does not have."""
    from ablations.command import add_arguments

    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    args = parser.parse_args(["matrix"])
    for name, value in given.items():
        if name in OWN or not hasattr(args, name):
            raise unknown_name("option", name, [known for known in vars(args) if known not in OWN], "run")
        setattr(args, name, value)
    return args


def _as_typed(matrix: Matrix, args: argparse.Namespace, given: Mapping[str, Any]) -> str:
    """The command that does the same; for a matrix that is in no file, the call."""
    if matrix.file is None:
        shown = {name: str(value) if name == "out" else value for name, value in given.items() if value is not None}
        shown["settings"] = args.set
        return f"ablations.run({{'name': {matrix.name!r}, ...}}, {', '.join(f'{k}={v!r}' for k, v in shown.items())})"
    words = ["altformer", "ablate", matrix.called]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    words += [word for setting in args.set for word in ("--set", setting)]
    return shlex.join([*words, *(["--no-mlflow"] if args.no_mlflow else [])])
