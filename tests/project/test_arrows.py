"""Who may import whom, and what plain training must not need."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
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


@pytest.mark.slow
def test_altformer_trains_where_neither_ray_nor_mlflow_is_installed(tmp_path):
    """In a bare environment: Python without its site-packages, and links to all that lies there but these."""
    bare = tmp_path / "site"
    bare.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        name = path.name.lower()
        if not name.startswith(("mlflow", "tables", "ray-")) and name != "ray" and path.suffix != ".pth":
            (bare / path.name).symlink_to(path)
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "altformer").rglob("*.py")]
    code = (
        "import importlib, importlib.util, sys\n"
        "assert not any(map(importlib.util.find_spec, ('ray', 'mlflow', 'tables')))\n"
        f"[importlib.import_module(name) for name in {modules!r}]\n"
        "from experiments.cli import main\n"
        "sys.exit(main('train --cfg simulated --profile quick --epochs 1 --steps_per_epoch 2 --days 8'.split()))\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{bare}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 epoch in" in done.stdout


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
