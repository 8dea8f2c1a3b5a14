"""What happens on GPUs, without one: torch's memory cap and the choice of NCCL, with torch.cuda and Train faked."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cluster import trial
from cluster.context import Context, prepare_process, release_memory
from cluster.errors import ClusterError
from cluster.mailbox import Job


def job(**given):
    fields = {"workers": 1, "cpus_per_worker": torch.get_num_threads(), "gpus_per_worker": 0.0, "placement": "PACK"}
    return Job(train_function=None, shared=None, storage="/nowhere", **{**fields, **given})


@pytest.fixture
def cuda(monkeypatch):
    """A torch that has a GPU, as far as it is asked; notes what is set. Threads are this process's own: left alone."""
    called = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part: called.append(("cap", part)))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append(("emptied",)))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    return called


@pytest.mark.parametrize(
    ("gpus", "capped"),
    [
        (0.25, [("cap", 0.25)]),
        (0.5, [("cap", 0.5)]),  # also where the job says a quarter: a cell that lacked memory has twice the share
        (1.0, []),
        (2.0, []),
        (0.0, []),
    ],
)
def test_a_share_of_a_gpu_is_a_cap_on_its_memory(cuda, gpus, capped):
    prepare_process(job(gpus_per_worker=min(gpus, 0.25)), gpus)
    assert cuda == capped


def test_no_cap_where_torch_has_no_gpu(cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    prepare_process(job(gpus_per_worker=0.25), 0.25)
    assert cuda == []


def test_cached_memory_is_given_back_between_cells_on_a_gpu_alone(cuda):
    release_memory(job())
    assert cuda == []
    release_memory(job(gpus_per_worker=0.5))
    assert cuda == [("emptied",)]


def test_a_cell_alone_computes_on_the_gpu_that_its_process_sees(cuda):
    assert Context(None, "slot", 0, 0, 1, 0.5).device == torch.device("cuda", 0)
    assert Context(None, "slot", 0, 0, 1, 0.0).device == torch.device("cpu")


def test_a_gpu_that_torch_does_not_see_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ClusterError, match=r"this trial was given 0\.5 GPU, but torch .* sees none on this node"):
        _ = Context(None, "slot", 0, 0, 1, 0.5).device


@pytest.fixture
def trainer(monkeypatch):
    """What `fit` gives to Train's trainer, which is made and not run."""
    made = {}
    own = trial._trainer()

    class Trainer(own):
        def __init__(self, loop, **given):
            super().__init__(loop, **given)
            made.update(given)

        def fit(self):
            made["callbacks"] = [type(one).__name__ for one in self._create_default_callbacks()]

    monkeypatch.setattr(trial, "_trainer", lambda: Trainer)
    return made


@pytest.mark.parametrize(
    ("gpus", "backend", "each"),
    [(1.0, "nccl", {"CPU": 2.0, "GPU": 1.0}), (2.0, "nccl", {"CPU": 2.0, "GPU": 2.0}), (0.0, "gloo", {"CPU": 2.0})],
)
def test_a_group_talks_over_nccl_where_it_has_gpus_and_over_gloo_without(trainer, gpus, backend, each):
    trial.fit(job(workers=4, cpus_per_worker=2, gpus_per_worker=gpus, placement="SPREAD"), "mailbox", "slot", 0.0)
    scaling = trainer["scaling_config"]
    assert (scaling.num_workers, scaling.use_gpu, scaling.placement_strategy) == (4, gpus > 0, "SPREAD")
    assert scaling.resources_per_worker == each
    assert trainer["torch_config"].backend == backend
    assert dataclasses.asdict(trainer["torch_config"])["init_method"] == "env"
    assert "PlacementGroupCleanerCallback" not in trainer["callbacks"]


def test_a_cell_alone_needs_no_group(trainer):
    trial.fit(job(gpus_per_worker=0.5), "mailbox", "slot", 0.5)
    assert trainer["scaling_config"].num_workers == 0
    assert trainer["train_loop_config"]["gpus"] == 0.5
