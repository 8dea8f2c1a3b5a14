"""Several models of one shape as one model, whose batch holds all their samples: the first model's, then the second's.

What has no weights treats each sample by itself and stays as it is. What has weights, or draws random numbers, takes
another form: it has the weights of all models, with the axis of models in front, and uses each for its own samples. So
a step has as many operations as that of one model, each m times as large.

m: models, b: samples of all models; k: inputs, o: outputs of a linear map; n, t, d, r, s, c as in the modules
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from altformer.model.bridge import CrossStageAttention
from altformer.model.decoder import SpatioTemporalDecoder
from altformer.model.dropout import Dropout, StochasticDepth, scaled_mask
from altformer.model.embedding import InputEmbedding
from altformer.model.encoder import FeedForward
from altformer.model.fusion import AdaptiveFusion
from altformer.model.linear import Linear
from altformer.model.positions import Placed, RelativePosition

# What draws random numbers or keeps statistics without weights of its own, so that it is easily overlooked.
_HIDDEN = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)


@dataclass
class Group:
    """How many models there are, and what each draws its random numbers from."""

    models: int
    generators: Sequence[Generator] = ()

    def draw(self, mask: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`x` (b,...) times what `mask` makes of ones like each model's samples, by that model's random numbers."""
        like, masks = x.new_ones(len(x) // self.models, *x.shape[1:]), []
        for generator in self.generators:
            with drawing_from(generator):
                masks.append(mask(like))
        return x * torch.cat(masks)

    def for_samples(self, weight: Tensor, samples: int) -> Tensor:
        """Each model's weight (m,...) for each of its samples, (b,...)."""
        return weight[:, None].expand(-1, samples // self.models, *weight.shape[1:]).flatten(0, 1)


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Within it torch draws the random numbers of a generator's device from that generator, which moves on."""
    if generator.device.type == "cpu":
        others = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(others)
        return
    place = generator.device.index
    usual = torch.cuda.default_generators[torch.cuda.current_device() if place is None else place]
    before = usual.graphsafe_get_state()
    usual.graphsafe_set_state(generator)  # both have one state from here on: nothing is copied, nobody waits
    try:
        yield
    finally:
        usual.graphsafe_set_state(before)


class _Linear(nn.Linear):
    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """(b,...,k) -> (b,...,o), weight (m,o,k), bias (m,o)."""
        rows, weight = x.reshape(self.group.models, -1, x.shape[-1]), self.weight.transpose(1, 2)
        y = torch.bmm(rows, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], rows, weight)
        return y.view(*x.shape[:-1], y.shape[-1])


class _LayerNorm(nn.LayerNorm):
    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """(b,...,d) -> (b,...,d), weight and bias (m,d)."""
        normal = functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        rows = normal.view(self.group.models, -1, x.shape[-1])
        return torch.addcmul(self.bias[:, None], rows, self.weight[:, None]).to(normal.dtype).view(x.shape)


class _FeedForward(FeedForward):
    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """(r,s,d) -> (r,s,d)."""
        narrowed: Tensor = self.narrow(torch.relu(self.widen(x)))
        return narrowed


class _Dropout(Dropout):
    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """(b,...)."""
        if not self.training or self.p == 0:
            return x
        if x.device.type == "cpu":
            return self.group.draw(lambda ones: scaled_mask(ones, self.p), x)
        # What stays as bool, and the scale as a number: as within torch's dropout, neither is rounded to bf16.
        return self.group.draw(lambda ones: torch.native_dropout(ones, self.p, True)[1], x) * (1 / (1 - self.p))


class _StochasticDepth(StochasticDepth):
    group: Group

    def forward(self, branch: Tensor) -> Tensor:
        """(r,...)."""
        return self.group.draw(self.scaled_mask, branch) if self.training and self.p > 0 else branch


class _InputEmbedding(InputEmbedding):
    group: Group

    def place_features(self, samples: int) -> Tensor | None:
        """(b,n,t/p,d), tables (m,...)."""
        adaptive = self.adaptive_project(self.adaptive) if self.adaptive_project is not None else None
        learned = isinstance(self.position, Tensor) and self.position.dim() == 3
        own = [self.sensor, adaptive, self.position[:, None] if self.position is not None and learned else None]
        present = [part for part in own if part is not None]
        if not present:
            return self.position
        shared = [] if learned or self.position is None else [self.position]
        return self.group.for_samples(sum([*present[1:], *shared], present[0]), samples)

    def look_up(self, table: Tensor, number: Tensor) -> Tensor:
        """(m,rows,d), (b,...) -> (b,...,d)."""
        rows = table.shape[1]
        first = torch.arange(0, self.group.models * rows, rows, device=number.device)
        return table.flatten(0, 1)[number + self.group.for_samples(first, len(number))[:, None]]


class _Decoder(SpatioTemporalDecoder):
    group: Group

    def queries_of(self, rows: int) -> Tensor:
        """(r,2t,d), queries (m,2t,d)."""
        return self.group.for_samples(self.queries, rows)


class _CrossStageAttention(CrossStageAttention):
    group: Group

    def marked(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """(b,n,t,d) each, names (m,stages,d)."""
        names = self.group.for_samples(self.stage_names[:, :, None, None], len(outputs[0]))
        return [output + name for output, name in zip(outputs, names.unbind(1), strict=True)]


class _RelativePosition(RelativePosition):
    group: Group

    def forward(self, query: Tensor, key: Tensor) -> Placed:
        """As for one model, vectors (m,2 reach + 1,c)."""
        s, c = query.shape[-2:]
        vectors = self.vectors[:, self.distance(s, query.device)].to(query.dtype)
        of_models = query.view(self.group.models, -1, *query.shape[1:])
        bias = torch.einsum("mrhic,mijc->mrhij", of_models, vectors) * c**-0.5
        return query, key, bias.flatten(0, 1)


class _AdaptiveFusion(AdaptiveFusion):
    group: Group

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """As for one model, balance (m,d) where it is learned."""
        balance = torch.sigmoid(self.balance).to(spatial.dtype)
        if balance.dim() == 2:
            balance = self.group.for_samples(balance[:, None, None], len(spatial))
        return torch.lerp(spatial, temporal, balance)


_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _Linear,
    Linear: _Linear,
    nn.LayerNorm: _LayerNorm,
    FeedForward: _FeedForward,
    Dropout: _Dropout,
    StochasticDepth: _StochasticDepth,
    InputEmbedding: _InputEmbedding,
    SpatioTemporalDecoder: _Decoder,
    CrossStageAttention: _CrossStageAttention,
    RelativePosition: _RelativePosition,
    AdaptiveFusion: _AdaptiveFusion,
}


def without_form(model: nn.Module) -> str | None:
    """The class of the first module of a model that needs a form for several models and has none; None without one.

    Needed by what has weights, draws random numbers or keeps statistics.
    """
    needing = (
        type(module)
        for module in model.modules()
        if next(module.parameters(recurse=False), None) is not None or isinstance(module, _HIDDEN)
    )
    return next((kind.__name__ for kind in needing if kind not in _FORMS), None)


def grouped(model: nn.Module, group: Group) -> nn.Module:
    """A copy of a model, all of which has a form, as those of a group; their weights are given at each call.

    That is what `torch.func.functional_call` does.
    """
    all_of_them = copy.deepcopy(model)
    for module in all_of_them.modules():
        if type(module) in _FORMS:
            module.__class__ = _FORMS[type(module)]
            module.group = group  # type: ignore[assignment]
    return all_of_them
