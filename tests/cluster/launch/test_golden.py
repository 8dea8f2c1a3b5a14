"""What is rendered is what was looked at: files in `golden/`, rewritten only with ALTFORMER_REWRITE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.launch.render import RENDERERS
from tests.cluster.launch.configs import CONFIGS, FOLDER

GOLDEN = FOLDER / "golden"
REWRITE = "ALTFORMER_REWRITE_GOLDEN"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", RENDERERS)
def test_files_are_as_before(kind: str, name: str) -> None:
    files = RENDERERS[kind](CONFIGS[name])
    folder = GOLDEN / name / kind
    if os.environ.get(REWRITE):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for file, text in files.items():
            (folder / file).write_text(text)
        pytest.skip(f"rewritten: {folder}")
    assert_as_golden(folder, files)


def test_an_empty_file_renders_what_no_file_does(tmp_path: Path) -> None:
    from experiments.cluster_command import load_config

    (tmp_path / "empty.yaml").write_text("")
    assert load_config(tmp_path / "empty.yaml") == CONFIGS["default"]


def test_the_other_configuration_has_no_default_left() -> None:
    left = [
        f"{path}{field}"
        for path, one, other in sections(CONFIGS["default"], CONFIGS["full"])
        for field in type(one).model_fields
        if getattr(one, field) == getattr(other, field)
    ]
    assert left == [], "a field that the golden files do not show"


def sections(one, other):
    yield "", one, other
    for name in ("aws", "machines", "kubernetes", "slurm"):
        yield f"{name}.", getattr(one, name), getattr(other, name)


@pytest.mark.parametrize(
    ("golden", "rendered"),
    [
        ({}, {"a.yaml": "a\n"}),
        ({"a.yaml": "a\n"}, {"a.yaml": "b\n"}),
        ({"a.yaml": "a\n", "b.yaml": "b\n"}, {"a.yaml": "a\n"}),
    ],
    ids=["missing", "different", "of a file no longer rendered"],
)
def test_a_golden_file_that_is_missing_or_different_fails(tmp_path: Path, golden, rendered) -> None:
    for name, text in golden.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AssertionError):
        assert_as_golden(tmp_path, rendered)


def assert_as_golden(folder: Path, files: dict[str, str]) -> None:
    there = {path.name: path.read_text() for path in folder.iterdir()} if folder.is_dir() else {}
    assert sorted(there) == sorted(files), f"look at what is rendered, then write it with {REWRITE}=1"
    for name, text in files.items():
        assert text == there[name], name
