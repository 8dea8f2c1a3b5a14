"""Changes to training batches, on the batch's device and from torch's own generator; validation never sees them.

Label smoothing, mixup and cutmix come from classification; each docstring says what it means for a regression.

b: batch, t: input steps, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Beta

from altformer.data.windows import Batch, Windows
from altformer.training.config import TrainingConfig


class Augmentation:
    """Gathers training windows with everything a configuration switches on; with all off it only gathers them.

    In this order: shift, mask, noise, label smoothing, mixup, cutmix. So noise leaves the masked readings alone, and a
    target is smoothed towards the mean of its own window before it meets that of another.
    """

    def __init__(self, training: TrainingConfig, windows: Windows) -> None:
        options, missing = training.augmentation, missing_mark(windows)
        changes: tuple[tuple[float, Callable[[Batch], Batch]], ...] = (
            (options.mask_ratio, partial(mask_readings, ratio=options.mask_ratio, missing=missing)),
            (options.noise_std, partial(add_noise, std=options.noise_std)),
            (training.label_smoothing, partial(smooth_labels, share=training.label_smoothing)),
            (training.mixup_alpha, partial(mixup, alpha=training.mixup_alpha, missing=missing)),
            (training.cutmix_prob, partial(cutmix, probability=training.cutmix_prob)),
        )
        self._changes = [change for strength, change in changes if strength > 0]
        self._windows = windows
        self._shift = options.temporal_shift
        self._first, self._last = (int(windows.origins["train"][end]) for end in (0, -1))

    def __call__(self, origins: Tensor) -> Batch:
        """The windows of training origins (b,), changed."""
        if self._shift:
            origins = shift_origins(origins, self._shift, self._first, self._last)
        batch = self._windows.batch(origins)
        for change in self._changes:
            batch = change(batch)
        return batch


def missing_mark(windows: Windows) -> Tensor:
    """What a missing reading of these windows looks like in scaled units, to the bit; ()."""
    return windows.scaler.scale(windows.values.new_full((), windows.null_value))


def shift_origins(origins: Tensor, most: int, first: int, last: int) -> Tensor:
    """Each origin (b,) moved by a uniform -most..most steps, inputs and targets with it, but not out of first..last.

    With the first and the last training origin as bounds no window crosses into another split.
    """
    return (origins + torch.randint(-most, most + 1, origins.shape, device=origins.device)).clamp(first, last)


def mask_readings(batch: Batch, ratio: float, missing: Tensor) -> Batch:
    """Make each input reading missing with probability ``ratio``, exactly as the data set itself marks it."""
    dropped = torch.rand_like(batch.reading) < ratio
    return batch._replace(reading=torch.where(dropped, missing, batch.reading), observed=batch.observed & ~dropped)


def add_noise(batch: Batch, std: float) -> Batch:
    """Add normal noise of ``std`` scaled units to the observed input readings."""
    return batch._replace(reading=batch.reading + std * torch.randn_like(batch.reading) * batch.observed)


def smooth_labels(batch: Batch, share: float) -> Batch:
    """Move each target towards the mean of its own forecast window: y' = (1-e) y + e mean_h(y), e = ``share``.

    Szegedy et al. (2016) move a class label towards the uniform distribution; a forecast has no classes, and the mean
    of a sensor's observed targets is what can be said of them without saying when. Missing targets stay as they are.
    """
    observed = batch.target_observed
    count = observed.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (batch.target * observed).sum(dim=1, keepdim=True) / count
    return batch._replace(target=torch.where(observed, torch.lerp(batch.target, mean, share), batch.target))


def mixup(batch: Batch, alpha: float, missing: Tensor) -> Batch:
    """Mix each sample with another one of the batch, weight Beta(alpha, alpha) per sample (Zhang et al., 2018).

    Scaled inputs and targets are mixed alike, which is as sound for regression as for one-hot classes. A mixed target
    or reading is observed only where both are; such a reading otherwise carries the mark of a missing one. Time of day
    and day of week cannot be mixed: they are those of the sample with the larger weight.
    """
    size, device = len(batch.reading), batch.reading.device
    concentration = torch.full((size,), alpha, device=device)
    weight = Beta(concentration, concentration, validate_args=False).sample()  # validation would wait for the device
    other = _partners(batch)
    of_both, larger = weight[:, None, None], weight[:, None] >= 0.5
    observed = batch.observed & other.observed
    return Batch(
        reading=torch.where(observed, torch.lerp(other.reading, batch.reading, of_both), missing),
        observed=observed,
        time_of_day=torch.where(larger, batch.time_of_day, other.time_of_day),
        day_of_week=torch.where(larger, batch.day_of_week, other.day_of_week),
        target=torch.lerp(other.target, batch.target, of_both),
        target_observed=batch.target_observed & other.target_observed,
    )


def cutmix(batch: Batch, probability: float) -> Batch:
    """With a probability per batch, give each sample a random subset of another sample's sensors.

    Yun et al. (2019) paste a rectangle of another image and mix the labels by area; here the pasted area is all steps
    of some sensors, and each sensor brings its own targets and masks along, so that nothing has to be mixed. The share
    of sensors is uniform per sample; the time features stay the sample's own.
    """
    size, _, sensors = batch.reading.shape
    device = batch.reading.device
    chosen = torch.rand(size, 1, sensors, device=device) < torch.rand(size, 1, 1, device=device)
    chosen &= torch.rand((), device=device) < probability
    other = _partners(batch)
    return batch._replace(
        reading=torch.where(chosen, other.reading, batch.reading),
        observed=torch.where(chosen, other.observed, batch.observed),
        target=torch.where(chosen, other.target, batch.target),
        target_observed=torch.where(chosen, other.target_observed, batch.target_observed),
    )


def _partners(batch: Batch) -> Batch:
    """The samples in another, random order."""
    order = torch.randperm(len(batch.reading), device=batch.reading.device)
    return Batch(*(part[order] for part in batch))
