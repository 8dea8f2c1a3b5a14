"""Commands in the documents parse, their links resolve."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import COMMANDS, named
from experiments.fields import locate

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "cluster" / "SECURITY.md",
    ROOT / "ablations" / "starting_project" / "README.md",
]
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)", re.MULTILINE)


def commands():
    for path in DOCUMENTS:
        for block in BLOCK.findall(path.read_text()):
            for line in block.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield pytest.param(
                        shlex.split(line, comments=True), id=f"{path.name}: {line.partition('#')[0].strip()}"
                    )


@pytest.mark.parametrize("command", commands())
def test_commands_exist_and_parse(command):
    program, *rest = command[: command.index(">")] if ">" in command else command
    if program == "make":
        done = subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return
    assert program == "altformer", f"a document runs {program}"
    name, options = named(rest)
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    module.add_arguments(parser)
    _, fields = parser.parse_known_args(options)
    assert not fields or module.ACCEPTS_FIELDS
    for field in fields[::2]:
        locate(field.removeprefix("--"))


def test_the_matrix_of_the_documents_is_one(tmp_path):
    from ablations.arms import expand
    from ablations.matrix import Matrix, load_matrix

    text = (ROOT / "docs" / "matrix.md").read_text()
    [block] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)
    assert [arm.name for arm in expand(load_matrix(tmp_path / "mine.yaml"))] == ["ours", "narrow", "stid"]
    described = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", text, re.MULTILINE))
    assert {name for pair in described for name in pair if name} == set(Matrix.model_fields), "every key has its row"


def links():
    for path in DOCUMENTS:
        for target in LINK.findall(path.read_text()):
            if not target.startswith(("http://", "https://")):
                yield pytest.param(path, *target.partition("#")[::2], id=f"{path.name}: {target}")


@pytest.mark.parametrize(("document", "target", "anchor"), links())
def test_links_resolve(document, target, anchor):
    found = document.parent / target if target else document
    assert found.exists()
    assert not anchor or anchor in anchors(found)


def anchors(path):
    """What the headings of a document are linked by: lower case, without punctuation, a hyphen for each blank."""
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(path.read_text())]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def test_make_without_a_target_lists_them():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    listed = set(re.findall(r"make ([a-z-]+)", done.stdout))
    assert {"ablation-depth", "test", "bench", "mlflow-ui", "dashboard"} <= listed
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == listed, "every target has its line"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data", "list"], "simulated"),
        (["data", "info", "simulated"], "missing"),
        (["ablate", "depth", "--dataset", "simulated", "--dry-run"], "2-2-2-2 (baseline)"),
    ],
)
def test_the_installed_command_runs_from_anywhere(arguments, expected, tmp_path):
    command = Path(sys.executable).parent / "altformer"
    done = subprocess.run([str(command), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and expected in done.stdout, done.stderr
