"""Expansion into arms, and what must hold among them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.arms import Arm, expand, refuse_other_data, refuse_set_fields, resolve_arms, varied_fields
from ablations.matrix import Matrix
from altformer.config import Config
from altformer.errors import UserError
from experiments.compose import compose


def matrix(**keys: Any) -> Matrix:
    return Matrix.model_validate({"name": "m", "base": "METR-LA_alternating", "kind": "search", **keys})


def plain(arms: list[Arm]) -> list[tuple[str, dict[str, Any]]]:
    return [(arm.name, arm.settings) for arm in arms]


EXPANSIONS: dict[str, tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]] = {
    "grid is the product, the last list fastest": (
        {"grid": {"lr": [0.1, 0.2], "embed_dim": [4, 8]}},
        [
            ("lr=0.1,embed_dim=4", {"lr": 0.1, "embed_dim": 4}),
            ("lr=0.1,embed_dim=8", {"lr": 0.1, "embed_dim": 8}),
            ("lr=0.2,embed_dim=4", {"lr": 0.2, "embed_dim": 4}),
            ("lr=0.2,embed_dim=8", {"lr": 0.2, "embed_dim": 8}),
        ],
    ),
    "zip goes in step": (
        {"zip": {"embed_dim": [48, 128], "num_heads": [4, 8]}},
        [
            ("embed_dim=48,num_heads=4", {"embed_dim": 48, "num_heads": 4}),
            ("embed_dim=128,num_heads=8", {"embed_dim": 128, "num_heads": 8}),
        ],
    ),
    "any mix is concatenated": (
        {"arms": {"plain": {}}, "grid": {"lr": [0.1]}, "zip": {"dropout": [0.2]}},
        [("lr=0.1", {"lr": 0.1}), ("dropout=0.2", {"dropout": 0.2}), ("plain", {})],
    ),
    "several grids": (
        {"grid": [{"lr": [0.1]}, {"dropout": [0.0]}]},
        [("lr=0.1", {"lr": 0.1}), ("dropout=0.0", {"dropout": 0.0})],
    ),
    "dotted paths are named by their leaves": (
        {"grid": {"model.use_adaptive": [True, False], "training.scheduler": ["constant"]}},
        [
            ("use_adaptive=true,scheduler=constant", {"model.use_adaptive": True, "training.scheduler": "constant"}),
            ("use_adaptive=false,scheduler=constant", {"model.use_adaptive": False, "training.scheduler": "constant"}),
        ],
    ),
    "a template names those that have its fields": (
        {
            "labels": "{embed_dim}x{num_heads}",
            "zip": {"embed_dim": [8, 16], "num_heads": [2, 4]},
            "grid": {"lr": [0.1]},
        },
        [
            ("lr=0.1", {"lr": 0.1}),
            ("8x2", {"embed_dim": 8, "num_heads": 2}),
            ("16x4", {"embed_dim": 16, "num_heads": 4}),
        ],
    ),
}


@pytest.mark.parametrize("case", EXPANSIONS)
def test_expansion(case: str) -> None:
    keys, expected = EXPANSIONS[case]
    assert plain(expand(matrix(**keys))) == expected


@given(st.dictionaries(st.sampled_from(["lr", "dropout", "weight_decay"]), st.sets(st.integers(1, 9)), min_size=1))
def test_a_grid_has_every_combination_once(grid: dict[str, set[int]]) -> None:
    lists = {field: sorted(values) for field, values in grid.items() if values}
    if not lists:
        return
    arms = expand(matrix(grid=lists))
    count = 1
    for values in lists.values():
        count *= len(values)
    assert len({arm.name for arm in arms}) == len(arms) == count


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({}, "no arms"),
    "no baseline": (
        {"kind": "comparison", "grid": {"lr": [0.1, 0.2]}},
        r"a comparison needs one arm named as baseline: \(one of: lr=0.1, lr=0.2\)",
    ),
    "baseline is no arm": (
        {"arms": {"gated": {}, "concat": {"fusion_type": "concat"}}, "baseline": "gatd"},
        "unknown baseline arm 'gatd'; did you mean 'gated'",
    ),
    "zip of unequal lists": (
        {"zip": {"embed_dim": [48, 64, 96], "num_heads": [4, 8]}},
        "equal length: embed_dim has 3, num_heads has 2",
    ),
    "same name from grid and arms": (
        {"grid": {"lr": [0.1]}, "arms": {"lr=0.1": {"dropout": 0.2}}},
        "the same arm twice, by name: 'lr=0.1'",
    ),
    "same value twice": ({"grid": {"lr": [0.1, 0.1]}}, "the same arm twice, by name"),
    "same settings": ({"arms": {"a": {"lr": 0.1}, "b": {"lr": 0.1}}}, "the same arm twice, by settings: 'a' and 'b'"),
    "same settings, other order and spelling": (
        {"arms": {"a": {"lr": 0.1, "dropout": 0.2}, "b": {"model": {"dropout": 0.2}, "training.lr": 0.1}}},
        "by settings: 'a' and 'b'",
    ),
    "label with a wrong field": (
        {"grid": {"embed_dim": [8]}, "labels": "{embed_dm}"},
        "unknown field of a label 'embed_dm'; did you mean 'embed_dim'",
    ),
    "label that fits no block": (
        {"grid": [{"embed_dim": [8]}, {"lr": [0.1]}], "labels": "{embed_dim}{lr}"},
        "no grid or zip has all the fields",
    ),
    "label that reaches into objects": ({"grid": {"lr": [1]}, "labels": "{lr.__class__}"}, "plain fields"),
    "label with a broken brace": ({"grid": {"lr": [1]}, "labels": "{lr"}, "labels: .*'{lr'"),
    "label that does not distinguish": (
        {"grid": {"lr": [0.1, 0.2], "dropout": [0.1]}, "labels": "{dropout}"},
        "the same arm twice, by name: '0.1'",
    ),
    "unknown field": ({"arms": {"a": {"embed_dm": 3}}}, "unknown field 'embed_dm'; did you mean 'embed_dim'"),
    "no name": ({"arms": {" ": {}}}, "an arm needs a name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_compare_wrongly_is_refused(case: str) -> None:
    keys, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        expand(matrix(**keys))


def resolve(arm: Arm) -> Config:
    return compose(matrix().base_file, arm=arm.settings)


def test_an_arm_that_spells_out_the_baseline_is_the_baseline() -> None:
    arms = expand(matrix(arms={"base": {}, "explicit": {"fusion_type": "gated", "lr": 5e-4}, "c": {"lr": 0.1}}))
    with pytest.raises(UserError, match="arms 'base' and 'explicit' are one configuration under two names"):
        resolve_arms(arms, resolve)


def test_arms_that_differ_in_effect_are_kept_in_order() -> None:
    arms = expand(matrix(arms={"b": {"lr": 0.1}, "a": {}}))
    assert [(name, config.training.lr) for name, config in resolve_arms(arms, resolve).items()] == [
        ("b", 0.1),
        ("a", 5e-4),
    ]


def test_a_value_that_the_configuration_refuses_names_the_arm() -> None:
    with pytest.raises(UserError, match=r"matrix 'm': arm 'odd': .*embed_dim"):
        resolve_arms(expand(matrix(arms={"odd": {"embed_dim": 97}})), resolve)


def test_varied_fields_are_paths_whatever_the_spelling() -> None:
    arms = expand(matrix(arms={"a": {"lr": 0.1}, "b": {"model": {"embed_dim": 8}, "training.epochs": 3}}))
    assert varied_fields(arms) == {"training.lr", "model.embed_dim", "training.epochs"}


def test_a_users_own_class_is_an_arm_with_its_options() -> None:
    arms = expand(matrix(arms={"a": {}, "mine": {"model": {"class": "my.models:Mine", "hidden": 16}}}))
    assert varied_fields(arms) == {"model.type", "model.class_path", "model.options"}
    model = compose(matrix().base_file, profile="quick", arm=arms[1].settings, varied=varied_fields(arms)).model
    assert (model.type, model.class_path, model.options) == ("own", "my.models:Mine", {"hidden": 16})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arm", "set_field", "refused"),
    [
        ("lr", "lr", True),
        ("lr", "training.lr", True),
        ("training.lr", "lr", True),
        ("lr", "training", True),  # a whole section would replace it
        ("scheduler", "training.scheduler.type", True),
        ("lr", "embed_dim", False),
        ("embed_dim", "adaptive_dim", False),
    ],
)
def test_set_may_not_name_a_field_of_an_arm(arm: str, set_field: str, refused: bool) -> None:
    arms = expand(matrix(arms={"plain": {}, "a": {arm: "constant" if arm == "scheduler" else 8}}))
    if not refused:
        refuse_set_fields(arms, [set_field])
        return
    with pytest.raises(UserError, match=f"--set {set_field}: arm 'a' sets this field itself"):
        refuse_set_fields(arms, [set_field])


def test_set_of_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'embed_dim'"):
        refuse_set_fields(expand(matrix(arms={"a": {}})), ["embed_dm"])


@pytest.mark.parametrize(
    ("settings_of_arm", "field"),
    [
        ({"dataset": {"name": "PEMS08"}}, "dataset.name"),
        ({"dataset": "PEMS08"}, "dataset"),
        ({"dataset.name": "PEMS08"}, "dataset.name"),
        ({"sensors": 8}, "dataset.sensors"),
        ({"dataset": {"input_len": 24, "null_value": None}}, "dataset.null_value"),
        ({"input_len": 24, "output_len": 24, "val_stride": 2, "test_stride": 3}, None),
        ({"embed_dim": 8}, None),
    ],
)
def test_an_arm_cannot_be_another_data_set(settings_of_arm: dict[str, Any], field: str | None) -> None:
    arms = expand(matrix(arms={"plain": {}, "b": settings_of_arm}))
    if field is None:
        refuse_other_data(arms)
        return
    with pytest.raises(UserError, match=f"arm 'b' sets {field}: an arm cannot be another data set; use --dataset A,B"):
        refuse_other_data(arms)
