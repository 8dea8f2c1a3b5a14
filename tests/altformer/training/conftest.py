from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from altformer.config import Config
from altformer.data.traffic import read_only


@pytest.fixture
def trained_with(tiny):
    """Makes configurations of the tiny model without dropout, so that only the given options make a difference."""
    model = tiny.model.model_copy(update={"dropout": 0.0, "fusion_dropout": 0.0})

    def configured(**training):
        values = {"model": model.model_dump(), "training": tiny.training.model_dump() | training}
        return Config.model_validate(tiny.model_dump() | values)

    return configured


@pytest.fixture(scope="session")
def patchy(traffic):
    """Readings of which whole stretches of some sensors are missing, so that batches differ in what is observed."""
    values = traffic.values.copy()
    rng = np.random.default_rng(1)
    for start in range(0, len(values), 20):
        values[start : start + 20, rng.random(values.shape[1]) < 0.4] = 0
    return replace(traffic, values=read_only(values))
