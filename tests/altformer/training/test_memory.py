"""What a training's tensors took on a GPU is counted from its start."""

from __future__ import annotations

import pytest
import torch

from altformer.training.memory import forget_gpu_peak, gpu_peak


def test_on_a_cpu_nothing_is_told() -> None:
    forget_gpu_peak(torch.device("cpu"))
    assert gpu_peak(torch.device("cpu")) == {}


def test_the_device_that_trains_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {torch.device("cuda:0"): 700, torch.device("cuda:1"): 900}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({device: 0}))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[device])
    forget_gpu_peak(torch.device("cuda:1"))
    assert gpu_peak(torch.device("cuda:1")) == {"gpu_memory_bytes": 0}
    assert gpu_peak(torch.device("cuda:0")) == {"gpu_memory_bytes": 700}


@pytest.mark.gpu
def test_a_real_gpu_counts_what_is_there() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda:0")
    forget_gpu_peak(device)
    before = gpu_peak(device)["gpu_memory_bytes"]
    there = torch.ones(1 << 20, device=device)
    assert gpu_peak(device)["gpu_memory_bytes"] >= before + 4 * len(there)
