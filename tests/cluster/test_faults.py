"""What was raised where, and what that says of the cause."""

import errno

import pytest
import torch

from cluster.faults import kind_of_lost, kind_of_raised, kind_of_run, signature
from cluster.work import Fault


def raised_from(error, cause):
    try:
        try:
            raise cause
        except Exception as inner:
            raise error from inner
    except Exception as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("shapes do not fit"), "error"),
        (KeyError("connection closed by peer"), "error"),
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
        (raised_from(RuntimeError("cannot save"), OSError(errno.ENOSPC, "full")), "disk"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3"), "died"),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), "died"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
    ],
)
def test_what_a_train_function_raises(error, kind):
    assert kind_of_raised(error) == kind


def test_what_ray_says_of_a_process():
    import ray

    assert kind_of_lost(ray.exceptions.ActorDiedError()) == "died"
    assert kind_of_lost(ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory")) == (
        "memory"
    )
    assert kind_of_lost(ray.exceptions.NodeDiedError("the node is dead")) == "node"
    assert kind_of_lost(ValueError("no process at all")) == "error"


def test_a_group_that_lost_a_worker_is_told_from_one_that_raised():
    import ray

    def run(failures):
        error = RuntimeError("Training failed due to worker errors")
        error.worker_failures = failures
        return error

    assert kind_of_run(run({0: ValueError("mine"), 1: ValueError("mine, too")})) == "error"
    assert kind_of_run(run({0: RuntimeError("x"), 1: raised_from(Exception(), ray.exceptions.ActorDiedError())})) == (
        "died"
    )
    assert kind_of_run(ray.exceptions.ActorDiedError()) == "died"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("File x\nValueError: step 3 of 10", "File y\nValueError: step 7 of 10", True),
        ("RuntimeError: at 0x7f0011aa", "RuntimeError: at 0x7f00bbcc", True),
        ("ValueError: loss", "ValueError: shape", False),
        ("ValueError: loss", "KeyError: loss", False),
    ],
)
def test_faults_are_alike_but_for_their_numbers(one, other, same):
    assert (signature(Fault("error", one)) == signature(Fault("error", other))) is same


def test_lost_processes_are_alike_whatever_ray_says_of_each():
    assert signature(Fault("died", "pid: 7")) == signature(Fault("died", "worker 12 crashed"))
    assert signature(Fault("died", "x")) != signature(Fault("error", "x"))
