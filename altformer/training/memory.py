"""How a CPU process handles the memory of its tensors."""

from __future__ import annotations

import ctypes

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
