"""The SLURM script as real jobs, on a SLURM of two nodes that is started here where its programs are installed."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.launch.config import ClusterConfig
from cluster.launch.slurm import slurm
from tests.cluster.launch.slurm_here import PACKAGES, Slurm, missing
from tests.faults.harness import Matrix
from tests.faults.models import FOLDER
from tests.faults.process import ROOT, running

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
NAME = f"j{os.getpid()}"  # of the jobs, whose folders are /tmp/NAME-JOB


@pytest.fixture(scope="module")
def here() -> Iterator[Slurm]:
    lacking = missing()
    if lacking:
        pytest.skip(f"SLURM is not installed ({', '.join(lacking)}); packages {PACKAGES}")
    if not (BIN / "altformer").exists():
        pytest.skip("the command `altformer` is not installed in this environment")
    started = Slurm(nodes=2)
    try:
        problem = started.start()
        if problem is not None:
            pytest.skip(f"SLURM does not start on this machine: {problem}")
        yield started
    finally:
        started.close()
        for folder in Path("/tmp").glob(f"{NAME}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def test_a_matrix_in_a_job_leaves_on_a_signal_and_the_next_job_goes_on(here: Slurm) -> None:
    storage = here.folder / "storage"
    matrix = Matrix(storage, epochs=10, epoch_seconds=1.0, name="job")
    config = ClusterConfig(
        name=NAME, nodes=2, cpus=1, gpus=0, memory_gb=1, storage=str(storage), environment=str(BIN.parent),
        ablate=(str(matrix.file), "--profile", "full", "--probe-seconds", "0", "--no-mlflow"),
    )  # fmt: skip
    [(name, text)] = slurm(config).items()
    script = here.folder / name
    script.write_text(text)
    marks = storage / "marks"
    marks.mkdir()
    variables = {"PYTHONPATH": str(ROOT), FOLDER: str(marks), "OMP_NUM_THREADS": "1", "ALTFORMER_DATA": str(storage)}

    first = here.submit(script, variables)
    wait_for_epoch(here, first, matrix, 2)
    assert_private_token(storage, first)
    here.run("scancel", "--batch", "--signal=TERM", str(first))
    assert here.wait(first) == 143, here.printed(first)
    assert "Ray of 2 nodes" in here.printed(first)
    assert matrix.records() == {}, "nothing is finished yet"
    assert_nothing_is_left(here, first)

    matrix.hurry()
    second = here.submit(script, variables)
    assert here.wait(second) == 0, here.printed(second)
    assert sorted(arm for arm, _ in matrix.records()) == ["high", "low"]
    attempts = [matrix.attempts(cell["cell_hash"]) for cell in matrix.plan]
    assert all(one[-1].resumed_after >= 1 for one in attempts), f"from a checkpoint: {attempts}"
    assert_nothing_is_left(here, second)


def wait_for_epoch(here: Slurm, job: int, matrix: Matrix, epoch: int) -> None:
    until = time.monotonic() + 300
    while not (any(matrix.out.glob("*/events.jsonl")) and matrix.events("cell_epoch", epoch=epoch)):
        assert time.monotonic() < until, here.printed(job)
        time.sleep(0.2)


def assert_private_token(storage: Path, job: int) -> None:
    token = storage / f".ray-token-{job}"
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) == 64
    assert not [title for _, title in running() if token.read_text() in title], "it is on no command line"


def assert_nothing_is_left(here: Slurm, job: int) -> None:
    folder = Path(f"/tmp/{NAME}-{job}")
    until = time.monotonic() + 15
    while [title for _, title in running() if f"{folder}/" in title] and time.monotonic() < until:
        time.sleep(0.2)
    assert [title for _, title in running() if f"{folder}/" in title] == []
    assert list(folder.rglob("*")) == [] and not folder.exists(), here.printed(job)
    assert list((here.folder / "storage").glob(".ray-token-*")) == []
