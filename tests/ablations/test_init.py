"""`altformer init` writes a project whose commands work, and never over a file that is there."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from jsonschema import Draft202012Validator

from ablations.schema_command import schema_text
from experiments.cli import load_command, main, named

FILES = {"experiment.yaml", "matrix.yaml", "README.md", ".gitignore", "schemas"}


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    """The folder of a new project, which is the current one."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    assert "cd mine\n  altformer ablate matrix.yaml --dry-run" in capsys.readouterr().out
    monkeypatch.chdir("mine")
    return tmp_path / "mine"


def test_it_writes_files_that_its_schemas_describe(project):
    assert {path.name for path in project.iterdir()} == FILES
    for kind in ("experiment", "matrix"):
        text = (project / f"{kind}.yaml").read_text()
        [named_schema] = re.findall(r"^# yaml-language-server: \$schema=(\S+)\n", text)
        schema = (project / named_schema).read_text()
        assert schema == schema_text(kind)
        validator = Draft202012Validator(yaml.safe_load(schema))
        assert validator.is_valid(yaml.safe_load(text)) and not validator.is_valid({**yaml.safe_load(text), "bse": 1})


def test_the_commands_it_names_work(project, capsys):
    [block] = re.findall(r"```bash\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert {words[1] for words in commands} == {"ablate", "status", "train", "data"}
    for program, *rest in commands:
        assert program == "altformer"
        name, options = named(rest)
        load_command(name)[1].parse_args(options)
    assert main(["ablate", "matrix.yaml", "--profile", "quick", "--probe-seconds", "0", "--dry-run"]) == 0
    assert "as_it_is (baseline)" in capsys.readouterr().out
    small = ["--epochs", "1", "--steps_per_epoch", "2", "--threads", "1", "--device", "cpu"]
    assert main(["train", "--cfg", "experiment.yaml", "--profile", "quick", *small]) == 0
    assert main(["data", "check", "experiment.yaml"]) == 0


def test_it_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text("mine\n")
    assert main(["init"]) == 2
    assert "there already: matrix.yaml; nothing is written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.yaml"]
    assert (tmp_path / "matrix.yaml").read_text() == "mine\n"
    assert main(["init", "matrix.yaml"]) == 2
    assert "matrix.yaml: cannot be written to" in capsys.readouterr().err
