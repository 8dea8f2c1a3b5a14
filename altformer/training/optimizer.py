"""How weights move: torch's optimizer with a rate per group, or nothing for a model without weights.

The rate is set before each step from its closed form (see schedule.py), so that a resumed run needs no scheduler state.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from altformer.model.build import count_parameters
from altformer.training.config import TrainingConfig


class State(Protocol):
    """Something whose state a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a checkpoint."""


class Optimizer(State, Protocol):
    """What the loop asks of it; ``epochs`` is how many the run has at most."""

    epochs: int

    def set_rate(self, step: int, steps_per_epoch: int) -> float:
        """Set the rates of a 0-based step of the run; returns the main one."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the step's loss."""

    def step(self) -> None:
        """Clip the gradients and move the weights."""


class GradientDescent:
    """Adam or AdamW on gradients clipped by their norm, with one rate or one for each of encoder, decoder and head."""

    def __init__(self, training: TrainingConfig, model: nn.Module) -> None:
        self.epochs = training.epochs
        self._training, self._model = training, model
        groups = parameter_groups(training, model)
        self._base_rates = [group["lr"] for group in groups]
        kind = torch.optim.Adam if training.optimizer.type == "Adam" else torch.optim.AdamW
        self._torch = kind(groups, lr=training.lr, weight_decay=training.weight_decay, fused=True)

    def set_rate(self, step: int, steps_per_epoch: int) -> float:
        """Set each group's rate; returns that of the first, which is the encoder's where there are groups."""
        for group, lr in zip(self._torch.param_groups, self._base_rates, strict=True):
            group["lr"] = self._training.scheduler.rate(step, self.epochs * steps_per_epoch, steps_per_epoch, lr)
        return float(self._torch.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self._torch.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the step's loss."""
        torch.autograd.backward(loss)

    def step(self) -> None:
        """Clip the gradients and move the weights."""
        nn.utils.clip_grad_norm_(self._model.parameters(), self._training.clip_norm)
        self._torch.step()

    def state_dict(self) -> dict[str, Any]:
        """The moments of torch's optimizer."""
        return self._torch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the moments of a checkpoint."""
        self._torch.load_state_dict(state_dict)


class NoOptimizer:
    """For a model without weights: one epoch, in which it is scored on the training part and nothing moves."""

    epochs = 1

    def set_rate(self, step: int, steps_per_epoch: int) -> float:
        """There is no rate."""
        return 0.0

    def zero_grad(self) -> None:
        """There are no gradients."""

    def backward(self, loss: Tensor) -> None:
        """Nor can there be."""

    def step(self) -> None:
        """Nothing moves."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take up."""


def make_optimizer(training: TrainingConfig, model: nn.Module) -> Optimizer:
    """The optimizer of a model's weights, where it has any."""
    return GradientDescent(training, model) if count_parameters(model) else NoOptimizer()


def parameter_groups(training: TrainingConfig, model: nn.Module) -> list[dict[str, Any]]:
    """All weights at ``lr``, or with ``lr_groups`` those of the modules ``decoder*``, ``head*`` and all others.

    A group that matches no weight of the model is absent.
    """
    rates = training.optimizer.lr_groups
    if rates is None:
        return [{"params": list(model.parameters()), "lr": training.lr}]
    members: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": [], "head": []}
    for name, parameter in model.named_parameters():
        members[_group_of(name)].append(parameter)
    return [{"params": found, "lr": getattr(rates, group)} for group, found in members.items() if found]


def _group_of(parameter: str) -> str:
    return next((group for group in ("decoder", "head") if parameter.startswith(group)), "encoder")
