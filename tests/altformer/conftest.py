"""A small trained model, for what is done with one afterwards."""

from __future__ import annotations

import pytest

from altformer.train import train
from altformer.training.context import BareContext


@pytest.fixture(scope="session")
def trained(tiny, traffic, tmp_path_factory):
    """The folder of a cell trained for three epochs on the ``traffic`` fixture; to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(tiny, traffic, BareContext(), folder).status == "done"
    return folder
