"""In full every shipped arm is the guide's baseline and exactly what the guide changes for it, no more."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from ablations.arms import expand
from ablations.matrix import PACKAGE, load_matrix
from ablations.planning import configurations
from altformer.config import Config

NAMES = sorted(path.stem for path in PACKAGE.glob("*.yaml"))
Values = dict[str, Any]

# The guide's Phase 1 in METR-LA: its own values, all four inputs on, everything else off.
BASELINE: Values = {
    "dataset.name": "METR-LA",
    "dataset.input_len": 12,
    "dataset.output_len": 12,
    "dataset.val_stride": 1,
    "dataset.test_stride": 1,
    "model.type": "altformer",
    "model.embed_dim": 96,
    "model.num_heads": 4,
    "model.mlp_ratio": 4,
    "model.num_stages": 2,
    "model.temporal_depth_1": 2,
    "model.spatial_depth_1": 2,
    "model.temporal_depth_2": 2,
    "model.spatial_depth_2": 2,
    "model.encoder_order": "alternating",
    "model.share_stages": False,
    "model.stage_skip": "none",
    "model.cross_stage_attention": False,
    "model.spatial_impl": "batched",
    "model.fusion_type": "gated",
    "model.fusion_heads": 4,
    "model.fusion_dropout": 0.1,
    "model.gate_activation": "sigmoid",
    "model.learnable_weights": True,
    "model.dropout": 0.1,
    "model.stochastic_depth_rate": 0.0,
    "model.use_positional_encoding": True,
    "model.positional_encoding_type": "sincos",
    "model.max_relative_position": 12,
    "model.use_time_of_day": True,
    "model.use_day_of_week": True,
    "model.use_sensor_identity": True,
    "model.use_adaptive": True,
    "model.graph_bias": False,
    "model.patch_len": 1,
    "model.patch_sizes": (1,),
    "training.batch_size": 32,
    "training.gradient_accumulation_steps": 1,
    "training.epochs": 150,
    "training.steps_per_epoch": None,
    "training.patience": 30,
    "training.lr": 5e-4,
    "training.weight_decay": 1e-4,
    "training.clip_norm": 5.0,
    "training.optimizer.type": "AdamW",
    "training.optimizer.lr_groups": None,
    "training.scheduler.type": "constant",
    "training.scheduler.warmup_epochs": 0,
    "training.loss": "masked_mae",
    "training.label_smoothing": 0.0,
    "training.mixup_alpha": 0.0,
    "training.cutmix_prob": 0.0,
    "training.augmentation.noise_std": 0.0,
    "training.augmentation.mask_ratio": 0.0,
    "training.augmentation.temporal_shift": 0,
    "training.distillation": None,
    "training.precision": "fp32",
    "training.compile": False,
}


def depths(t1: int, s1: int, t2: int, s2: int) -> Values:
    """What differs from two layers everywhere."""
    names = ("temporal_depth_1", "spatial_depth_1", "temporal_depth_2", "spatial_depth_2")
    return {f"model.{name}": depth for name, depth in zip(names, (t1, s1, t2, s2), strict=True) if depth != 2}


def scheduler(kind: str, **values: Any) -> Values:
    return {"training.scheduler.type": kind} | {f"training.scheduler.{name}": value for name, value in values.items()}


def adam(lr: float, batch_size: int, epochs: int) -> Values:
    return {
        "training.optimizer.type": "Adam",
        "training.lr": lr,
        "training.batch_size": batch_size,
        "training.epochs": epochs,
    }


# The two factors are torch's own defaults, which the guide leaves as they are.
ONE_CYCLE = scheduler("OneCycleLR", max_lr=1e-3, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
NO_CLIPPING = {"training.clip_norm": 1e6}

# What model.md's tables say of each arm, as the difference to the baseline.
CHANGES: dict[str, dict[str, Values]] = {
    "stages": {
        "phase1": {},
        "phase1_stepwise": {"model.spatial_impl": "stepwise"},
        "single_stage": {"model.num_stages": 1},
        "parallel": {"model.encoder_order": "parallel"},
        "phase2_shared": {"model.share_stages": True},
        "phase2_skip_add": {"model.stage_skip": "add"},
        "phase2_skip_concat": {"model.stage_skip": "concat"},
        "phase3": {"model.num_stages": 3, "model.patch_sizes": (1, 2, 4), "model.cross_stage_attention": True},
        "phase3_lite": {"model.patch_sizes": (1, 2), "model.embed_dim": 64, "training.batch_size": 16},
        "phase1_optimized": {
            **depths(1, 1, 3, 3),
            "model.fusion_type": "cross_attn",
            **ONE_CYCLE,
            "training.weight_decay": 3e-4,
            "model.dropout": 0.12,
        },
    },
    "depth": {
        "1-1-1-1": depths(1, 1, 1, 1),
        "2-2-2-2": {},
        "3-3-3-3": depths(3, 3, 3, 3),
        "1-1-3-3": depths(1, 1, 3, 3),
        "1-1-2-2": depths(1, 1, 2, 2),
    },
    "fair_lr": {  # before each arm is tuned
        "1-1-1-1": depths(1, 1, 1, 1),
        "2-2-2-2": {},
        "3-3-3-3": depths(3, 3, 3, 3),
    },
    "embed_dim": {
        "48": {"model.embed_dim": 48},
        "64": {"model.embed_dim": 64},
        "96": {},
        "128": {"model.embed_dim": 128, "model.num_heads": 8},
    },
    "capacity": {
        "baseline": {},
        "enlarged": {"model.embed_dim": 128, "model.num_heads": 8, **depths(3, 3, 2, 2)},
        "reduced": {"model.embed_dim": 64, **depths(1, 1, 2, 2)},
    },
    "fusion": {
        "gated": {},
        "concat": {"model.fusion_type": "concat"},
        "cross_attn": {"model.fusion_type": "cross_attn"},
        "gated_residual": {"model.fusion_type": "gated_residual"},
        "gated_residual_tanh": {"model.fusion_type": "gated_residual", "model.gate_activation": "tanh"},
        "adaptive": {"model.fusion_type": "adaptive"},
        "adaptive_fixed": {"model.fusion_type": "adaptive", "model.learnable_weights": False},
    },
    "lr": {
        "lr=0.0001": {"training.lr": 1e-4},
        "lr=0.0003": {"training.lr": 3e-4},
        "lr=0.0005": {},
        "lr=0.001": {"training.lr": 1e-3},
        "lr=0.002": {"training.lr": 2e-3},
    },
    "schedule": {
        "constant": {},
        "multi_step": scheduler("MultiStepLR", milestones=(20, 30), gamma=0.1),
        "warm_restarts": scheduler("CosineAnnealingWarmRestarts", T_0=10, T_mult=2, eta_min=1e-5, warmup_epochs=5),
        "one_cycle": ONE_CYCLE,
        "lr_groups": {
            "training.optimizer.lr_groups.encoder": 3e-4,
            "training.optimizer.lr_groups.decoder": 5e-4,
            "training.optimizer.lr_groups.head": 1e-3,
        },
    },
    "regularization": {
        "baseline": {},
        "weight_decay_3e-4": {"training.weight_decay": 3e-4},
        "weight_decay_5e-4": {"training.weight_decay": 5e-4},
        "dropout_0.12": {"model.dropout": 0.12},
        "dropout_0.15": {"model.dropout": 0.15},
        "label_smoothing": {"training.label_smoothing": 0.1},
        "stochastic_depth": {"model.stochastic_depth_rate": 0.1},
        "mixup": {"training.mixup_alpha": 0.2},
        "cutmix": {"training.cutmix_prob": 0.5},
    },
    "positional": {
        "none": {"model.use_positional_encoding": False, "model.positional_encoding_type": "none"},
        "sincos": {},
        "learnable": {"model.positional_encoding_type": "learnable"},
        "relative": {"model.positional_encoding_type": "relative"},
        "rotary": {"model.positional_encoding_type": "rotary"},
    },
    "embedding": {
        "all_on": {},
        "no_time_of_day": {"model.use_time_of_day": False},
        "no_day_of_week": {"model.use_day_of_week": False},
        "no_sensor_identity": {"model.use_sensor_identity": False},
        "no_adaptive": {"model.use_adaptive": False},
        "all_off": {
            "model.use_time_of_day": False,
            "model.use_day_of_week": False,
            "model.use_sensor_identity": False,
            "model.use_adaptive": False,
        },
        "graph_bias": {"model.graph_bias": True},
    },
    "identity": {
        "identity=true,adaptive=true": {},
        "identity=true,adaptive=false": {"model.use_adaptive": False},
        "identity=false,adaptive=true": {"model.use_sensor_identity": False},
        "identity=false,adaptive=false": {"model.use_sensor_identity": False, "model.use_adaptive": False},
    },
    "data": {
        "baseline": {},
        "batch_64_accumulated": {"training.batch_size": 64, "training.gradient_accumulation_steps": 2},
        "input_len_24": {"dataset.input_len": 24},
        "noise": {"training.augmentation.noise_std": 0.01},
        "mask": {"training.augmentation.mask_ratio": 0.1},
        "shift": {"training.augmentation.temporal_shift": 2},
        "noise_mask_shift": {
            "training.augmentation.noise_std": 0.01,
            "training.augmentation.mask_ratio": 0.1,
            "training.augmentation.temporal_shift": 2,
        },
    },
    "loss": {
        "masked_mae": {},
        "huber": {"training.loss": "huber"},
        "mae_unmasked": {"training.loss": "mae_unmasked"},
    },
    "patch": {
        "1": {},
        "3": {"model.patch_len": 3},
        "6": {"model.patch_len": 6},
        "12": {"model.patch_len": 12},
    },
    "datasets": {"phase1": {}, "last_value": {"model.type": "last_value"}},
    # The recipes of the papers and their code; each model's sizes are its own, held by its number of parameters.
    "baselines": {
        "altformer": {},
        "copy_last": {"model.type": "copy_last"},
        "last_value": {"model.type": "last_value"},
        "historical_average": {"model.type": "historical_average"},
        "mlp": {
            "model.type": "mlp",
            **adam(2e-3, 64, 100),
            **scheduler("MultiStepLR", milestones=(1, 50, 80), gamma=0.5),
        },
        "dlinear": {
            "model.type": "dlinear",
            **adam(2e-3, 64, 50),
            **scheduler("MultiStepLR", milestones=(1, 25), gamma=0.5),
            **NO_CLIPPING,
        },
        "stid": {
            "model.type": "stid",
            **adam(2e-3, 64, 100),
            **scheduler("MultiStepLR", milestones=(1, 50, 80), gamma=0.5),
        },
        "graph_wavenet": {"model.type": "graph_wavenet", **adam(1e-3, 64, 100)},
        "staeformer": {
            "model.type": "staeformer",
            **adam(1e-3, 16, 200),
            "training.weight_decay": 3e-4,
            **scheduler("MultiStepLR", milestones=(20, 30), gamma=0.1),
            **NO_CLIPPING,
        },
    },
}


@cache
def arms(name: str) -> dict[str, Config]:
    matrix = load_matrix(PACKAGE / f"{name}.yaml").of("full")
    return configurations(matrix, expand(matrix), None, "full", {})


def flat(values: Values, above: str = "") -> Values:
    """Every value by its dotted path."""
    paths: Values = {}
    for key, value in values.items():
        path = f"{above}{key}"
        paths |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return paths


def test_every_arm_of_every_matrix_is_held() -> None:
    assert {name: list(found) for name, found in CHANGES.items()} == {name: list(arms(name)) for name in CHANGES}
    assert sorted(CHANGES) == NAMES


@pytest.mark.parametrize("name", CHANGES)
def test_the_baseline_is_the_guides(name: str) -> None:
    (baseline,) = [arm.name for arm in expand(load_matrix(PACKAGE / f"{name}.yaml").of("full")) if arm.is_baseline]
    assert CHANGES[name][baseline] == {}
    found = flat(arms(name)[baseline].model_dump())
    assert {path: found[path] for path in BASELINE} == BASELINE


@pytest.mark.parametrize(("name", "arm"), [(name, arm) for name, found in CHANGES.items() for arm in found])
def test_an_arm_differs_in_exactly_what_the_guide_changes(name: str, arm: str) -> None:
    baseline = flat(arms("stages")["phase1"].model_dump())
    found = flat(arms(name)[arm].model_dump())
    ours = found["model.type"] == "altformer"
    different = {
        path: value
        for path, value in found.items()
        if baseline.get(path, ...) != value and (ours or path == "model.type" or not path.startswith("model."))
    }
    assert different == CHANGES[name][arm]
