"""The Dockerfile: what gets in, who runs it, and that what gets in is enough."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cluster.launch.docker import HOME, SOURCES, UID, docker
from tests.cluster.launch.configs import CONFIGS

ROOT = Path(__file__).parents[3]


def instructions(name: str = "default") -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", docker(CONFIGS[name])["Dockerfile"])
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_it_runs_as_a_user_that_is_not_root_and_owns_what_is_mounted() -> None:
    found = instructions()
    assert [rest for word, rest in found if word == "USER"] == [f"{UID}:{UID}"] and UID > 0
    last = max(index for index, (word, _) in enumerate(found) if word == "RUN")
    assert found[last][1].startswith("pip install") and ("USER", f"{UID}:{UID}") in found[last:]
    variables = dict(rest.split("=", 1) for word, rest in found if word == "ENV")
    assert variables["HOME"] == f'"{HOME}"', "`ray up` asks the image for it, and takes /root without"
    for name, value in CONFIGS["default"].variables.items():
        assert variables[name] == f'"{value}"'


def test_versions_are_pinned_and_no_data_gets_in() -> None:
    found = instructions()
    [install] = [rest for word, rest in found if word == "RUN" and rest.startswith("pip")]
    assert "--constraint constraints.txt" in install
    copied = [rest.split()[0] for word, rest in found if word in ("COPY", "ADD")]
    assert copied == list(SOURCES) and all((ROOT / name).exists() for name in copied)
    seen = docker(CONFIGS["default"])["Dockerfile.dockerignore"].splitlines()
    assert seen[1] == "*", "what is not named is not seen by the build"
    assert {line[1:] for line in seen if line.startswith("!")} == set(SOURCES)
    assert not {"data", "runs", "tests", ".git"} & set(SOURCES)


@pytest.mark.slow
def test_what_is_copied_is_enough_to_install_from(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    done = subprocess.run([*command, "-w", str(tmp_path)], cwd=source, capture_output=True, text=True, timeout=240)
    if "setuptools" in done.stderr and "No module" in done.stderr:
        pytest.skip("setuptools, with which a wheel is built, is not installed")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    expected = {"ablations/depth.yaml", "experiments/profiles/quick.yaml", "cluster/launch/local.py"}
    assert expected <= set(inside)
