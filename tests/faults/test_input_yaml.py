"""Bad YAML, and classes that it names: exit code 2 and one message with the place; nothing run, nothing written.

Each table maps a name to the text and the words that the message must hold; every command that reads such a file is
tried on it, in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bad_yaml import EXPERIMENTS, MATRICES, MATRIX, OWN_MODELS, PLAN, PLANS, SOURCES, TRAINING, YAMLS
from tests.faults.conftest import FaultTable
from tests.faults.refusals import ABLATE, CHECK, TRAIN, TUNE, Tries, try_all, write_inputs


@pytest.mark.fault("input")
def test_yaml_of_every_kind(folder: Path, fault_table: FaultTable) -> None:
    def tries(case: tuple[str, list[str]]) -> Tries:
        text, words = case
        for key, file, commands in (
            ("experiment", "exp.yaml", (TRAIN, CHECK)),
            ("matrix", "m.yaml", (ABLATE,)),
            ("plan", "plan.yaml", (TUNE,)),
        ):
            write_inputs(**{key: text})
            if key == "experiment" and text.startswith("base: exp.yaml"):
                Path(file).write_text(text.replace("base: exp.yaml", "base: simulated"))
            yield from ((command, [word.replace("{file}", file) for word in words]) for command in commands)

    count = try_all(folder, YAMLS, tries)
    assert count == 4 * len(YAMLS)
    fault_table.row(
        "YAML broken, with an unknown key, of 10 MB, deep, unfolding aliases, or tags that construct objects; as "
        "experiment, matrix and plan",
        texts=len(YAMLS),
        refusals=count,
    )


@pytest.mark.parametrize(
    ("key", "cases", "command"),
    [("experiment", EXPERIMENTS, TRAIN), ("experiment", EXPERIMENTS, CHECK)]
    + [("matrix", MATRICES, ABLATE), ("plan", PLANS, TUNE)],
    ids=["experiment", "data", "matrix", "plan"],
)
@pytest.mark.fault("input")
def test_yaml_with_a_wrong_value(
    folder: Path, fault_table: FaultTable, key: str, cases: Mapping[str, Any], command: list[str]
) -> None:
    def tries(case: tuple[str, list[str]]) -> Tries:
        write_inputs(**{key: case[0]})
        yield command, case[1]

    count = try_all(folder, cases, tries)
    assert count == len(cases)
    fault_table.row(f"a wrong type, key or value in what `altformer {command[0]}` reads", refusals=count)


@pytest.mark.fault("input")
def test_own_models(folder: Path, fault_table: FaultTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in SOURCES.items():
        Path(name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))

    def tries(case: tuple[str, list[str]]) -> Tries:
        name, words = case
        write_inputs(experiment=f"dataset: {{path: ok.csv}}\nmodel: {{class: '{name}'}}\n{TRAINING}")
        yield TRAIN, words
        write_inputs(matrix=MATRIX.replace("{lr: 0.01}", f"{{model: {{class: '{name}'}}}}"))
        yield ABLATE, ["m.yaml:3: arm 'b': ", *words]
        write_inputs(plan=PLAN.replace("{lr: 0.01}", f"{{model: {{class: '{name}'}}}}"))
        yield TUNE, ["plan.yaml:3", *words]

    count = try_all(folder, OWN_MODELS, tries)
    assert count == 3 * len(OWN_MODELS)
    fault_table.row("a class of the user's own that cannot be imported, built or called", refusals=count)
