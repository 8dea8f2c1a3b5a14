from __future__ import annotations

import torch


def test_equal_readings_differ_by_sensor_and_by_time(build, draw):
    model = build("stid")
    reading, observed, *_ = draw(batch=1)
    reading = torch.ones_like(reading)
    monday, noon = torch.zeros(1, 12, dtype=torch.int64), torch.full((1, 12), 12)
    forecast = model(reading, observed, noon, monday)
    assert len({round(float(value), 5) for value in forecast[0, 0].detach()}) == 5
    assert not torch.isclose(forecast, model(reading, observed, noon + 1, monday), atol=1e-5).any()
    assert not torch.isclose(forecast, model(reading, observed, noon, monday + 1), atol=1e-5).any()


def test_time_embeddings_are_those_of_the_last_step(build, draw):
    """An earlier step's clock is only a number among the series; its table row plays no part."""
    model = build("stid")
    reading, observed, *_ = draw()
    slots, days = torch.arange(12).expand(4, -1), torch.full((4, 12), 3)
    model(reading, observed, slots, days).sum().backward()
    assert model.time_of_day.grad.any(dim=1).nonzero().flatten().tolist() == [11]
    assert model.day_of_week.grad.any(dim=1).nonzero().flatten().tolist() == [3]


def test_forecast_written_out(build, draw):
    model = build("stid", num_layers=1)
    reading, observed, slots, days = draw(batch=1)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    for sensor in range(5):
        series = torch.cat([reading[0, :, sensor], slots[0] / 24, days[0].float()])
        parts = [
            weights["series.weight"] @ series + weights["series.bias"],
            weights["sensor"][sensor],
            weights["time_of_day"][slots[0, -1]],
            weights["day_of_week"][days[0, -1]],
        ]
        x = torch.cat(parts)
        hidden = torch.relu(weights["layers.0.inner.weight"] @ x + weights["layers.0.inner.bias"])
        x = x + weights["layers.0.outer.weight"] @ hidden + weights["layers.0.outer.bias"]
        expected = weights["head.weight"] @ x + weights["head.bias"]
        torch.testing.assert_close(model(reading, observed, slots, days)[0, :, sensor], expected, rtol=1e-4, atol=1e-5)
