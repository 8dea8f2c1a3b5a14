"""What the machine lacks: said by one message before anything is trained, with exit code 2 and nothing written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ablations import surroundings
from cluster import preflight
from cluster.errors import ClusterError
from experiments.cli import main
from tests.faults.bad_readings import csv
from tests.faults.bad_yaml import MATRIX
from tests.faults.conftest import FaultTable
from tests.faults.refusals import ABLATE, TRAIN, TUNE, refused, write_inputs

Mount = Callable[..., Path]
NOBODY = 65534


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that every user may enter, with a good experiment, matrix and plan in it."""
    made = Path(tempfile.mkdtemp(prefix="pf-", dir="/tmp"))
    made.chmod(0o755)
    monkeypatch.chdir(made)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    csv(Path("ok.csv"))
    write_inputs()
    yield made
    monkeypatch.undo()
    shutil.rmtree(made)


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Makes file systems in memory, of so many kB, full or read-only; skips where that is not allowed."""
    made: list[Path] = []

    def mounted(kilobytes: int, *, full: bool = False, options: str = "") -> Path:
        there = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(there)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            there.rmdir()
            pytest.skip(f"a file system in memory cannot be mounted here: {getattr(error, 'stderr', None) or error}")
        made.append(there)
        if full:
            (there / "full").write_bytes(bytes(kilobytes * 1024))
        if options:
            subprocess.run(["mount", "-o", f"remount,{options}", str(there)], check=True)
        return there

    yield mounted
    for there in made:
        subprocess.run(["umount", "-l", str(there)], check=True)
        there.rmdir()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, in this process."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def commands(out: Path) -> list[list[str]]:
    return [[*command[:-1], str(out)] for command in (TRAIN, TUNE)] + [
        ["ablate", "m.yaml", "--out", str(out), "--probe-seconds", "0"]
    ]


def assert_refused(commands: Sequence[Sequence[str]], words: Sequence[str]) -> int:
    """Fails with what is wrong with any of the refusals; else their number."""
    wrong = [f"altformer {' '.join(one)}: {problem}" for one in commands if (problem := refused(one, words))]
    assert not wrong, "\n\n".join(wrong)
    return len(commands)


@pytest.mark.fault("surroundings")
def test_a_read_only_run_directory(folder: Path, mount: Mount, fault_table: FaultTable) -> None:
    there = mount(1000, options="ro")
    words = ["cannot be written to: Read-only file system", "--out"]
    count = assert_refused(commands(there), [f"{there}: ", *words])
    count += assert_refused(commands(there / "deep" / "runs"), [f"nearest folder that is there is {there}", *words])
    assert main([*ABLATE[:2], "--out", str(there), "--dry-run", "--probe-seconds", "0"]) == 0, "a plan needs no folder"
    fault_table.row("a read-only run directory, itself and above a new one", refusals=count)


def test_a_finished_run_is_shown_also_where_nothing_can_be_written(
    folder: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    there = mount(80_000)
    command = [*TRAIN[:-1], str(there)]
    assert main(command) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(there)], check=True)
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "this very run is finished" in said and "all steps" in said
    assert f"Attention: {there}/experiments/exp.json: cannot be written: Read-only file system; find this run" in said


@pytest.mark.fault("surroundings")
def test_a_full_disk_under_the_run_directory(folder: Path, mount: Mount, fault_table: FaultTable) -> None:
    full, small = mount(200, full=True), mount(8000)
    count = assert_refused(commands(full), [f"{full}: cannot be written to: No space left on device"])
    count += assert_refused(commands(small / "runs"), [f"{small}/runs: 8 MB are free on its disk, 50 MB are needed"])
    crowded = mount(100_000, options="nr_inodes=2")
    (crowded / "runs").mkdir()
    count += assert_refused(commands(crowded / "runs"), [f"{crowded}/runs"])
    fault_table.row(
        "a run directory on a full disk, one with little room, one that holds no further file", refusals=count
    )


@pytest.mark.fault("surroundings")
def test_no_permission(folder: Path, fault_table: FaultTable) -> None:
    assert main([*ABLATE, "--dry-run"]) == 0  # what it imports is imported by who may read it
    assert main([*TUNE, "--dry-run"]) == 0
    for name in ("mine", "half/cells"):
        Path(name).mkdir(parents=True, mode=0o700)
    Path("half").chmod(0o777)
    with as_nobody():
        if os.access("mine", os.W_OK, effective_ids=True):
            pytest.skip("rights are not taken from root here")
        count = assert_refused(commands(Path("mine")), ["mine: cannot be written to: Permission denied"])
        count += assert_refused(commands(Path("half")), ["half/cells: cannot be written to: Permission denied"])
    fault_table.row("no permission for the run directory, or only for the cells in it", refusals=count)


@pytest.mark.fault("surroundings")
def test_a_file_where_the_run_directory_should_be(folder: Path, fault_table: FaultTable) -> None:
    count = assert_refused(commands(Path("ok.csv/runs")), ["ok.csv is a file, not a folder"])
    fault_table.row("a file in the place of the run directory", refusals=count)


@pytest.mark.fault("surroundings")
def test_a_full_temporary_folder(
    folder: Path, mount: Mount, fault_table: FaultTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, small = mount(200, full=True), mount(8000)
    monkeypatch.setenv("RAY_TMPDIR", str(full))
    words = [f"Ray's temporary folder {full}/ray: cannot be written to: No space left", "RAY_TMPDIR"]
    count = assert_refused([ABLATE, TUNE], words)
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(small))
    count += assert_refused([ABLATE, TUNE], [f"{small}: 8 MB are free on its disk, 100 MB are needed", "RAY_TMPDIR"])
    fault_table.row("a full /tmp, one with little room", refusals=count)


@pytest.mark.fault("surroundings")
def test_too_long_a_temporary_folder(folder: Path, fault_table: FaultTable, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = folder / ("d" * 60)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    assert_refused(
        [ABLATE, TUNE], ["too long a path for Ray's temporary folder", "107", "RAY_TMPDIR to a shorter path"]
    )
    fault_table.row("a temporary folder of too long a name for Ray's sockets")


@pytest.mark.fault("surroundings")
def test_more_gpus_or_cpus_than_there_are(
    folder: Path, fault_table: FaultTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    asked = f"{MATRIX}resources: {{gpus_per_worker: 1}}\n"
    count = assert_refused(
        [[*ABLATE, "--gpus-per-worker", "1"], [*TUNE, "--gpus-per-worker", "1"]], ["no GPU is there"]
    )
    count += assert_refused([[*TRAIN, "--device", "cuda"]], ["--device cuda: torch finds no usable GPU here"])
    write_inputs(matrix=asked)
    count += assert_refused([ABLATE], ["no GPU is there (gpus_per_worker: 0 trains on CPUs)"])
    write_inputs()
    count += assert_refused([[*ABLATE, "--cpus-per-worker", "9999"]], ["a worker needs 9999 CPU on one node"])
    monkeypatch.setattr(surroundings, "local_gpus", lambda: 1)
    two_by_one = ["--workers", "2", "--gpus-per-worker", "1", "--profile", "quick"]
    count += assert_refused([[*ABLATE, *two_by_one], [*TUNE, *two_by_one]], ["2 GPU are needed, 1 are there"])
    count += assert_refused(
        [[*ABLATE, "--gpus-per-worker", "4"]], ["a worker needs 4 GPU on one node, the largest has 1"]
    )
    fault_table.row("a GPU asked for where none is, two where one is, more CPUs than there are", refusals=count)


@pytest.mark.fault("surroundings")
def test_what_only_slows_a_run_down_is_said_and_no_more(
    folder: Path, mount: Mount, fault_table: FaultTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preflight.check_machine(Path("runs"), local=True, data_bytes=1000) == []
    monkeypatch.setattr(preflight, "SHARED_MEMORY", mount(64_000))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    shared, files = preflight.check_machine(Path("runs"), local=True, data_bytes=20_000_000)
    assert "has 66 MB free, 100 MB are needed: readings are shared through files" in shared and "--shm-size" in shared
    assert "may open 512 files" in files and "ulimit -n 1024" in files
    assert preflight.check_machine(Path("runs"), local=False) == [], "a cluster's nodes are not this machine"
    monkeypatch.setenv("RAY_TMPDIR", str(mount(150_000)))
    with pytest.raises(ClusterError, match="200 MB are needed"):  # since the readings must go there too
        preflight.check_machine(Path("runs"), local=True, data_bytes=20_000_000)
    assert not Path("runs").exists()
    fault_table.row("little shared memory, few open files", must="a notice, and the run goes on")
