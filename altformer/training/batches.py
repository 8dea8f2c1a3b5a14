"""Which windows an epoch, a step and a rank see: functions of (seed, epoch) and the rank alone; and how far ahead.

b: windows of a micro-batch, s: windows of a step, h: output steps, n: sensors
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from altformer.data.windows import Batch, Windows
from altformer.training.augmentation import Augmentation
from altformer.training.config import TrainingConfig


class Share(NamedTuple):
    """A rank's part of a micro-batch; ``counts`` is 0 where it only keeps the other ranks company, else 1."""

    batch: Batch
    counts: int


def epoch_steps(training: TrainingConfig, windows: Windows, seed: int) -> tuple[Tensor, ...]:
    """Forecast origins (s,) of each optimizer step of an epoch, over all its micro-batches and ranks."""
    origins = windows.origins["train"]
    order = torch.randperm(len(origins), generator=torch.Generator().manual_seed(seed)).to(origins.device)
    steps = torch.split(origins[order], training.batch_size * training.gradient_accumulation_steps)
    return tuple(steps[: training.steps_per_epoch])


def own_shares(
    origins: Tensor, batch_size: int, augmentation: Augmentation, rank: int, world_size: int
) -> tuple[Share, ...]:
    """The rank's own part of each micro-batch of a step (s,), augmented.

    A rank that a small micro-batch leaves without any window takes the first, which counts 0.
    """
    shares = []
    for micro_batch in torch.split(origins, batch_size):
        own = micro_batch[rank::world_size]
        shares.append(Share(augmentation(own), 1) if len(own) else Share(augmentation(micro_batch[:1]), 0))
    return tuple(shares)


def steps_seen(done: int, growing: int, output_len: int) -> int:
    """How many of ``output_len`` forecast steps the loss sees after ``done`` optimizer steps.

    At first the nearest, all after ``growing`` steps: the curriculum of MTGNN (Wu et al., 2020).
    """
    return output_len if done >= growing else 1 + done * output_len // growing


def nearest(shares: tuple[Share, ...], steps: int) -> tuple[Share, ...]:
    """The shares with only the first forecast ``steps`` of their targets (b,h,n) left to count."""
    return tuple(share._replace(batch=_nearest(share.batch, steps)) for share in shares)


def _nearest(batch: Batch, steps: int) -> Batch:
    if steps >= batch.target_observed.shape[1]:
        return batch
    seen = batch.target_observed.clone()
    seen[:, steps:] = False
    return batch._replace(target_observed=seen)


def mixed_seed(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
