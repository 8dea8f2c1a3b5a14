"""Who may import whom, and what plain training must not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARROWS = {
    "altformer": {"altformer"},
    "cluster": {"cluster"},
    "experiments": {"experiments", "altformer", "cluster"},
    "ablations": {"ablations", "experiments", "altformer", "cluster"},
}
SOURCES = [path for package in ARROWS for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imported(path) if name in ARROWS}
    assert ours <= ARROWS[package], f"{package} may import only {sorted(ARROWS[package])}"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


def test_altformer_names_neither_ray_nor_mlflow():
    names = {name for path in SOURCES if path.is_relative_to(ROOT / "altformer") for name in imported(path)}
    assert not names & {"ray", "mlflow", "tables"}


@pytest.mark.parametrize(
    "modules",
    [
        "altformer.train",
        "experiments.train_command,experiments.train_progress,cluster.tracking.tracker",
        "experiments.cli",
    ],
)
def test_plain_training_imports_neither_ray_nor_mlflow(modules):
    """In a process where importing them is an error."""
    code = (
        "import sys, importlib\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('ray', 'mlflow', 'tables'): raise ImportError('imported ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"[importlib.import_module(name) for name in '{modules}'.split(',')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 320, "is it one thing?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{node.name} is long: would parts of it have names?"
