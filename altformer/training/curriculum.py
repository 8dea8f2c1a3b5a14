"""How many forecast steps the loss sees: at first the nearest, later all (Wu et al., 2020, in MTGNN).

h: output steps
"""

from __future__ import annotations

from altformer.data.windows import Batch
from altformer.training.batches import Share


def steps_seen(done: int, growing: int, output_len: int) -> int:
    """How many of ``output_len`` forecast steps count after ``done`` optimizer steps; all after ``growing`` of them."""
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
