"""`altformer cluster`: what is printed, written and refused; the clusters themselves have their own tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cluster.errors import ClusterError
from cluster.launch.config import ClusterConfig
from cluster.launch.local import LocalCluster
from cluster.launch.render import RENDERERS
from cluster.launch.slurm import LEAVE_SECONDS
from experiments.cli import main
from experiments.cluster_command import load_config


@pytest.mark.parametrize("kind", RENDERERS)
def test_files_are_written_as_they_are_printed(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "render", kind]) == 0
    printed = capsys.readouterr().out
    assert main(["cluster", "render", kind, "--out", str(tmp_path / "new" / "folder")]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written and sorted(Path(line) for line in written) == sorted((tmp_path / "new" / "folder").iterdir())
    assert all(Path(line).read_text() in printed for line in written)
    assert len(written) == 1 or all(f"# ---- {Path(line).name}\n" in printed for line in written)


@pytest.mark.parametrize("kind", ["aws", "machines", "slurm"])
def test_what_is_one_file_can_be_piped(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["cluster", "render", kind])
    printed = capsys.readouterr().out
    assert printed.startswith("#!/bin/bash") if kind == "slurm" else yaml.safe_load(printed)["cluster_name"]


def test_the_configuration_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.yaml").write_text("name: lab\nnodes: 12\nslurm: {partition: long}\n")
    assert main(["cluster", "render", "slurm", "--config", str(tmp_path / "cluster.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --nodes=12\n" in printed and "#SBATCH --partition=long\n" in printed


def test_files_that_are_there_stay_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cluster", "render", "docker", "--out", str(tmp_path)]
    (tmp_path / "Dockerfile").write_text("mine")
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "Dockerfile: there already; --force" in printed.err and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"], "none of several is written"
    assert (tmp_path / "Dockerfile").read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert "FROM python" in (tmp_path / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", "kubray"], "unknown kind of cluster 'kubray'; did you mean 'kuberay'?"),
        (["render", "slurm", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["render", "slurm", "--out", "/dev/null/x"], "/dev/null/x"),
        (["render", "slurm", "--outt", "x"], "unknown option"),
        (["wait", "--address", "127.0.0.1:1", "--nodes", "0"], "--nodes must be 1 or more, got 0"),
        (["wait", "--address", "127.0.0.1:1", "--nodes", "1", "--seconds", "nan"], "--seconds must be 0 or more"),
        (["wait", "--address", "127.0.0.1:1", "--nodes", "1", "--seconds", "0"], "no Ray cluster answers there"),
        (["up", "--nodes", "0"], "--nodes must be from 1"),
        (["uq"], "invalid choice: 'uq'"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert main(["cluster", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("altformer: ") and said in error and error.count("\n") == 1, error


def test_up_says_what_to_do_next(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[object] = []

    def up(*given: object) -> LocalCluster:
        asked.extend(given)
        return LocalCluster("127.0.0.1:6379", "http://127.0.0.1:8265", 3, 2, 1, True)

    monkeypatch.setattr("cluster.launch.local.up", up)
    assert main(["cluster", "up", "--nodes", "3", "--cpus", "2", "--gpus", "1"]) == 0
    assert asked == [3, 2, 1]
    printed = capsys.readouterr().out
    assert "Ray at 127.0.0.1:6379: a head, and 3 nodes with 2 CPUs and 1 GPUs each" in printed
    assert "this machine has no GPU" in printed
    for text in ("make ablation-depth ADDRESS=auto", "http://127.0.0.1:8265", "altformer cluster down"):
        assert text in printed


def test_down_ends_it_or_says_that_there_is_none(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[str | None] = ["127.0.0.1:6379", None]
    monkeypatch.setattr("cluster.launch.local.down", lambda: answers.pop(0))
    assert main(["cluster", "down"]) == 0 and main(["cluster", "down"]) == 0
    assert capsys.readouterr().out == "Ended: Ray at 127.0.0.1:6379\nNo local cluster runs.\n"

    def fails() -> None:
        raise ClusterError("processes do not end")

    monkeypatch.setattr("cluster.launch.local.down", fails)
    assert main(["cluster", "down"]) == 2


DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"


def test_the_document_shows_every_field_with_its_default(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "cluster.yaml").write_text(block)
    shown, default = load_config(tmp_path / "cluster.yaml"), ClusterConfig()
    written = yaml.safe_load(block)
    assert set(written) == set(ClusterConfig.model_fields)
    for name in ("aws", "machines", "kubernetes", "slurm"):
        assert set(written[name]) == set(type(getattr(default, name)).model_fields), name
    assert shown.venv == default.venv, "written out"
    assert shown.model_copy(update={"environment": None, "ablate": default.ablate}) == default


def test_the_document_names_files_and_commands_as_they_are_rendered() -> None:
    text = DOCUMENT.read_text()
    files = {name: content for render in RENDERERS.values() for name, content in render(ClusterConfig()).items()}
    named = set(re.findall(r"altformer-?[a-z]*\.(?:yaml|sbatch)|Dockerfile(?:\.dockerignore)?", text))
    assert named == set(files)
    [ray_exec] = re.findall(r"^ray exec altformer-machines.yaml .*$", text, re.MULTILINE)
    assert ray_exec in files["altformer-machines.yaml"]
    assert f"{LEAVE_SECONDS} seconds before the time limit" in text
