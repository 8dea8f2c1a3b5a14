from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from altformer.errors import UserError
from altformer.model.attention import SelfAttention, join_heads, split_heads
from altformer.model.build import build_model
from altformer.model.positions import GraphBias, NoPosition, RelativePosition, RotaryPosition

HEADS, WIDTH, TOKENS = 2, 6, 7
ROAD = np.random.default_rng(0).random((5, 5)).astype(np.float32)


@pytest.fixture
def rows():
    """Query, key and value (r,heads,s,c)."""
    return torch.randn(3, 4, HEADS, TOKENS, WIDTH)


def scores(position, query, key):
    """What the softmax sees, (r,heads,s,s)."""
    query, key, bias = position(query, key)
    found = query @ key.transpose(2, 3) / WIDTH**0.5
    return found if bias is None else found + bias


def turned(vector, place):
    """One head's vector turned, pair by pair, as in Su et al. (2021) with pairs (k, k + c/2)."""
    half = len(vector) // 2
    out = torch.empty_like(vector)
    for k in range(half):
        angle = place * 10000 ** (-2 * k / len(vector))
        a, b = vector[k].item(), vector[k + half].item()
        out[k] = a * math.cos(angle) - b * math.sin(angle)
        out[k + half] = a * math.sin(angle) + b * math.cos(angle)
    return out


def test_rotary_turns_queries_and_keys_by_their_place(rows):
    query, key, _ = rows
    found = scores(RotaryPosition(TOKENS, WIDTH), query, key)
    for r, head in [(0, 0), (3, 1)]:
        for i in range(TOKENS):
            for j in range(TOKENS):
                expected = turned(query[r, head, i], i) @ turned(key[r, head, j], j) / WIDTH**0.5
                torch.testing.assert_close(found[r, head, i, j], expected, atol=1e-5, rtol=1e-4)


def test_rotary_scores_depend_on_the_distance_alone_and_do_depend_on_it():
    same = torch.randn(2, 1, HEADS, 1, WIDTH).expand(-1, -1, -1, TOKENS, -1)  # one query and one key at all places
    found = scores(RotaryPosition(TOKENS, WIDTH), *same)
    torch.testing.assert_close(found[..., 1:, 1:], found[..., :-1, :-1], atol=1e-5, rtol=1e-4)
    assert (found[..., 0, 1:] - found[..., 0, :-1]).abs().min() > 1e-4


def test_rotary_places_of_fewer_tokens_are_the_first_ones(rows):
    query, key, _ = rows
    first = query[..., :3, :], key[..., :3, :]
    for many, few in zip(RotaryPosition(TOKENS, WIDTH)(*first), RotaryPosition(3, WIDTH)(*first), strict=True):
        assert (many is None and few is None) or torch.equal(many, few)


@pytest.mark.parametrize("reach", [1, 2, 12])
def test_relative_adds_the_clipped_distances_vector_to_the_key(reach, rows):
    query, key, _ = rows
    position = RelativePosition(WIDTH, reach)
    assert position.vectors.shape == (2 * reach + 1, WIDTH)
    found = scores(position, query, key)
    for i in range(TOKENS):
        for j in range(TOKENS):
            vector = position.vectors[max(-reach, min(reach, j - i)) + reach]
            expected = (query[:, :, i] * (key[:, :, j] + vector)).sum(-1) / WIDTH**0.5
            torch.testing.assert_close(found[:, :, i, j], expected, atol=1e-5, rtol=1e-4)


def test_beyond_the_reach_all_distances_are_one(rows):
    _, _, bias = RelativePosition(WIDTH, 2)(*rows[:2])
    first = bias[:, :, 0]  # distances 0, 1, 2, ...
    assert torch.equal(first[..., 3:], first[..., 2:3].expand_as(first[..., 3:]))
    assert (first[..., 1] - first[..., 2]).abs().min() > 1e-6
    last = bias[:, :, -1]  # distances ..., -2, -1, 0
    assert (last[..., 0] - first[..., -1]).abs().max() > 1e-3  # past and future differ


@pytest.mark.parametrize(
    "position", [NoPosition(), RotaryPosition(TOKENS, 6), RelativePosition(6, 2)], ids=["none", "rotary", "relative"]
)
def test_self_attention_mixes_values_by_these_scores(position):
    layer, x = SelfAttention(HEADS * WIDTH, HEADS), torch.randn(3, TOKENS, HEADS * WIDTH)
    query, key, value = (split_heads(part, HEADS) for part in layer.query_key_value(x).chunk(3, -1))
    expected = layer.out(join_heads(torch.softmax(scores(position, query, key), -1) @ value))
    torch.testing.assert_close(layer(x, position), expected)


# In a model


def position_names(model):
    return [name for name, _ in model.named_parameters() if name.endswith((".position", ".vectors"))]


def in_stages(model, kind):
    return [isinstance(stage.temporal.position, kind) for stage in model.stages]


@pytest.mark.parametrize(
    ("kind", "attention", "embedded"),
    [
        ("none", NoPosition, False),
        ("sincos", NoPosition, True),
        ("learnable", NoPosition, True),
        ("relative", RelativePosition, False),
        ("rotary", RotaryPosition, False),
    ],
)
def test_each_kind_acts_in_one_place(kind, attention, embedded, build):
    model = build(positional_encoding_type=kind)
    assert in_stages(model, attention) == [True, True]
    assert (model.embeddings[0].position is not None) is embedded
    learned = {
        "learnable": ["embeddings.0.position"],
        "relative": [f"stages.{k}.temporal.position.vectors" for k in (0, 1)],
    }
    assert position_names(model) == learned.get(kind, [])
    assert all(isinstance(stage.spatial.position, NoPosition) for stage in model.stages)


def test_none_leaves_no_trace(build):
    """Neither weights nor a way to tell steps apart before the decoder, whose queries have a step of their own."""
    off = build(positional_encoding_type="none", use_adaptive=False)
    assert set(off.state_dict()) == set(build(use_adaptive=False).state_dict())
    x, order = torch.randn(2, 5, 12, 16), torch.randperm(12)
    torch.testing.assert_close(off.stages[0](x[:, :, order]), off.stages[0](x)[:, :, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["relative", "rotary"])
def test_with_a_position_in_attention_a_stage_hears_the_order_of_steps(kind, build):
    stage = build(positional_encoding_type=kind).stages[0]
    x, order = torch.randn(2, 5, 12, 16), torch.arange(11, -1, -1)
    assert not torch.allclose(stage(x[:, :, order]), stage(x)[:, :, order], atol=1e-3)


@pytest.mark.parametrize(("patch_len", "tokens"), [(1, 12), (3, 4)])
def test_the_learnable_table_has_a_row_for_each_token_and_is_added(patch_len, tokens, build, draw):
    model, inputs = build(positional_encoding_type="learnable", patch_len=patch_len), draw()
    embed = model.embeddings[0]
    assert isinstance(embed.position, torch.nn.Parameter)
    assert embed.position.shape == (tokens, 16)
    before = embed(*inputs)
    with torch.no_grad():
        embed.position[2] += 1
    difference = embed(*inputs) - before
    torch.testing.assert_close(difference[:, :, 2], torch.ones(2, 5, 16))
    difference[:, :, 2] = 0
    assert not difference.any()


@pytest.mark.parametrize("kind", ["learnable", "relative", "rotary"])
def test_every_scale_of_a_pyramid_has_its_positions(kind, build, draw):
    model = build(positional_encoding_type=kind, patch_sizes=(1, 2, 4))
    assert model(*draw()).isfinite().all()
    if kind == "learnable":
        assert [embed.position.shape[0] for embed in model.embeddings] == [12, 6, 3]


# The road graph


def test_the_graph_is_added_to_the_scores_with_a_strength_per_head(rows, shape):
    bias = GraphBias(HEADS, replace(shape, adjacency=ROAD))
    with torch.no_grad():
        bias.strength.copy_(torch.tensor([0.5, -2.0]))
    query, key, _ = rows[..., :5, :]
    found = scores(bias, query, key)
    for head, strength in enumerate([0.5, -2.0]):
        for i in range(5):
            for j in range(5):
                expected = query[:, head, i] @ key[:, head, j].T
                expected = expected.diagonal() / WIDTH**0.5 + strength * ROAD[i, j]
                torch.testing.assert_close(found[:, head, i, j], expected, atol=1e-5, rtol=1e-4)


def test_the_graph_acts_in_spatial_attention_only_and_moves_the_forecast(build, draw, shape):
    model = build(replace(shape, adjacency=ROAD), graph_bias=True)
    assert all(isinstance(stage.spatial.position, GraphBias) for stage in model.stages)
    assert in_stages(model, NoPosition) == [True, True]
    other = build(replace(shape, adjacency=ROAD.T.copy()), graph_bias=True)
    assert not torch.allclose(model(*draw()), other(*draw()), atol=1e-4)


def test_graph_bias_without_a_graph_is_refused(build):
    with pytest.raises(UserError, match="graph_bias needs a road graph"):
        build(graph_bias=True)


@pytest.mark.parametrize("impl", ["batched", "stepwise"])
def test_weights_alone_bring_the_graph_back(impl, build, draw, shape, tiny):
    changes = {"graph_bias": True, "spatial_impl": impl}
    model = build(replace(shape, adjacency=ROAD), **changes)
    restored = build_model(tiny(**changes), replace(shape, adjacency=np.zeros((5, 5), np.float32))).eval()
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored(*draw()), model(*draw()))


def test_the_models_graph_is_a_copy(build, draw, shape):
    road = ROAD.copy()
    model = build(replace(shape, adjacency=road), graph_bias=True)
    before = model(*draw())
    road[:] = 0
    assert torch.equal(model(*draw()), before)
