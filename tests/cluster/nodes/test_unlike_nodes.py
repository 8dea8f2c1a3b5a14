"""What is found on nodes with networks and disks of their own before anything is trained."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

from ablations.surroundings import software
from cluster.errors import ClusterError
from cluster.preflight_nodes import check_nodes
from cluster.resources import Resources
from tests.cluster.nodes.driver import driver
from tests.cluster.nodes.machines import Machines
from tests.faults.harness import Matrix
from tests.faults.process import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def changed(file: Path, copy: Path, old: str, new: str) -> Path:
    """A copy of a file with another text in it."""
    text = file.read_text()
    assert old in text
    copy.write_text(text.replace(old, new, 1))
    return copy


@pytest.fixture
def unlike(tmp_path):
    """A cluster of a node that is as it should be, one that has another disk, and one with other sources and torch."""
    own = tmp_path / "of-that-node"
    own.mkdir()
    installed = distribution("torch")
    metadata = Path(str(installed.locate_file(f"torch-{installed.version}.dist-info/METADATA")))
    loop = ROOT / "altformer" / "train.py"
    others = {
        metadata: changed(metadata, own / "METADATA", f"Version: {installed.version}", "Version: 1.13.1"),
        loop: changed(loop, own / "train.py", "\n", "\n# changed\n"),
    }
    (tmp_path / "work").mkdir()
    with Machines() as cluster:
        names = [cluster.add(1), cluster.add(1, over={tmp_path / "work": None}), cluster.add(1, over=others)]
        yield cluster, names


def test_nodes_that_are_not_alike_are_named_before_anything_is_written(unlike, tmp_path):
    cluster, (fine, apart, other) = unlike
    matrix = Matrix(tmp_path / "work")
    before = sorted(tmp_path.rglob("*"))
    process = matrix.start("--address", cluster.address, env=cluster.environment)
    try:
        assert process.wait(120) == 2, process.output
    finally:
        process.close()
    assert "Traceback" not in process.output
    said = process.output.partition("altformer: ")[2]
    header, *findings = said.splitlines()
    assert header == "the nodes are not ready:"
    assert [(apart in text, other in text) for text in findings] == [(True, False), (False, True), (False, True)]
    assert f"{matrix.out} is not the same folder on" in findings[0] and "one with --out that all nodes share" in said
    assert "the sources of altformer on" in findings[1] and "are not those here" in findings[1]
    assert "torch is 1.13.1 on" in findings[2] and "install the same version everywhere" in findings[2]
    assert fine not in said
    left = {path for path in tmp_path.rglob("*") if "marks" not in path.parts and not path.name.startswith("output-")}
    assert left == set(before), "nothing was written"


def test_a_node_without_cuda_and_one_that_does_not_answer(tmp_path):
    """The GPU is logical: Ray counts it, and torch finds none."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, and torch finds it")
    with Machines() as cluster:
        gpu, cpu = cluster.add(1, gpus=1), cluster.add(1)
        with driver(cluster.address, cluster.environment):
            with pytest.raises(ClusterError) as without_cuda:
                check_nodes(tmp_path / "runs", Resources(), software)
            assert check_nodes(tmp_path / "runs", Resources(gpus_per_worker=0), software) == []
            cluster.halt(cpu)
            with pytest.raises(ClusterError) as silent:
                check_nodes(tmp_path / "runs", Resources(gpus_per_worker=0), software, seconds=3)
    assert "torch can use 0 of the 1 GPU that Ray counts on" in str(without_cuda.value)
    assert gpu in str(without_cuda.value) and cpu not in str(without_cuda.value)
    assert cpu in str(silent.value) and "does not answer within 3 s; mend it" in str(silent.value)
    assert gpu not in str(silent.value)
    assert list(tmp_path.iterdir()) == []
