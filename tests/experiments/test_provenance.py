"""Which commit the sources in use are of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from experiments import provenance
from experiments.provenance import SUBMITTED_COMMIT, commit_tags, commit_text, git_state, installed_text

UNKNOWN = {"git_commit": None, "git_dirty": None}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sources in use, in no checkout."""
    folder = tmp_path / "project" / "altformer"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.setattr(provenance, "ROOT", folder)
    monkeypatch.delenv(SUBMITTED_COMMIT, raising=False)
    return folder


def commit(folder: Path, *files: str) -> str:
    """Make a folder a checkout with some of its files in it."""
    git = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for arguments in (["init", "--quiet"], ["add", *files], ["commit", "--quiet", "--message", "begin"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def test_a_checkout_knows_its_commit_itself_and_whether_it_was_changed(sources, monkeypatch):
    monkeypatch.setenv(SUBMITTED_COMMIT, "0a1b2c with changes")
    found = commit(sources.parent, ".")
    assert git_state() == {"git_commit": found, "git_dirty": False}
    (sources / "__init__.py").write_text("changed = True\n")
    assert git_state() == {"git_commit": found, "git_dirty": True}


@pytest.mark.parametrize(("dirty", "text"), [(False, "0a1b2c"), (True, "0a1b2c with changes")])
def test_where_there_is_no_checkout_it_is_what_the_job_was_sent_with(dirty, text, sources, monkeypatch):
    state = {"git_commit": "0a1b2c", "git_dirty": dirty}
    assert commit_text(state) == text
    monkeypatch.setenv(SUBMITTED_COMMIT, text)
    assert git_state() == state


def test_without_either_nothing_is_said(sources):
    assert git_state() == UNKNOWN and commit_text(UNKNOWN) is None and commit_tags(UNKNOWN) == {}


def test_without_a_commit_the_installed_version_is_said():
    assert installed_text({"torch": "2.13.0", "altformer": "0.1.0"}) == "none, altformer 0.1.0 as installed"
    assert installed_text({"torch": "2.13.0"}) == installed_text(None) == ""


def test_a_checkout_around_installed_sources_is_not_theirs(sources, monkeypatch):
    (sources.parent / "README").touch()
    commit(sources.parent, "README")
    assert git_state() == UNKNOWN
    monkeypatch.setenv(SUBMITTED_COMMIT, "0a1b2c")
    assert git_state() == {"git_commit": "0a1b2c", "git_dirty": False}


def test_mlflow_is_told_both():
    started_by = {"git_commit": "0a1b2c", "git_dirty": False, "command": "altformer ablate depth"}
    assert commit_tags(started_by) == {"git_commit": "0a1b2c", "git_dirty": "False"}
