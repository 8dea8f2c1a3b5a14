"""The weights of several models of one shape as one: what trains them all in each operation.

m: models, p: all weights of one part of a model (encoder, decoder, head)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from altformer.training.config import TrainingConfig
from altformer.training.optimizer import GradientDescent, parameter_groups, part_of

_MOMENTS = ("exp_avg", "exp_avg_sq")  # of torch's Adam and AdamW


class Stacked(nn.Module):
    """The weights of models side by side, a tensor (m,p) for each part that may have a learning rate of its own.

    So few and large tensors are clipped and moved by a few operations, however many weights and models there are.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self._shapes: dict[str, dict[str, torch.Size]] = {"encoder": {}, "decoder": {}, "head": {}}
        for name, weight in models[0].named_parameters():
            self._shapes[part_of(name)][name] = weight.shape
        self._shapes = {part: shapes for part, shapes in self._shapes.items() if shapes}
        for part, rows in zip(self._shapes, self.join([_weights(model) for model in models]), strict=True):
            self.register_parameter(part, nn.Parameter(rows))

    def join(self, models: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """Tensors of each model by its weights' names as one (m,p) for each part."""
        return [
            torch.stack([torch.cat([model[name].detach().flatten() for name in shapes]) for model in models])
            for shapes in self._shapes.values()
        ]

    def split(self, joined: Sequence[Tensor]) -> dict[str, Tensor]:
        """What `join` has joined as (m,...) by name, views of it."""
        found: dict[str, Tensor] = {}
        for shapes, rows in zip(self._shapes.values(), joined, strict=True):
            pieces = torch.split(rows, [shape.numel() for shape in shapes.values()], dim=1)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True):
                found[name] = piece.view(len(rows), *shape)
        return found

    def by_name(self) -> dict[str, Tensor]:
        """Each weight of all models, (m,...)."""
        return self.split([*self.parameters()])

    def take_up(self, models: Sequence[nn.Module]) -> None:
        """Take the weights of models of the same shape instead."""
        with torch.no_grad():
            for rows, new in zip(self.parameters(), self.join([_weights(model) for model in models]), strict=True):
                rows.copy_(new)

    def hand_back(self, models: Sequence[nn.Module]) -> None:
        """Give each model its weights."""
        with torch.no_grad():
            for name, weights in self.by_name().items():
                for model, weight in zip(models, weights, strict=True):
                    model.get_parameter(name).copy_(weight)


class StackedDescent(GradientDescent):
    """Gradient descent on stacked weights: each model's gradients are clipped by the norm that they have alone.

    Begins with the moments of the models' own ``optimizers``, which must have done the same number of steps.
    """

    def __init__(
        self,
        training: TrainingConfig,
        stacked: Stacked,
        models: Sequence[nn.Module],
        optimizers: Sequence[GradientDescent],
    ) -> None:
        super().__init__(training, stacked)
        self._stacked, self._optimizers, self._places = stacked, optimizers, _places(training, models[0])
        states = [_only(optimizer.state_dict())["state"] for optimizer in optimizers]
        if not states[0]:
            return
        moments = [
            stacked.join([{name: state[place][kind] for name, place in self._places.items()} for state in states])
            for kind in _MOMENTS
        ]
        joined = {
            part: {"step": states[0][0]["step"].clone()} | dict(zip(_MOMENTS, of_part, strict=True))
            for part, of_part in enumerate(zip(*moments, strict=True))
        }
        _take(self, joined)

    def clip(self, weights: list[nn.Parameter], norm: float) -> None:
        """As for one model, row by row."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        of_parts = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in gradients])
        share = (norm / (torch.linalg.vector_norm(of_parts, dim=0) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(share[:, None])

    def hand_back(self) -> None:
        """Give the models' own optimizers their moments."""
        parts = _only(self.state_dict())["state"].values()
        step = next(iter(parts))["step"]
        moments = {kind: self._stacked.split([part[kind] for part in parts]) for kind in _MOMENTS}
        for row, optimizer in enumerate(self._optimizers):
            state = {
                place: {"step": step.clone()} | {kind: moments[kind][name][row].clone() for kind in _MOMENTS}
                for name, place in self._places.items()
            }
            _take(optimizer, state)


def _take(optimizer: GradientDescent, moments: dict[int, dict[str, Tensor]]) -> None:
    optimizer.load_state_dict({"parts": [{**_only(optimizer.state_dict()), "state": moments}]})


def _only(state: dict[str, Any]) -> dict[str, Any]:
    """The state of the one optimizer of torch's that Adam and AdamW are; Muon would be another one beside it."""
    (only,) = state["parts"]
    return dict(only)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def _places(training: TrainingConfig, model: nn.Module) -> dict[str, int]:
    """The number that the state of a model's optimizer has for each weight, by the weight's name."""
    weights = [weight for group in parameter_groups(training, model) for weight in group["params"]]
    numbers = {id(weight): number for number, weight in enumerate(weights)}
    return {name: numbers[id(weight)] for name, weight in model.named_parameters()}
