"""Commands that must refuse: run in this process, and held to exit code 2, one message, and nothing written."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.cli import main
from tests.faults.bad_readings import CANARY, csv
from tests.faults.bad_yaml import EXPERIMENT, MATRIX, PLAN

Tries = Iterator[tuple[Sequence[str], Sequence[str]]]  # a command, and the words that its message must have

TRAIN = ["train", "--cfg", "exp.yaml", "--out", "runs"]
ABLATE = ["ablate", "m.yaml", "--out", "runs", "--probe-seconds", "0"]
TUNE = ["tune", "plan.yaml", "--out", "runs"]
CHECK, INFO = ["data", "check", "exp.yaml"], ["data", "info", "exp.yaml"]


def refused(arguments: Sequence[str], words: Sequence[str]) -> str:
    """Run a command in the working folder; what is wrong with its refusal, or nothing."""
    before, out, err = _files(), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            code = main(list(arguments))
        except (Exception, SystemExit) as error:
            return f"raised {type(error).__name__}: {error}"
    listed = arguments[:2] == CHECK[:2] and not err.getvalue()  # findings are what this command is for
    said = out.getvalue() if listed else err.getvalue()
    expected = [part for word in words for part in (word.split(": ", 1) if listed else [word])]
    problems = [f"no {word!r}" for word in expected if word not in said]
    problems += [f"exit code {code}"] if code != 2 else []
    problems += ["a traceback"] if "Traceback" in said else []
    problems += ["not one message"] if not listed and not _is_one(said) else []
    problems += [f"warned: {one.message}" for one in warned]
    problems += [f"wrote {changed}"] if (changed := sorted(before.items() ^ _files().items())) else []
    problems += [f"a message of {len(said)} characters"] if len(said) > 1500 else []
    return f"{'; '.join(problems)} in: {said or out.getvalue()}" if problems else ""


def _is_one(said: str) -> bool:
    """Whether a text is one message of the command line."""
    return said.startswith("altformer: ") and said.count("altformer: ") == 1 and said.endswith("\n")


def _files() -> dict[str, str]:
    """Everything below the working folder, with what it holds."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in Path().rglob("*")
        if "__pycache__" not in path.parts
    }


def write_inputs(file: str = "ok.csv", more: str = "", **texts: str) -> None:
    """The three YAML files of a user, on a file of readings; `texts` are those that are written otherwise."""
    Path("exp.yaml").write_text(texts.get("experiment", EXPERIMENT.format(file=file, more=more)))
    Path("m.yaml").write_text(texts.get("matrix", MATRIX))
    Path("plan.yaml").write_text(texts.get("plan", PLAN))


def try_all(folder: Path, cases: Mapping[str, Any], tries: Callable[[Any], Tries]) -> int:
    """Try every case in a folder of its own; fails with all that went wrong, else the number of refusals."""
    wrong, count = [], 0
    for number, (name, case) in enumerate(cases.items()):
        own = folder / f"case-{number}"
        own.mkdir()
        os.chdir(own)
        csv(Path("ok.csv"))
        for arguments, words in tries(case):
            count += 1
            if problem := refused(arguments, words):
                wrong.append(f"{name}: altformer {' '.join(arguments)}: {problem}")
            if Path(CANARY).exists():
                wrong.append(f"{name}: altformer {' '.join(arguments)}: it was executed")
        os.chdir(folder)
    assert not wrong, "\n\n".join(wrong)
    return count
