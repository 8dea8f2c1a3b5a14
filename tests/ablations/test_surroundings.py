"""When the nodes of a cluster are asked, and for what."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ablations import surroundings
from ablations.surroundings import check_before_training, software
from altformer.errors import UserError
from cluster.resources import Resources
from experiments import provenance
from experiments.cell import Machine, make_cell, own_source_hash
from experiments.compose import compose
from tests.faults.harness import PLAIN
from tests.faults.process import ROOT

CPU = {"CPU": 1.0}
DATA = SimpleNamespace(identity="readings", values=np.zeros(10, dtype=np.float32))


@pytest.fixture
def asked(monkeypatch):
    """The questions to nodes, none of which is put."""
    questions = []

    def check_nodes(*question):
        questions.append(question)
        return ["numpy is another one there."]

    monkeypatch.setattr(surroundings, "check_nodes", check_nodes)
    return questions


@pytest.mark.parametrize(
    ("connection", "times"),
    [
        (None, 0),
        (SimpleNamespace(nodes=(CPU,)), 0),
        (SimpleNamespace(nodes=(CPU, CPU)), 1),
        (SimpleNamespace(nodes=({}, CPU)), 1),  # a head without CPUs, and a node that is not this machine
    ],
)
def test_nodes_are_asked_on_a_cluster_of_several(asked, tmp_path, capsys, connection, times):
    check_before_training([DATA], tmp_path, connection, Resources(workers=2))
    assert len(asked) == times
    assert capsys.readouterr().out.count("Attention: numpy is another one there.\n") == times
    for out, resources, look, models in asked:
        assert (out, resources, look, models) == (tmp_path, Resources(workers=2), software, [])


def test_models_of_the_users_own_count_once_each(asked, tmp_path):
    (tmp_path / "plain.yaml").write_text(f"base: simulated.yaml\nmodel: {{class: '{PLAIN}', pause: 0.0}}\n")
    configs = [compose(tmp_path / "plain.yaml"), compose(tmp_path / "plain.yaml", settings={"lr": 0.01})]
    configs.append(compose(ROOT / "experiments" / "simulated.yaml"))
    cells = [make_cell(config, Machine(), "readings", tmp_path) for config in configs]
    check_before_training([DATA], tmp_path, SimpleNamespace(nodes=(CPU, CPU)), Resources(), cells)
    assert [models for *_, models in asked] == [[PLAIN]]


def test_software_is_what_decides_numbers_here():
    found = software(PLAIN)
    assert found.sources == {"altformer": provenance.sources_hash(), PLAIN: own_source_hash(PLAIN)}
    assert {"python", "torch", "ray", "numpy"} <= found.versions.keys()
    assert not found.versions.keys() & {"mlflow", "altformer"}
    with pytest.raises(UserError, match="no_such_module"):
        software("no_such_module:Net")
