from __future__ import annotations

import torch
from torch import nn

from altformer.baselines.config import StaeformerConfig
from altformer.baselines.staeformer import PostNormLayer


def test_layer_is_the_original_post_norm_layer():
    """Against torch's own."""
    config = StaeformerConfig(dropout=0)
    torch.manual_seed(0)
    ours = PostNormLayer(config)
    reference = nn.TransformerEncoderLayer(152, 4, 256, dropout=0.0, batch_first=True)
    names = {
        "self_attn.in_proj_weight": "query_key_value.weight",
        "self_attn.in_proj_bias": "query_key_value.bias",
        "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias",
        "linear1.weight": "feed_forward.widen.weight",
        "linear1.bias": "feed_forward.widen.bias",
        "linear2.weight": "feed_forward.narrow.weight",
        "linear2.bias": "feed_forward.narrow.bias",
        "norm1.weight": "attention_norm.weight",
        "norm1.bias": "attention_norm.bias",
        "norm2.weight": "feed_forward_norm.weight",
        "norm2.bias": "feed_forward_norm.bias",
    }
    state = ours.state_dict()
    reference.load_state_dict({theirs: state[name] for theirs, name in names.items()})
    x = torch.randn(3, 12, 152)
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-4, atol=1e-5)


def test_layers_over_time_keep_sensors_apart(build, draw):
    model = build("staeformer")
    model.spatial = nn.Identity()
    reading, *rest = draw()
    changed = reading.clone()
    changed[:, 0, 2] += 1  # an old step of one sensor
    reached = ((model(changed, *rest) - model(reading, *rest)).abs() > 1e-6).any(dim=1).all(dim=0)
    assert reached.tolist() == [False, False, True, False, False]


def test_layers_over_sensors_keep_steps_apart(build, draw):
    model = build("staeformer")
    model.temporal = nn.Identity()
    flat: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda module, inputs, output: flat.append(inputs[0].unflatten(2, (12, 16))))
    reading, *rest = draw()
    changed = reading.clone()
    changed[:, 4, 2] += 1
    model(reading, *rest), model(changed, *rest)
    moved = ((flat[1] - flat[0]).abs() > 1e-6).any(dim=3).all(dim=0)  # (n,t)
    assert moved.all(dim=0).tolist() == [step == 4 for step in range(12)]
    assert moved.any(dim=0).tolist() == [step == 4 for step in range(12)]


def test_every_step_has_its_own_time_sensor_and_place_in_the_window(build, draw):
    model = build("staeformer")
    tokens: list[torch.Tensor] = []
    model.temporal.register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0]))
    _, _, slots, days = inputs = draw()
    reading = inputs[0]
    model(*inputs)
    token = tokens[0].unflatten(0, (4, 5))[1, 3, 7].detach()  # sample 1, sensor 3, step 7
    read = torch.stack([reading[1, 7, 3], slots[1, 7] / 24, days[1, 7].float()])
    expected = [
        model.reading(read),
        model.time_of_day.weight[slots[1, 7]],
        model.day_of_week.weight[days[1, 7]],
        model.adaptive[7, 3],
    ]
    torch.testing.assert_close(token, torch.cat(expected).detach(), rtol=1e-5, atol=1e-6)
