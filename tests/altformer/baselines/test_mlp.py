from __future__ import annotations

import torch


def test_all_sensors_share_the_weights(build, draw):
    model, (reading, *rest) = build("mlp"), draw()
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(model(reading[:, :, order], *rest), model(reading, *rest)[:, :, order])
    assert model.layers[0][0].weight.shape == (16, 12)  # the input steps of one sensor, nothing else


def test_only_the_readings_count(build, draw):
    model, (reading, observed, slots, days) = build("mlp"), draw()
    assert torch.equal(model(reading, observed, slots, days), model(reading, observed, slots + 1, (days + 1) % 7))
