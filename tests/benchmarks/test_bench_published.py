"""The published form of STAEformer is the published model, and the same function as ours."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from altformer.baselines.config import StaeformerConfig
from altformer.baselines.staeformer import Staeformer
from altformer.model.build import count_parameters
from altformer.model.shape import ForecastShape
from benchmarks.bench_published import PUBLISHED_PARAMETERS, PublishedStaeformer, written_out
from benchmarks.bench_step import random_batch


def test_it_has_the_published_number_of_parameters():
    assert count_parameters(PublishedStaeformer(StaeformerConfig(), ForecastShape(207))) == PUBLISHED_PARAMETERS


@pytest.mark.parametrize("tokens", [12, 50])
def test_written_out_attention_is_the_fused_one(tokens):
    query, key, value = (torch.randn(3, 2, tokens, 8) for _ in range(3))
    torch.testing.assert_close(
        written_out(query, key, value), scaled_dot_product_attention(query, key, value), atol=1e-5, rtol=1e-5
    )


def test_with_the_same_weights_it_forecasts_what_ours_does():
    shape = ForecastShape(5)
    published, ours = (
        PublishedStaeformer(StaeformerConfig(), shape).eval(),
        Staeformer(StaeformerConfig(), shape).eval(),
    )
    ours.load_state_dict(_in_our_names(published.state_dict()))
    inputs = random_batch(2, shape)[0]
    torch.testing.assert_close(published(*inputs), ours(*inputs), atol=1e-5, rtol=1e-5)


def _in_our_names(weights):
    """Ours keeps query, key and value in one map, and calls the two of the feed-forward part by name."""
    names = {
        "attention.out.": "out.",
        "feed_forward.0.": "feed_forward.widen.",
        "feed_forward.2.": "feed_forward.narrow.",
    }
    renamed = {}
    for name, weight in weights.items():
        if "attention.query." in name:
            three = [weights[name.replace("query", part)] for part in ("query", "key", "value")]
            renamed[name.replace("attention.query.", "query_key_value.")] = torch.cat(three)
        elif "attention.key." not in name and "attention.value." not in name:
            published = next((part for part in names if part in name), "")
            renamed[name.replace(published, names[published]) if published else name] = weight
    return renamed
