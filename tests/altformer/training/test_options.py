"""Any valid configuration trains, any invalid one is refused with the field and the value."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from torch import nn

from altformer.config import Config
from altformer.data.traffic import read_only
from altformer.data.windows import SPLIT_INPUT_LEN
from altformer.model.config import ModelConfig
from altformer.train import train
from altformer.training.context import BareContext

CELL = "0123456789abcdef"
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


class Teacher(nn.Module):
    """Repeats the last reading for as many steps as the student forecasts."""

    def __init__(self, output_len):
        super().__init__()
        self.output_len = output_len

    def forward(self, reading, observed, time_of_day, day_of_week):
        return reading[:, -1:].expand(-1, self.output_len, -1)


def rates(low=1e-5, high=1e-2):
    return st.floats(low, high)


def schedulers():
    warmup = st.sampled_from([0, 0.5, 1])
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("constant")}, optional={"warmup_epochs": warmup}),
        st.fixed_dictionaries({"type": st.just("MultiStepLR"), "milestones": st.just([1, 2])}),
        st.fixed_dictionaries({"type": st.just("CosineAnnealingLR")}, optional={"warmup_epochs": warmup}),
        st.fixed_dictionaries(
            {"type": st.just("CosineAnnealingWarmRestarts")},
            optional={"T_0": st.integers(1, 20), "T_mult": st.integers(1, 3), "warmup_epochs": warmup},
        ),
        st.fixed_dictionaries({"type": st.just("OneCycleLR")}, optional={"max_lr": rates()}),
    )


def trainings(draw):
    """A training section of one step, in which every option may be on."""
    scheduler = draw(schedulers())
    optimizer: dict[str, Any] = {"type": draw(st.sampled_from(["AdamW", "Adam", "Muon"]))}
    if scheduler["type"] != "OneCycleLR" and draw(st.booleans()):
        optimizer["lr_groups"] = {group: draw(rates()) for group in ("encoder", "decoder", "head")}
    augmentation = {
        "noise_std": draw(st.sampled_from([0.0, 0.01, 0.5])),
        "mask_ratio": draw(st.sampled_from([0.0, 0.1, 0.9])),
        "temporal_shift": draw(st.integers(0, 3)),
    }
    return {
        "epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": draw(st.integers(1, 6)),
        "gradient_accumulation_steps": draw(st.integers(1, 3)),
        "lr": draw(rates()),
        "ema_decay": draw(st.sampled_from([0.0, 0.9, 0.999])),
        "horizon_curriculum": draw(st.integers(0, 2)),
        "weight_decay": draw(st.floats(0, 1e-2)),
        "clip_norm": draw(st.floats(0.1, 10)),
        "scheduler": scheduler,
        "optimizer": optimizer,
        "loss": draw(st.sampled_from(["masked_mae", "huber", "mae_unmasked"])),
        "label_smoothing": draw(st.floats(0, 0.9)),
        "mixup_alpha": draw(st.sampled_from([0.0, 0.01, 0.2, 2.0])),
        "cutmix_prob": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "augmentation": augmentation,
        "distillation": draw(st.none() | st.fixed_dictionaries({"teacher": st.just(CELL), "weight": st.floats(0, 1)})),
        "precision": draw(st.sampled_from(["fp32", "bf16"])),
    }


def models(draw, input_len):
    """A small model section: every choice and switch as the config knows it, sizes that fit each other."""
    heads = draw(st.sampled_from([1, 2]))
    fewest = draw(st.sampled_from([(0, 1), (1, 0)]))  # of temporal and of spatial layers: a stage has at least one
    depths = {
        name: draw(st.integers(fewest[name.startswith("spatial")], 2))
        for name in ModelConfig.model_fields
        if "_depth_" in name
    }
    choices = {
        name: draw(st.sampled_from(options(field)) if options(field) else st.booleans())
        for name, field in ModelConfig.model_fields.items()
        if field.annotation is bool or (options(field) and name != "type")
    }
    stages = draw(st.integers(1, 3))
    if choices["share_stages"]:
        depths = dict.fromkeys(depths, 1)
    if stages == 1:
        choices |= {"share_stages": False, "stage_skip": "none", "cross_stage_attention": False}
    scales = draw(st.sampled_from([(1,), (1, 2), (1, 2, 4)]))
    return {
        **depths,
        **choices,
        "num_stages": stages,
        "num_heads": heads,
        "embed_dim": heads * draw(st.sampled_from([2, 4])),
        "mlp_ratio": 1,
        "fusion_heads": heads,
        "adaptive_dim": draw(st.integers(1, 4)),
        "max_relative_position": draw(st.integers(1, 30)),
        "patch_sizes": scales,
        "patch_len": draw(st.sampled_from([p for p in (1, 2, 3, 4, 6) if input_len % (p * scales[-1]) == 0])),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "fusion_dropout": draw(st.sampled_from([0.0, 0.1])),
        "stochastic_depth_rate": draw(st.sampled_from([0.0, 0.1, 0.5])),
    }


def options(field):
    """The values of a field that is a choice of names, else nothing."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


@st.composite
def valid_configs(draw):
    input_len = draw(st.sampled_from([SPLIT_INPUT_LEN, 24]))
    output_len = draw(st.sampled_from([1, 3, 12]))
    return {
        "dataset": {
            "name": "simulated",
            "input_len": input_len,
            "output_len": output_len,
            "val_stride": 20,
            "test_stride": 40,
        },
        "model": models(draw, input_len),
        "training": trainings(draw),
        "seed": draw(st.integers(0, 3)),
    }


@settings(max_examples=20, suppress_health_check=SLOW, derandomize=True)
@given(values=valid_configs())
def test_any_valid_configuration_trains_a_step(traffic, tmp_path_factory, values):
    config = Config.model_validate(values)
    data = replace(traffic, adjacency=read_only(np.eye(6, k=1) + np.eye(6)))
    folder = tmp_path_factory.mktemp("cell")
    result = train(config, data, BareContext(), folder, Teacher(config.dataset.output_len))
    assert result.status == "done" and result.epochs == 1
    assert math.isfinite(result.curve[0]["train_loss"]) and math.isfinite(result.test["mae_unmasked"])
    assert Config.model_validate(config.model_dump(mode="json")) == config


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()):
    """Every field below a configuration model as (path, field)."""
    for name, field in model.model_fields.items():
        nested = [part for part in [field.annotation, *all_args(field.annotation)] if is_model(part)]
        if not nested:
            yield (*path, name), field
        for part in nested:
            tag = (part.model_fields["type"].default,) if "type" in part.model_fields else ()
            yield from leaves(part, (*path, name, *[f"type={tag[0]}" for _ in tag]))


def all_args(annotation):
    parts = get_args(annotation)
    return itertools.chain(parts, *(all_args(part) for part in parts))


def is_model(part):
    return isinstance(part, type) and issubclass(part, BaseModel)


def wrong_values(field):
    """A strategy of values that a field must refuse, or None where its type alone says what is allowed."""
    choices = options(field)
    if choices:
        return st.text("abcxyz", min_size=1, max_size=8).filter(lambda text: text not in choices)
    if field.annotation is bool:
        return st.sampled_from(["perhaps", 2, -1])
    bounds = {type(rule).__name__: getattr(rule, type(rule).__name__.lower(), None) for rule in field.metadata}
    number = st.integers if field.annotation in (int, int | None) else _floats
    wrong = []
    if "Ge" in bounds:
        wrong.append(number(max_value=bounds["Ge"] - 1))
    if "Gt" in bounds:
        wrong.append(number(max_value=bounds["Gt"]))
    if "Le" in bounds:
        wrong.append(number(min_value=bounds["Le"] + 1))
    if "Lt" in bounds:
        wrong.append(number(min_value=bounds["Lt"]))
    if field.annotation is int:
        wrong.append(st.floats(0.1, 0.9))
    if wrong:  # no number of ours may be infinite or none at all, whatever its bounds are
        wrong.append(st.sampled_from([math.nan, math.inf, -math.inf]))
    return st.one_of(wrong) if wrong else None


def _floats(**bounds):
    return st.floats(min_value=-1e6, max_value=1e6).filter(
        lambda value: value <= bounds.get("max_value", value) and value >= bounds.get("min_value", value)
    )


REFUSING = [(path, field) for path, field in leaves(Config) if wrong_values(field) is not None and path[-1] != "type"]


@settings(max_examples=400, suppress_health_check=SLOW, derandomize=True)
@given(data=st.data())
def test_any_invalid_value_is_refused_with_field_and_value(data):
    path, field = data.draw(st.sampled_from(REFUSING))
    check_refused(path, data.draw(wrong_values(field)))


def check_refused(path, wrong):
    """A configuration that is valid but for one value is refused, and the message names rule, field and value."""
    values: dict[str, Any] = {"dataset": {"name": "simulated"}}
    target = values
    for part in path[:-1]:
        if part.startswith("type="):
            target["type"] = part.removeprefix("type=")
        else:
            target = target.setdefault(part, {"teacher": CELL} if part == "distillation" else {})
    target[path[-1]] = wrong
    with pytest.raises(ValidationError) as refusal:
        Config.model_validate(values)
    message = str(refusal.value)
    assert path[-1] in message and repr(wrong) in message, message
    assert "must" in message or "should" in message, message


NUMBERS = [path for path, field in REFUSING if field.annotation in (int, float, int | None, float | None)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_no_number_is_infinite_or_none(path, value):
    """What the search draws by chance, for every field."""
    check_refused(path, value)


def test_the_search_for_invalid_values_reaches_every_section():
    found = {".".join(part for part in path if not part.startswith("type=")) for path, _ in REFUSING}
    assert found >= {
        "seed",
        "dataset.input_len",
        "model.embed_dim",
        "model.fusion_type",
        "training.lr",
        "training.gradient_accumulation_steps",
        "training.label_smoothing",
        "training.mixup_alpha",
        "training.cutmix_prob",
        "training.augmentation.noise_std",
        "training.augmentation.mask_ratio",
        "training.augmentation.temporal_shift",
        "training.optimizer.lr_groups.encoder",
        "training.scheduler.T_0",
        "training.scheduler.eta_min",
        "training.scheduler.warmup_epochs",
        "training.scheduler.div_factor",
        "training.scheduler.final_div_factor",
        "training.distillation.weight",
    }
