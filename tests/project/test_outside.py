"""The package as others get it: built, installed into a bare folder, used from an empty one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from experiments.provenance import sources_hash

ROOT = Path(__file__).parents[2]
PACKAGES = ("altformer", "cluster", "experiments", "ablations")
NOT_SHIPPED = ("experiments/results/", "cluster/SECURITY.md")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
WHEEL = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
SMALL = ["--sensors", "8", "--days", "4", "--epochs", "1", "--steps_per_epoch", "2", "--threads", "1"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str, cwd: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked() -> list[str]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files alone, since a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("tree")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(*WHEEL, str(folder), str(tree), cwd=folder)
    [path] = folder.glob("*.whl")
    return path


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_all_that_the_packages_read(wheel: Path) -> None:
    ours = {name for name in tracked() if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    shipped = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert shipped == {name for name in ours if not name.startswith(NOT_SHIPPED)}


def test_a_source_distribution_makes_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-c", SDIST, str(tmp_path), cwd=tree)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    assert (unpacked / "constraints.txt").is_file(), "which the image that `cluster render docker` describes installs"
    run(*WHEEL, str(tmp_path / "again"), str(unpacked), cwd=tmp_path)
    [again] = (tmp_path / "again").glob("*.whl")
    assert contents(again) == contents(wheel)


def test_an_installed_package_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    target, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    run(*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=tmp_path)

    def altformer(*arguments: str) -> str:
        surroundings = {"PYTHONPATH": str(target), "ALTFORMER_DATA": str(empty / "data"), "OMP_NUM_THREADS": "1"}
        return run(str(target / "bin" / "altformer"), *arguments, cwd=empty, **surroundings)

    on_simulated = ["--dataset", "simulated", "--profile", "quick", "--dry-run", "--probe-seconds", "0"]
    assert "2-2-2-2 (baseline)" in altformer("ablate", "depth", *on_simulated)
    assert "Quick validation" in altformer("tune", *on_simulated[:5])
    assert "cpu-hour gpu" in altformer("completion", "bash")
    altformer("train", "--cfg", "simulated", "--profile", "quick", "--device", "cpu", *SMALL)
    record = json.loads((empty / "runs" / "experiments" / "simulated.json").read_text())
    made = record["provenance"]
    assert record["status"] == "done" and made["git_commit"] is None and made["versions"]["altformer"]
    assert record["sources"] == sources_hash(), "its cells are those of the repository"
    assert [path.name for path in empty.iterdir()] == ["runs"]
    altformer("init", "project")
    assert "more_dropout" in altformer("ablate", "project/matrix.yaml", *on_simulated[2:])
    assert {path.name for path in empty.iterdir()} == {"runs", "project"}
