"""An average of the weights over the steps: what is validated, kept and tested where it is asked for."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from altformer.training.config import TrainingConfig
from altformer.training.optimizer import Optimizer


def with_average(training: TrainingConfig, model: nn.Module, optimizer: Optimizer) -> tuple[Optimizer, nn.Module]:
    """The optimizer, and the model that is validated, kept and tested: the average where one is asked for."""
    if not training.ema_decay:
        return optimizer, model
    averaging = WithAverage(optimizer, model, training.ema_decay)
    return averaging, averaging.average


class WithAverage:
    """An optimizer that also moves an exponential moving average of the weights (Polyak and Juditsky, 1992).

    After step t (from 0) the average keeps a share min(``decay``, (1 + t) / (10 + t)) of itself, so that the first
    steps are soon forgotten. ``model`` is what is trained, ``average`` the same model with averaged weights; buffers,
    such as a batch norm's running mean, they have in common.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module, decay: float) -> None:
        self.epochs = optimizer.epochs
        self.average = copy.deepcopy(model, {id(buffer): buffer for buffer in model.buffers()}).requires_grad_(False)
        self._optimizer, self._model, self._decay, self._done = optimizer, model, decay, 0

    def set_rate(self, step: int, steps_per_epoch: int) -> float:
        """As the optimizer does."""
        self._done = step
        return self._optimizer.set_rate(step, steps_per_epoch)

    def zero_grad(self) -> None:
        """As the optimizer does."""
        self._optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """As the optimizer does."""
        self._optimizer.backward(loss)

    def step(self) -> None:
        """Move the weights, and the average towards them."""
        self._optimizer.step()
        decay = min(self._decay, (1 + self._done) / (10 + self._done))
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([*self.average.parameters()], [*self._model.parameters()], None)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and the weights that are trained; the average is the checkpoint's model."""
        weights = {name: tensor.detach().clone() for name, tensor in self._model.named_parameters()}
        return {"optimizer": self._optimizer.state_dict(), "weights": weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up both."""
        self._optimizer.load_state_dict(state_dict["optimizer"])
        self._model.load_state_dict(state_dict["weights"], strict=False)
