"""What training options refuse, each with its rule and value, and what they accept at the edge."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from altformer.training.config import DistillationConfig, TrainingConfig

CELL = "0123456789abcdef"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup_alpha": -0.1}, "mixup_alpha"),
        ({"mixup_alpha": math.inf}, "mixup_alpha"),
        ({"cutmix_prob": 1.01}, "cutmix_prob"),
        ({"augmentation": {"mask_ratio": 1.0}}, "mask_ratio"),
        ({"augmentation": {"temporal_shift": 1.5}}, "temporal_shift"),
        ({"augmentation": {"temporal_shift": -1}}, "temporal_shift"),
        ({"augmentation": {"noise": 1}}, "noise"),
        ({"scheduler": {"type": "CosineAnnealingWarmRestarts", "T_mult": 0}}, "T_mult"),
        ({"scheduler": {"type": "MultiStepLR", "milestones": [0, 3]}}, "milestones.0.*\n.*greater than or equal to 1"),
        ({"scheduler": {"type": "MultiStepLR", "milestones": [3, 3]}}, r"must rise strictly, got \[3, 3\]"),
        ({"scheduler": {"type": "MultiStepLR", "milestones": [20, 3, 30]}}, r"must rise strictly, got \[20, 3, 30\]"),
        ({"scheduler": {"type": "OneCycleLR", "anneal_strategy": "linear"}}, "anneal_strategy: only cos, got 'linear'"),
        ({"scheduler": {"type": "OneCycleLR", "anneal_strategy": None}}, "anneal_strategy: only cos, got None"),
        ({"scheduler": {"type": "CosineAnnealingLR", "anneal_strategy": "cos"}}, "Extra inputs"),
        (
            {"lr": 1e-6, "scheduler": "CosineAnnealingLR"},
            "scheduler.eta_min must not be above lr, where the cosine starts: eta_min 1e-05, lr 1e-06",
        ),
        (
            {"lr": 0.1, "scheduler": {"type": "CosineAnnealingWarmRestarts", "eta_min": 0.2}},
            "eta_min 0.2, lr 0.1",
        ),
        (
            {
                "scheduler": {"type": "CosineAnnealingLR", "eta_min": 4e-4},
                "optimizer": {"lr_groups": {"encoder": 5e-4, "decoder": 3e-4}},
            },
            "must not be above optimizer.lr_groups.decoder, .*: eta_min 0.0004, optimizer.lr_groups.decoder 0.0003",
        ),
        ({"optimizer": {"lr_groups": {"tail": 1e-3}}}, "tail"),
        ({"distillation": {"teacher": "best"}}, "teacher"),
        ({"distillation": {"weight": 0.5}}, "teacher"),
    ],
)
def test_refused_at_the_edge(training, expected):
    with pytest.raises(ValidationError, match=expected):
        TrainingConfig.model_validate(training)


@pytest.mark.parametrize(
    "training",
    [
        {"lr": 1e-5, "scheduler": "CosineAnnealingLR"},  # a cosine that stays where it is
        {"lr": 1e-6, "scheduler": "OneCycleLR"},
        {"lr": 1e-6, "scheduler": {"type": "CosineAnnealingLR", "eta_min": 0}},
        # the one lr is not used where there are groups
        {"lr": 1e-6, "scheduler": "CosineAnnealingLR", "optimizer": {"lr_groups": {}}},
        {"scheduler": {"type": "MultiStepLR", "milestones": []}},
        {"scheduler": {"type": "OneCycleLR", "anneal_strategy": "cos"}},
    ],
    ids=str,
)
def test_accepted_at_the_edge(training):
    accepted = TrainingConfig.model_validate(training)
    assert TrainingConfig.model_validate(accepted.model_dump(mode="json")) == accepted


def test_everything_is_off_by_default():
    training = TrainingConfig()
    changes = (training.label_smoothing, training.mixup_alpha, training.cutmix_prob)
    assert not any((*changes, *training.augmentation.model_dump().values()))
    assert training.distillation is None and training.optimizer.lr_groups is None
    assert training.gradient_accumulation_steps == 1
    assert DistillationConfig(teacher=CELL).weight == 0.5
