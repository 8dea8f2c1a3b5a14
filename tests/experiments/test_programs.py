"""What a user is told to type is what the user's shell would run."""

import sys
from pathlib import Path

import pytest

from experiments.programs import program

OWN = Path(sys.executable).with_name("altformer")


def test_a_program_goes_by_its_name_where_the_shell_knows_it(monkeypatch):
    monkeypatch.setenv("PATH", str(OWN.parent))
    assert program("altformer") == "altformer"


def test_otherwise_by_its_path_from_where_the_user_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    assert program("altformer") == str(OWN)
    monkeypatch.chdir(OWN.parents[1])
    assert program("altformer") == f"{OWN.parent.name}/altformer"


def test_another_of_the_same_name_is_not_taken_for_it(monkeypatch, tmp_path):
    (tmp_path / "altformer").write_text("#!/bin/sh\n")
    (tmp_path / "altformer").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("altformer") != "altformer"


@pytest.mark.parametrize("name", ["a-program-that-is-not-there"])
def test_what_is_not_there_keeps_its_name(name):
    assert program(name) == name
