"""What the training loop knows of the world it runs in: the same loop runs bare, in a trial, and as a DDP worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch


class Context(Protocol):
    """Rank, device and the way to the outside; implemented here for a bare run and by others for a cluster.

    With ``world_size`` > 1 a torch process group must exist. ``report`` and ``should_stop`` are called on every rank
    after each epoch, and ``should_stop`` gives every rank the same answer: None, or the reason to stop.
    """

    rank: int
    world_size: int
    device: torch.device

    def report(self, metrics: Mapping[str, float]) -> None:
        """Hand over the results of one epoch (key ``epoch``, 1-based); may block until it is known whether to go on."""

    def should_stop(self) -> str | None:
        """None to go on, else why the run ends here: ``scheduler``, or anything else, to be resumed later."""

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Called after each training step; must return at once and not look at tensors."""

    def alive(self) -> None:
        """Called while something else than steps goes on: scoring, waiting for others; must return at once."""

    def leave_now(self) -> bool:
        """True when there is no time to end the epoch: what is done of it is kept, to be resumed later.

        Called after each training step; must return at once. With several ranks, which would have to agree at each
        step, it is not called: they leave after the epoch.
        """


class BareContext:
    """One process on one device that nobody stops."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Nobody listens."""

    def should_stop(self) -> str | None:
        """Never."""
        return None

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Nobody looks."""

    def alive(self) -> None:
        """Nobody worries."""

    def leave_now(self) -> bool:
        """Never."""
        return False
