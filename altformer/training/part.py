"""What is done of an epoch that was left between two of its steps.

k: terms of the loss
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The first steps of an epoch: beside weights and optimizer all that the rest of the epoch depends on.

    ``step`` steps are done; ``totals`` are the sums and counts of the loss's terms so far (2,k), ``seconds`` the time
    taken, ``random`` the states of torch's generators: the CPU's and, on a GPU, the device's.
    """

    step: int
    totals: Tensor
    seconds: float
    random: tuple[Tensor, ...]

    @classmethod
    def until(cls, step: int, totals: Tensor, seconds: float) -> Part:
        """After ``step`` steps, with the random numbers as they are now."""
        cuda = (torch.cuda.get_rng_state(totals.device),) if totals.device.type == "cuda" else ()
        return cls(step, totals.cpu(), seconds, (torch.get_rng_state(), *cuda))

    def restore_random(self, device: torch.device) -> None:
        """Let the random numbers go on as they would have."""
        cpu, *cuda = self.random
        torch.set_rng_state(cpu)
        for state in cuda:
            torch.cuda.set_rng_state(state, device)

    def to_bytes(self) -> bytes:
        """As a file's content."""
        content = io.BytesIO()
        torch.save(dict(vars(self)), content)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Part:
        """From a file's content."""
        return cls(**torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
