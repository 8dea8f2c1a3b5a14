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
    """Torch's optimizer on clipped gradients, with one rate or one for each of encoder, decoder and head.

    With Muon there are two: it moves the inner matrices (see `inner_matrices`), AdamW all other weights.
    """

    def __init__(self, training: TrainingConfig, model: nn.Module) -> None:
        self.epochs = training.epochs
        self._training, self._model = training, model
        self._parts = _optimizers(training, model)
        self._base_rates = [[group["lr"] for group in part.param_groups] for part in self._parts]

    def set_rate(self, step: int, steps_per_epoch: int) -> float:
        """Set each group's rate; returns that of the first, which is the encoder's where there are groups."""
        for part, rates in zip(self._parts, self._base_rates, strict=True):
            for group, lr in zip(part.param_groups, rates, strict=True):
                group["lr"] = self._training.scheduler.rate(step, self.epochs * steps_per_epoch, steps_per_epoch, lr)
        return float(self._parts[0].param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the step's loss."""
        torch.autograd.backward(loss)

    def step(self) -> None:
        """Clip the gradients and move the weights."""
        self.clip([*self._model.parameters()], self._training.clip_norm)
        for part in self._parts:
            part.step()

    def clip(self, weights: list[nn.Parameter], norm: float) -> None:
        """Scale gradients down where their norm, over all weights at once, is above ``norm`` (Pascanu et al., 2013)."""
        nn.utils.clip_grad_norm_(weights, norm)

    def state_dict(self) -> dict[str, Any]:
        """The moments of torch's optimizers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the moments of a checkpoint."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


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


def _optimizers(training: TrainingConfig, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Torch's optimizers of all weights; the first has the rate that is logged."""
    groups, decay = parameter_groups(training, model), training.weight_decay
    if training.optimizer.type == "Adam":
        return [torch.optim.Adam(groups, lr=training.lr, weight_decay=decay, fused=True)]
    inner = inner_matrices(model) if training.optimizer.type == "Muon" else set()
    rest, matrices = _split(groups, inner)
    parts: list[torch.optim.Optimizer] = []
    if rest:
        parts.append(torch.optim.AdamW(rest, lr=training.lr, weight_decay=decay, fused=True))
    if matrices:  # scaled so that a step is as large as AdamW's, and one rate suits both (Liu et al., 2025)
        muon = torch.optim.Muon(matrices, lr=training.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        parts.append(muon)
    return parts


def _split(groups: list[dict[str, Any]], inner: set[Tensor]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups without the weights in `inner`, and with them alone; empty groups are absent."""
    split: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for group in groups:
        for found, belongs in zip(split, (False, True), strict=True):
            if params := [weight for weight in group["params"] if (weight in inner) == belongs]:
                found.append(group | {"params": params})
    return split


def inner_matrices(model: nn.Module) -> set[Tensor]:
    """What Muon moves (Jordan et al., 2024): weights of linear maps between input embedding and head, no tables."""
    return {
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(("embed", "input", "head", "output"))
    }


def parameter_groups(training: TrainingConfig, model: nn.Module) -> list[dict[str, Any]]:
    """All weights at ``lr``, or with ``lr_groups`` those of the modules ``decoder*``, ``head*`` and all others.

    A group that matches no weight of the model is absent.
    """
    rates = training.optimizer.lr_groups
    if rates is None:
        return [{"params": list(model.parameters()), "lr": training.lr}]
    members: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": [], "head": []}
    for name, parameter in model.named_parameters():
        members[part_of(name)].append(parameter)
    return [{"params": found, "lr": getattr(rates, group)} for group, found in members.items() if found]


def part_of(parameter: str) -> str:
    """Which part of a model a weight belongs to, by its name: encoder, decoder or head."""
    return next((group for group in ("decoder", "head") if parameter.startswith(group)), "encoder")
