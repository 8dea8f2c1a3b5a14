"""`altformer campaign` from the command line: the list, the rehearsal, mistakes, and what it must not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from tests.ablations.accuracy.conftest import write_plan

ROOT = Path(__file__).parents[3]


def test_the_list_shows_steps_and_what_is_left(toy, trained, tmp_path, capsys):
    assert main(["campaign", str(toy), "--list", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "toy: A toy (cpu, 1 threads)" in printed and "left: 10 cells, no epoch has been timed yet" in printed
    assert "final: starts from what is chosen before" in printed and not list(tmp_path.iterdir())
    assert main(["campaign", str(toy), "--list", "--out", str(trained)]) == 0
    printed = capsys.readouterr().out
    assert "left: nothing" in printed and "3 of 3" in printed and "best: " in printed


def test_a_slice_says_what_it_did_and_what_is_left(tmp_path, capsys):
    path, out = write_plan(tmp_path), tmp_path / "runs"
    assert main(["campaign", str(path), "--minutes", "0.0001", "--out", str(out)]) == 3
    printed = capsys.readouterr().out
    assert "first simulated seed 0: left with a checkpoint after epoch 0" in printed
    assert "toy: left: 10 cells" in printed and "The same command goes on." in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "0"], "--minutes must be above 0, got 0"),
        (["toy.yaml"], "campaigns need different names, got toy, toy"),
    ],
)
def test_mistakes_are_one_message(toy, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(toy.parent)
    assert main(["campaign", str(toy), *arguments, "--out", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err


def test_a_campaign_for_a_gpu_is_refused_without_one_but_rehearsed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = write_plan(tmp_path, ("device: cpu", "device: cuda"))
    assert main(["campaign", str(path), "--out", str(tmp_path / "runs")]) == 2
    assert "torch finds no usable GPU here" in capsys.readouterr().err
    assert main(["campaign", str(path), "--rehearse", "--all", "--out", str(tmp_path / "runs")]) == 0
    page = tmp_path / "runs" / "campaigns" / "toy-rehearsal" / "accuracy.md"
    assert "not comparable with published numbers" in page.read_text() and "not judged: a rehearsal" in page.read_text()


@pytest.mark.slow
def test_every_candidate_of_the_shipped_campaign_is_rehearsed(tmp_path, capsys):
    assert main(["campaign", "gpu", "--rehearse", "--all", "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert ": failed" not in printed and "diverged" not in printed


def test_it_runs_where_importing_ray_or_mlflow_is_an_error(tmp_path):
    path = write_plan(tmp_path)
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('ray', 'mlflow', 'tables'): raise ImportError('imported ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from experiments.cli import main\n"
        f"sys.exit(main(['campaign', {str(path)!r}, '--out', {str(tmp_path / 'runs')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0 and "accuracy.md" in done.stdout, done.stderr
