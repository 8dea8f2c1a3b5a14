import pydantic
import pytest

from cluster.errors import ClusterError
from cluster.resources import Resources

CPU2 = {"CPU": 2.0}
CPU4 = {"CPU": 4.0}
GPU8 = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("resources", "nodes", "slots"),
    [
        ({}, [CPU2], 2),
        ({}, [CPU2, CPU4], 6),
        ({}, [GPU8], 8),  # automatic: one GPU each
        ({}, [GPU8, CPU4], 8),  # the node without GPUs is of no use then
        ({"gpus_per_worker": 0}, [GPU8], 64),
        ({"cpus_per_worker": 3}, [CPU2, CPU4], 1),
        ({"cpus_per_worker": 3}, [CPU2], 0),
        ({"gpus_per_worker": 0.5}, [GPU8], 16),
        ({"gpus_per_worker": 1 / 3}, [{"CPU": 9, "GPU": 2}], 6),
        ({"gpus_per_worker": 0.4}, [{"CPU": 9, "GPU": 2}], 4),  # a fraction never spans two GPUs
        ({"gpus_per_worker": 0.5, "cpus_per_worker": 2}, [{"CPU": 4, "GPU": 4}], 2),
        ({"gpus_per_worker": 4}, [GPU8], 2),
        ({"workers": 2}, [CPU2], 1),
        ({"workers": 2}, [CPU4], 2),
        ({"workers": 2, "cpus_per_worker": 2}, [CPU2, CPU2], 1),
        ({"workers": 2, "cpus_per_worker": 2, "placement": "STRICT_PACK"}, [CPU2, CPU2], 0),
        ({"workers": 2, "placement": "STRICT_PACK"}, [{"CPU": 3}, {"CPU": 3}], 2),
        ({"workers": 2, "placement": "STRICT_SPREAD"}, [CPU4], 0),
        ({"workers": 2, "placement": "STRICT_SPREAD"}, [CPU4, CPU2], 2),
        ({"workers": 2, "placement": "STRICT_SPREAD"}, [CPU4, CPU2, CPU2], 4),
        ({"workers": 2}, [GPU8], 4),
        ({}, [], 0),
    ],
)
def test_slots(resources, nodes, slots):
    assert Resources(**resources).slots(nodes) == slots


@pytest.mark.parametrize(
    ("resources", "nodes", "said"),
    [
        ({"cpus_per_worker": 5}, [CPU4], "a worker needs 5 CPU on one node, the largest has 4"),
        ({"workers": 3, "cpus_per_worker": 2}, [CPU4], "6 CPU are needed, 4 are there"),
        ({"gpus_per_worker": 1}, [CPU4], "no GPU is there"),
        ({"gpus_per_worker": 0.5}, [CPU4], "no GPU is there"),
        ({"gpus_per_worker": 9}, [GPU8], "a worker needs 9 GPU on one node, the largest has 8"),
        ({"workers": 16}, [GPU8], "16 GPU are needed, 8 are there"),
        ({"workers": 2, "cpus_per_worker": 2, "placement": "STRICT_PACK"}, [CPU2, CPU2], "no single node holds 2"),
        ({"workers": 2, "placement": "STRICT_SPREAD"}, [CPU4], "2 nodes with room are needed"),
        ({"gpus_per_worker": 1, "cpus_per_worker": 4}, [CPU4, {"CPU": 1, "GPU": 1}], "not on the same nodes"),
        # room for each kind in sum, but not where it is needed
        (
            {"gpus_per_worker": 3, "workers": 2},
            [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}],
            "only 1 of 2 workers find",
        ),
        (
            {"workers": 2, "cpus_per_worker": 3},
            [CPU4, CPU2],
            "only 1 of 2 workers find room, each with all of its CPUs",
        ),
        ({"gpus_per_worker": 0.5, "cpus_per_worker": 8}, [{"CPU": 4, "GPU": 1}], "a worker needs 8 CPU on one node"),
        ({"gpus_per_worker": 0.5, "cpus_per_worker": 2}, [CPU4, {"CPU": 1, "GPU": 1}], "not on the same nodes"),
        # on nodes of eight GPUs
        ({"gpus_per_worker": 16}, [GPU8, GPU8], "a worker needs 16 GPU on one node, the largest has 8"),
        ({"workers": 17}, [GPU8, GPU8], "17 GPU are needed, 16 are there; with workers: 16 it would fit"),
        ({"workers": 9, "placement": "STRICT_PACK"}, [GPU8, GPU8], "no single node holds 9 workers"),
        ({"workers": 3, "placement": "STRICT_SPREAD"}, [GPU8, GPU8], "3 nodes with room are needed"),
        ({"workers": 16}, [{"CPU": 8, "GPU": 16}], "16 CPU are needed, 8 are there; with workers: 8 it would fit"),
        # what is there
        ({"gpus_per_worker": 16}, [CPU2, GPU8, GPU8], "a node with 2 CPU and 0 GPU, 2 nodes with 64 CPU and 8 GPU"),
        ({}, [], "the cluster has no node"),
    ],
)
def test_check_says_what_is_missing(resources, nodes, said):
    with pytest.raises(ClusterError, match="one trial asks for") as caught:
        Resources(**resources).check(nodes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "nodes", "fewer"),
    [
        ({"workers": 16}, [GPU8], 8),
        ({"workers": 9, "placement": "STRICT_PACK"}, [GPU8, GPU8], 8),
        ({"workers": 3, "placement": "STRICT_SPREAD"}, [GPU8, GPU8], 2),
        ({"workers": 2, "cpus_per_worker": 3}, [CPU4, CPU2], 1),
        ({"workers": 2, "gpus_per_worker": 1}, [CPU4], None),  # not even one
        ({"cpus_per_worker": 5}, [CPU4], None),
    ],
)
def test_the_number_of_workers_that_would_fit_is_said_and_fits(resources, nodes, fewer):
    with pytest.raises(ClusterError) as caught:
        Resources(**resources).check(nodes)
    assert ("it would fit" in str(caught.value)) == bool(fewer)
    if fewer:
        assert f"; with workers: {fewer} it would fit" in str(caught.value)
        assert Resources(**{**resources, "workers": fewer}).slots(nodes) >= 1
        assert Resources(**{**resources, "workers": fewer + 1}).slots(nodes) == 0


def test_check_passes_what_fits():
    fits = Resources(workers=2, cpus_per_worker=2)
    fits.check([CPU4])
    assert fits.slots([CPU4]) == 1


@pytest.mark.parametrize(
    "resources",
    [
        {"workers": 0},
        {"cpus_per_worker": 0},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": 0.5, "workers": 2},
        {"placement": "NEAR"},
        {"wrokers": 2},
    ],
)
def test_impossible_resources_are_refused(resources):
    with pytest.raises(pydantic.ValidationError):
        Resources(**resources)


@pytest.mark.parametrize(("nodes", "gpus"), [([CPU4], 0.0), ([CPU4, GPU8], 1.0)])
def test_automatic_gpus_are_settled_by_the_nodes(nodes, gpus):
    assert Resources().resolved(nodes).gpus_per_worker == gpus
