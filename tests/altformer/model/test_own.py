"""A user's own model, from a module of theirs to a forecast."""

from __future__ import annotations

import sys

import pytest
import torch
from pydantic import ValidationError

from altformer.config import Config
from altformer.errors import UserError
from altformer.model.build import build_model, count_parameters

SOURCE = """
import torch
from torch import nn

class Steady(nn.Module):
    def __init__(self, shape, scale=1.0):
        super().__init__()
        self.output_len = shape.output_len
        self.weight = nn.Parameter(torch.full((shape.num_sensors,), float(scale)))

    def forward(self, reading, observed, time_of_day, day_of_week):
        return (reading[:, -1:] * self.weight).expand(-1, self.output_len, -1)

class Turned(Steady):
    def forward(self, *inputs):
        return super().forward(*inputs).transpose(1, 2)

class Wide(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.size = shape.width

class NoModel:
    def __init__(self, shape):
        pass

def steady(shape):
    return Steady(shape)
"""


@pytest.fixture
def own(tmp_path, monkeypatch, shape):
    """Builds what a configuration's `model` describes, with a package `mine` of the user's on the path."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(SOURCE)
    (package / "broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)

    def built(class_path, **options):
        model = {"type": "own", "class_path": class_path, "options": options}
        return build_model(Config.model_validate({"model": model, "dataset": "simulated"}).model, shape)

    yield built
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_an_own_model_is_built_with_its_options_and_forecasts(own, draw, shape):
    model = own("mine.nets:Steady", scale=2.5)
    assert type(model).__name__ == "Steady"
    assert count_parameters(model) == shape.num_sensors
    inputs = draw()
    torch.testing.assert_close(model(*inputs), 2.5 * inputs[0][:, -1:].expand(-1, shape.output_len, -1))


@pytest.mark.parametrize(
    ("class_path", "options", "message"),
    [
        ("not_there:Steady", {}, "cannot import 'not_there'"),
        ("mine.nits:Steady", {}, "cannot import 'mine.nits'"),
        ("mine.broken:Steady", {}, "cannot import 'mine.broken'.*not_installed_anywhere"),
        ("mine.nets:Stedy", {}, "module 'mine.nets': unknown class 'Stedy'; did you mean 'Steady'"),
        ("mine.nets:NoModel", {}, "'mine.nets:NoModel' is no torch.nn.Module class"),
        ("mine.nets:steady", {}, "'mine.nets:steady' is no torch.nn.Module class"),
        ("mine.nets:Steady", {"scales": 2}, "mine.nets:Steady.*refused its options.*scales"),
        ("mine.nets:Wide", {}, "mine.nets:Wide.*raised AttributeError: .*'width'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_name(class_path, options, message, own):
    with pytest.raises(UserError, match=message):
        own(class_path, **options)


def test_a_forecast_of_another_form_is_refused_where_a_loss_might_broadcast_it(own, draw, shape):
    message = rf"mine.nets:Turned returned \(2, {shape.num_sensors}, {shape.output_len}\), expected \(b,h,n\) = \(2, "
    with pytest.raises(UserError, match=message):
        own("mine.nets:Turned")(*draw())


def test_a_mistake_inside_the_users_module_is_shown_with_its_line(own, tmp_path):
    (tmp_path / "mine" / "typo.py").write_text("import math\nmath.squareroot\n")
    with pytest.raises(UserError, match=r"AttributeError: .*squareroot.*mine/typo\.py:2\) when it was imported"):
        own("mine.typo:Steady")


@pytest.mark.parametrize("class_path", ["mine.nets.Steady", "mine.nets:", ":Steady", "mine/nets.py:Steady", ""])
def test_a_path_that_names_no_class_is_refused_before_anything_is_imported(class_path, own):
    with pytest.raises(ValidationError, match="class_path"):
        own(class_path)
