"""The memory of a training's tensors: how a CPU process handles it, how much a GPU had to hold."""

from __future__ import annotations

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc's malloc keep large blocks for the next step, instead of paying for fresh pages in each.

    A training step frees and allocates the same large tensors again and again; by default each becomes a mapping of its
    own, whose pages the kernel zeroes one by one. Elsewhere than with glibc this does nothing. Changes no number.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def forget_gpu_peak(device: torch.device) -> None:
    """Count from now what `gpu_peak` tells: the process may have trained another model before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def gpu_peak(device: torch.device) -> dict[str, int]:
    """{"gpu_memory_bytes": the most that tensors have taken on the GPU at once}; nothing for a CPU.

    The GPU itself has more in use: what torch keeps for later tensors, its kernels, its context.
    """
    return {"gpu_memory_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}
