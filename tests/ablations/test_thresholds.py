"""Claims that a metric is below a number: where the number counts, and what is said in any case."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.matrix import PACKAGE, load_matrix

BASE = [3.010, 2.995, 3.004]
UNMASKED = {"training": {"loss": "mae_unmasked"}}


def verdict(make_report: Any, arms: dict[str, Any], claim: dict[str, Any], **info: Any) -> str:
    claims = [{"text": "it is so", "arm": "b", "metric": "val_mae_unmasked", "below": 4.0, **claim}]
    data, _ = make_report(arms, {"claims": claims, **info.pop("matrix", {})}, **info)
    return str(data.claims[0].verdict)


def trained(make_record: Any, maes: list[float], config: dict[str, Any] = UNMASKED, epochs: int = 30) -> list[Any]:
    """Records whose validation in the guide's scoring is ``mae`` at every epoch and at the best one."""
    records = []
    for seed, mae in enumerate(maes):
        record = make_record(3.0, seed, epochs=epochs, config=config)
        record["curve"] = [{**epoch, "val_mae_unmasked": mae} for epoch in record["curve"]]
        record["val"]["mae_unmasked"] = mae
        records.append(record)
    return records


THRESHOLDS: dict[str, tuple[list[float], dict[str, Any], dict[str, Any], str]] = {
    "below": ([3.8, 3.81, 3.79], {"epoch": 10}, {}, "supported (measured 3.800 ["),
    "above": ([4.2, 4.21, 4.19], {"epoch": 10}, {}, "contradicted (measured 4.200 ["),
    "on both sides": ([3.9, 4.1, 4.0], {"epoch": 10}, {}, "no difference shown (measured 4.000 ["),
    "at the best epoch": ([3.8, 3.81, 3.79], {}, {}, "supported"),
    "one seed": ([3.8], {"epoch": 10}, {}, "not enough seeds (measured 3.800)"),
    "an epoch nobody reached": (
        [3.8] * 3,
        {"epoch": 40},
        {},
        "not testable here (no cell has val_mae_unmasked at epoch",
    ),
    "quick": (
        [3.8] * 3,
        {"epoch": 10},
        {"profile": "quick"},
        "not testable here (quick profile; the guide's numbers are of full training; measured 3.800 [3.800, 3.800]; "
        "test it with: altformer ablate depth --profile full --set loss=mae_unmasked)",
    ),
    "its data set": ([3.8, 3.81, 3.79], {"dataset": "METR-LA"}, {}, "supported (measured 3.800 ["),
    "another data set": (
        [13.8],
        {"dataset": "METR-LA"},
        {"dataset": "PEMS08"},
        "not testable here (the number is of METR-LA; measured 13.800; test it with: altformer ablate depth "
        "--dataset METR-LA --profile full",
    ),
}


@pytest.mark.parametrize("case", THRESHOLDS)
def test_thresholds(case: str, make_report: Any, make_record: Any) -> None:
    maes, claim, info, expected = THRESHOLDS[case]
    arms = {"a": BASE, "b": trained(make_record, maes)}
    found = verdict(make_report, arms, {"metric": "val_mae_unmasked", "below": 4.0, **claim}, **info)
    assert found.startswith(expected)


def test_the_guides_thresholds_need_its_own_scoring(make_report: Any, make_record: Any) -> None:
    arms = {"a": BASE, "b": trained(make_record, [3.8, 3.8, 3.8], {"training": {"loss": "masked_mae"}})}
    found = verdict(make_report, arms, {"metric": "val_mae_unmasked", "epoch": 10, "below": 4.0})
    assert found == (
        "not testable here (trained with masked_mae; the guide's scoring needs loss: mae_unmasked; measured 3.800 "
        "[3.800, 3.800]; test it with: altformer ablate depth --profile full --set loss=mae_unmasked)"
    )


@pytest.mark.parametrize(
    ("training", "claim", "expected"),
    [
        ({"epochs": 150}, {"epochs": 150}, "supported"),
        ({"epochs": 30}, {"epochs": 150}, "not testable here (trained for 30 epochs; the number is of 150; measured"),
        ({"epochs": 8}, {"epoch": 10}, "not testable here (trained for 8 epochs; the number is of 10; measured"),
        ({"steps_per_epoch": 24}, {"epoch": 10}, "not testable here (steps_per_epoch is set, so that an epoch is no"),
        ({"steps_per_epoch": None}, {"epoch": 10}, "supported"),
    ],
)
def test_thresholds_need_whole_trainings(
    training: Any, claim: Any, expected: str, make_report: Any, make_record: Any
) -> None:
    config = {"training": {"loss": "mae_unmasked", **training}}
    arms = {"a": BASE, "b": trained(make_record, [3.8, 3.81, 3.79], config)}
    found = verdict(make_report, arms, {"metric": "val_mae_unmasked", "below": 4.0, **claim})
    assert found.startswith(expected)


def test_an_arm_with_its_own_loss_is_repeated_with_it(make_report: Any) -> None:
    arms = {"a": BASE, "b": BASE}
    varied = {"arms": {"a": {}, "b": {"loss": "mae_unmasked"}}}
    claim = {"metric": "val_mae_unmasked", "below": 4.0}
    found = verdict(make_report, arms, claim, matrix=varied, profile="quick")
    assert found.endswith("test it with: altformer ablate depth --profile full)")


@pytest.mark.parametrize(
    ("status", "epoch", "expected"),
    [
        ("stopped", None, "not compared: early stopping selected the seeds (measured 3.800 [3.775, 3.825]; no value of "
         "seed 3 (stopped after epoch 4))"),
        ("stopped", 10, "not compared: early stopping selected the seeds (measured"),
        ("stopped", 2, "supported (measured 3.800 ["),
        ("diverged", None, "not compared: 1 of 4 seeds diverged (measured 3.800 [3.775, 3.825]; no value of seed 3 "
         "(diverged after epoch 4))"),
        ("diverged", 2, "not compared: 1 of 4 seeds diverged (measured 3.800 ["),
        ("failed", 10, "supported (measured 3.800 [3.775, 3.825]; no value of seed 3 (failed))"),
        ("not run", None, "supported (measured 3.800 [3.775, 3.825]; no value of seed 3 (not run))"),
    ],
)  # fmt: skip
def test_a_seed_without_a_value_is_named(
    status: str, epoch: int | None, expected: str, make_report: Any, make_record: Any
) -> None:
    records = trained(make_record, [3.8, 3.81, 3.79])
    (last,) = trained(make_record, [3.8], epochs=4)
    left = make_record(3.0, 3, "failed") if status == "failed" else {**last, "seed": 3, "status": status}
    arms = {"a": [*BASE, 3.0], "b": [*records, None if status == "not run" else left]}
    found = verdict(make_report, arms, {"metric": "val_mae_unmasked", "below": 4.0, "epoch": epoch})
    assert found.startswith(expected)


def test_shipped_thresholds_are_of_the_guides_data_set() -> None:
    thresholds = [
        claim
        for matrix in map(load_matrix, PACKAGE.glob("*.yaml"))
        for claim in matrix.claims
        if claim.below is not None
    ]
    assert len(thresholds) == 7 and {claim.dataset for claim in thresholds} == {"METR-LA"}
    assert {claim.epochs for claim in thresholds if claim.epoch is None} == {150}, "converged"
