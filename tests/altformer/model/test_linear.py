"""Linear maps by way of a convolution give what torch's own give, forward and backward."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional

from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.encoder import FeedForward
from altformer.model.linear import Linear, images, is_convolved, linear
from altformer.model.shape import ForecastShape

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@contextmanager
def without_onednn():
    torch.backends.mkldnn.enabled = False
    try:
        assert not is_convolved(torch.empty(6624, 96), 96)
        yield
    finally:
        torch.backends.mkldnn.enabled = True


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.detach().abs().max()))


@pytest.mark.parametrize(
    ("size", "outputs", "bias"),
    [
        pytest.param((6624, 96), 96, True, id="rows"),
        pytest.param((4, 207, 12, 64), 64, True, id="tokens"),
        pytest.param((6624, 96), 288, False, id="no bias"),
        pytest.param((5, 883, 4, 32), 192, True, id="a prime number of sensors"),
    ],
)
def test_equals_torchs_linear_map(size, outputs, bias):
    torch.manual_seed(0)
    x = torch.randn(size, requires_grad=True)
    layer = Linear(size[-1], outputs, bias=bias)
    assert is_convolved(x, outputs)
    gradient = torch.randn(*size[:-1], outputs)
    learned = [x, *layer.parameters()]
    ours = layer(x)
    theirs = functional.linear(x, layer.weight, layer.bias)
    assert ours.shape == theirs.shape
    assert_close(ours, theirs)
    for mine, yours in zip(
        torch.autograd.grad(ours, learned, gradient), torch.autograd.grad(theirs, learned, gradient), strict=True
    ):
        assert_close(mine, yours)


def test_operands_that_are_parts_of_larger_ones():
    torch.manual_seed(0)
    whole = torch.randn(32, 207, 192, requires_grad=True)
    weight = torch.randn(96, 96, requires_grad=True)
    assert is_convolved(whole[..., 96:], 96)
    results = []
    for way in (linear, functional.linear):
        y = way(whole[..., 96:], weight)
        results.append((y, *torch.autograd.grad(y.transpose(1, 2).square().sum(), (whole, weight))))
    for mine, yours in zip(*results, strict=True):
        assert_close(mine, yours)


def test_inputs_without_a_gradient():
    x, layer = torch.randn(6624, 96), Linear(96, 96)
    assert is_convolved(x, 96)
    layer(x).sum().backward()
    assert_close(layer.bias.grad, torch.full((96,), 6624.0))
    assert_close(layer.weight.grad, x.sum(dim=0).expand(96, -1))


def test_frozen_weights():
    x, layer = torch.randn(6624, 96, requires_grad=True), Linear(96, 96).requires_grad_(False)
    assert is_convolved(x, 96)
    layer(x).sum().backward()
    assert_close(x.grad, layer.weight.sum(dim=0).expand(6624, -1))
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("x", "outputs"),
    [
        pytest.param(torch.empty(6624, 96, dtype=torch.float64), 96, id="double precision"),
        pytest.param(torch.empty(6624, 96, dtype=torch.bfloat16), 96, id="bf16"),
        pytest.param(torch.empty(100, 96), 96, id="too little work"),
        pytest.param(torch.empty(10007, 96), 96, id="rows that have no parts"),
        pytest.param(torch.empty(6624, 96, device="meta"), 96, id="another device"),
    ],
)
def test_leaves_the_rest_to_torch(x, outputs):
    assert not is_convolved(x, outputs)
    assert linear(x, torch.empty(outputs, x.shape[-1], dtype=x.dtype, device=x.device)).shape == (len(x), outputs)


def test_leaves_autocast_and_function_transforms_to_torch():
    x, layer = torch.randn(6624, 96), Linear(96, 96)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert_close(torch.func.vmap(layer)(torch.stack([x, x]))[1], layer(x))


@pytest.mark.parametrize(("rows", "parts"), [(6624, 207), (256, 256), (17 * 257, 17), (257, 0), (16, 0)])
def test_parts_are_equal_and_not_too_few(rows, parts):
    assert images(rows) == parts


def test_feed_forward_equals_its_definition():
    torch.manual_seed(0)
    block, x = FeedForward(64, 256), torch.randn(32, 207, 64, requires_grad=True)
    gradient = torch.randn_like(x)
    learned = [x, *block.parameters()]
    assert is_convolved(x, 256)
    plain = functional.linear(
        functional.linear(x, block.widen.weight, block.widen.bias).relu(), block.narrow.weight, block.narrow.bias
    )
    ours = block(x)
    assert_close(ours, plain)
    for mine, yours in zip(
        torch.autograd.grad(ours, learned, gradient), torch.autograd.grad(plain, learned, gradient), strict=True
    ):
        assert_close(mine, yours)


@pytest.mark.parametrize("fusion", ["gated", "concat", "cross_attn", "gated_residual", "adaptive"])
def test_a_model_is_the_same_function_either_way(fusion):
    shape = ForecastShape(num_sensors=40)
    torch.manual_seed(0)
    model: nn.Module = build_model(ModelConfig(embed_dim=96, fusion_type=fusion), shape).eval()
    inputs = (
        *(torch.randn(16, 12, 40), torch.rand(16, 12, 40) > 0.1),
        *(torch.randint(288, (16, 12)), torch.randint(7, (16, 12))),
    )

    def results():
        model.zero_grad()
        forecast = model(*inputs)
        forecast.square().mean().backward()
        return forecast.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}

    assert is_convolved(torch.empty(16 * 12 * 40, 96), 96)
    ours, gradients = results()
    with without_onednn():
        theirs, expected = results()
    assert_close(ours, theirs)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in gradients.items():
        # A key's bias moves no attention weight: its gradient is zero but for rounding, so it is held to the largest.
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5 * largest, msg=name)
