from __future__ import annotations

import math

import pytest
import torch

from altformer.model.embedding import InputEmbedding, sincos_positions
from altformer.model.shape import ForecastShape

TOKENS = 12
TABLES = {
    "use_time_of_day": {"time_of_day"},
    "use_day_of_week": {"day_of_week"},
    "use_sensor_identity": {"sensor"},
    "use_adaptive": {"adaptive", "adaptive_project.weight"},
}
ALL_OFF = dict.fromkeys(TABLES, False) | {"positional_encoding_type": "none"}


def names(embedding):
    return {name for name, _ in embedding.named_parameters()}


@pytest.mark.parametrize("switch", TABLES)
def test_a_switch_removes_exactly_its_tables(switch, tiny, shape):
    everything = names(InputEmbedding(tiny(), shape, TOKENS))
    assert everything - names(InputEmbedding(tiny(**{switch: False}), shape, TOKENS)) == TABLES[switch]


def test_with_all_switches_off_only_the_reading_is_left(tiny, shape):
    assert names(InputEmbedding(tiny(**ALL_OFF), shape, TOKENS)) == {"reading.weight", "reading.bias"}


@pytest.mark.parametrize("patch_len", [1, 3, 12])
def test_a_token_is_the_sum_of_its_parts(patch_len, tiny, shape, draw):
    """Written out token by token, for one sample and sensor at a time."""
    embedding = InputEmbedding(tiny(patch_len=patch_len), shape, shape.input_len // patch_len).eval()
    reading, observed, slot, day = draw(shape)
    embedded = embedding(reading, observed, slot, day)
    assert embedded.shape == (2, shape.num_sensors, shape.input_len // patch_len, 16)
    for b, n, token in [(0, 0, 0), (1, 4, shape.input_len // patch_len - 1)]:
        steps = range(token * patch_len, (token + 1) * patch_len)
        pairs = [(reading[b, s, n] * observed[b, s, n], observed[b, s, n].float()) for s in steps]
        expected = (
            embedding.reading(torch.tensor(pairs).flatten())
            + embedding.time_of_day[slot[b, steps[-1]]]
            + embedding.day_of_week[day[b, steps[-1]]]
            + embedding.sensor[n, 0]
            + embedding.adaptive_project(embedding.adaptive[n, token])
            + embedding.position[token]
        )
        torch.testing.assert_close(embedded[b, n, token], expected)


@pytest.mark.parametrize("hidden", [0.0, -2.5, 1e30, math.nan, math.inf])
def test_what_stands_behind_a_missing_reading_does_not_matter(hidden, tiny, shape, draw):
    embedding = InputEmbedding(tiny(), shape, TOKENS).eval()
    reading, observed, *clock = draw(shape)
    assert torch.equal(
        embedding(reading.masked_fill(~observed, hidden), observed, *clock), embedding(reading, observed, *clock)
    )


def test_that_a_reading_is_missing_does_matter(tiny, shape, draw):
    embedding = InputEmbedding(tiny(), shape, TOKENS).eval()
    reading, _, *clock = draw(shape)
    reading[0, 3, 2] = 0.0  # what a missing reading enters as, here truly read
    observed = torch.ones_like(reading, dtype=torch.bool)
    seen = embedding(reading, observed, *clock)
    observed[0, 3, 2] = False
    difference = (embedding(reading, observed, *clock) - seen).abs().amax(-1)
    assert difference[0, 2, 3] > 0.01
    difference[0, 2, 3] = 0
    assert difference.max() == 0


def test_positions_are_the_published_formula():
    positions = sincos_positions(5, 8)
    for step in range(5):
        for i in range(4):
            angle = step / 10000 ** (2 * i / 8)
            assert positions[step, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert positions[step, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_positions_are_neither_learned_nor_saved(tiny, shape):
    embedding = InputEmbedding(tiny(), shape, TOKENS)
    assert embedding.position is not None
    assert "position" not in embedding.state_dict()
    assert InputEmbedding(tiny(positional_encoding_type="none"), shape, TOKENS).position is None


def test_tables_fit_the_day_and_the_network(tiny):
    embedding = InputEmbedding(
        tiny(patch_len=3), ForecastShape(num_sensors=9, input_len=24, steps_per_day=96), tokens=8
    )
    assert embedding.time_of_day.shape == (96, 16)
    assert embedding.day_of_week.shape == (7, 16)
    assert embedding.sensor.shape == (9, 1, 16)
    assert embedding.adaptive.shape == (9, 8, 6)
