"""Claims: each check decided from records with known numbers, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ablations.arms import expand
from ablations.claims import Claim
from ablations.matrix import Matrix, load_matrix
from ablations.report import markdown
from altformer.errors import UserError

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
WORSE = [3.111, 3.098, 3.102]
SAME = [3.001, 3.009, 2.999]
UNMASKED = {"training": {"loss": "mae_unmasked"}}


def verdict(make_report: Any, arms: dict[str, Any], claim: dict[str, Any], **info: Any) -> str:
    data, _ = make_report(
        arms, {"claims": [{"text": "it is so", "arm": "b", **claim}], **info.pop("matrix", {})}, **info
    )
    (judged,) = data.claims
    assert (judged.text, judged.arm) == ("it is so", claim.get("arm", "b"))
    assert judged.verdict.replace("\n", " ") in " ".join(markdown(data, {}).replace("\\", "").split())
    return str(judged.verdict)


COMPARED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "worse, and it is": ({"a": BASE, "b": WORSE}, {"is": "worse"}, r"supported (measured +0.101 ["),
    "worse, but it is better": ({"a": BASE, "b": BETTER}, {"is": "worse"}, "contradicted (measured -0.059 ["),
    "better, and it is": ({"a": BASE, "b": BETTER}, {"is": "better"}, "supported (measured -0.059 ["),
    "worse, but nothing is shown": ({"a": BASE, "b": SAME}, {"is": "worse"}, "no difference shown (measured +0.000 ["),
    "worse, one seed": ({"a": BASE[:1], "b": WORSE[:1]}, {"is": "worse"}, "not enough seeds (measured +0.101)"),
    "worse, not run": ({"a": BASE, "b": [None]}, {"is": "worse"}, "not testable here (no numbers of both b and a)"),
    "best, the baseline": ({"a": BASE, "b": WORSE}, {"arm": "a", "is": "best"}, "supported (measured: place 1 of 2"),
    "best, one is better": (
        {"a": BASE, "b": WORSE, "c": BETTER},
        {"arm": "a", "is": "best"},
        "contradicted (better: c)",
    ),
    "best, one is as good": (
        {"a": BASE, "b": WORSE, "c": SAME},
        {"arm": "a", "is": "best"},
        "no difference shown (to c; measured: place",
    ),
    "best, one seed": (
        {"a": [3.0], "b": [2.9]},
        {"arm": "a", "is": "best"},
        "not enough seeds (measured: place 2 of 2",
    ),
    "best, not the baseline": ({"a": BASE, "b": BETTER}, {"is": "best"}, "supported (measured: place 1 of 2"),
    "equal, nothing shown": ({"a": BASE, "b": SAME}, {"equal_to": "a"}, "no difference shown (measured +0.000 ["),
    "equal, but it differs": ({"a": BASE, "b": WORSE}, {"equal_to": "a"}, "contradicted (measured +0.101 ["),
    "equal, one seed": ({"a": [3.0], "b": [3.0]}, {"equal_to": "a"}, "not enough seeds (measured +0.000)"),
    "an arm that diverged": ({"a": BASE, "b": "diverged"}, {"is": "worse"}, "not testable here (no numbers of both"),
}


@pytest.mark.parametrize("case", COMPARED)
def test_comparisons(case: str, make_report: Any, make_record: Any) -> None:
    arms, claim, expected = COMPARED[case]
    arms = {name: [make_record(9.0, 0, own)] if isinstance(own, str) else own for name, own in arms.items()}
    assert verdict(make_report, arms, claim).startswith(expected)


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
    "quick": ([3.8] * 3, {"epoch": 10}, {"profile": "quick"}, "not testable here (quick profile"),
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
    assert found == "not testable here (trained with masked_mae; the guide's scoring needs loss: mae_unmasked)"


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ({"parameters_fewer": 0.4}, "supported (measured 36 % fewer in the full profile: 640 of 1,000)"),
        ({"parameters_fewer": 0.5}, "contradicted (measured 36 % fewer"),
        ({"parameters": [600, 700]}, "supported (measured 640 in the full profile)"),
        ({"parameters": [100, 600]}, "contradicted (measured 640"),
    ],
)
def test_parameters_are_those_of_the_full_profile(claim: Any, expected: str, make_report: Any) -> None:
    arms = {"a": [3.0], "b": [2.9]}
    counted = {"claimed_params": {"a": 1000, "b": 640}, "profile": "quick"}
    assert verdict(make_report, arms, claim, **counted).startswith(expected)
    assert verdict(make_report, arms, claim) == "not testable here (parameters not counted)"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([300.0, 301.0, 302.0], "supported (measured +101 % seconds an epoch)"),
        ([75.0, 74.0, 73.0], "contradicted (measured -51 %"),
        ([300.0], "not enough seeds (measured +100 %"),
    ],
)
def test_slower(seconds: list[float], expected: str, make_report: Any, make_record: Any) -> None:
    own = [make_record(3.0, seed, train_seconds=time) for seed, time in enumerate(seconds)]
    assert verdict(make_report, {"a": BASE, "b": own}, {"is": "slower"}).startswith(expected)


def test_an_alias_has_the_numbers_of_one_arm_against_another(make_report: Any) -> None:
    arms = {"phase1": BETTER, "stepwise": BASE, "c": WORSE}
    matrix = {
        "aliases": {"batched": {"of": "phase1", "against": "stepwise"}},
        "claims": [{"text": "destroys locality", "arm": "batched", "is": "worse"}],
    }
    data, _ = make_report(arms, matrix)
    (row,) = data.aliases
    assert row.metrics["test_mae"].mean == pytest.approx(sum(BETTER) / 3) and not row.is_baseline
    assert row.comparison.difference == pytest.approx(-0.0587, abs=1e-3) and row.verdict == "better"
    assert data.claims[0].verdict.startswith("contradicted (measured -0.059")
    lines = [line for line in markdown(data, {}).splitlines() if line.startswith("| batched ")]
    assert lines and "phase1 against stepwise" in lines[0]
    alone, _ = make_report(arms)
    assert [arm.comparison for arm in data.arms] == [arm.comparison for arm in alone.arms], "Holm's arms are the same"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "exactly one of is, equal_to, parameters_fewer, parameters, below; it has none"),
        ({"is": "worse", "equal_to": "a"}, "it has is, equal_to"),
        ({"below": 4.0}, "below, metric and epoch go together"),
        ({"is": "worse", "epoch": 3}, "go together"),
        ({"is": "bad"}, "Input should be"),
    ],
)
def test_a_claim_has_one_check(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Claim.model_validate({"text": "t", "arm": "a", **keys})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("claims: [{text: t, arm: aa, is: worse}]", "unknown arm of a claim 'aa'; did you mean 'a'"),
        ("claims: [{text: t, arm: a, equal_to: bb}]", "unknown arm of a claim 'bb'; did you mean 'b'"),
        ("aliases: {x: {of: a, against: bb}}", r"m\.yaml:5: unknown arm 'bb'; did you mean 'b'"),
        ("aliases: {a: {of: a, against: b}}", "'a' is an arm already"),
        ("published: {METR-LA: {STID: {arm: bb, 3: 1.0}}}", r"m\.yaml:5: unknown arm 'bb'"),
    ],
)
def test_names_of_arms_are_checked(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"name: m\nbase: simulated\narms: {{a: {{}}, b: {{lr: 0.1}}}}\nbaseline: a\n{text}\n")
    with pytest.raises(UserError, match=expected):
        expand(load_matrix(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("claims:\n  - {text: t, arm: a, iz: worse}", "did you mean 'is'"),
        ("aliases: {x: {off_: a, against: a}}", "did you mean 'of'"),
        ("published: {METR-LA: {STID: {arm: a, step 3: 2.8}}}", "steps ahead such as 3; 'step 3' is none"),
        ("published: {METR-LA: {STID: {arm: a, 3: fast}}}", "number"),
    ],
)
def test_mistakes_are_named(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"name: m\nbase: simulated\narms: {{a: {{}}}}\nbaseline: a\n{text}\n")
    with pytest.raises(UserError, match=expected):
        load_matrix(path)


def test_published_numbers_stand_beside_ours(make_report: Any) -> None:
    published = {
        "METR-LA": {"STID": {"arm": "b", "3": 2.8, "all": 3.11, "rmse": 6.2, "parameters": "118 k"}},
        "PEMS08": {"other": {"arm": "a", "all": 14.13}},
    }
    data, _ = make_report({"a": BASE, "b": BETTER}, {"published": published}, profile="quick")
    section = markdown(data, {}).split("## Beside the published numbers")[1].split("\n## ")[0]
    theirs, ours = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "STID" in line]
    assert theirs == ["STID", "published", "2.80", "-", "-", "3.11", "6.20", "-", "118 k"]
    assert ours[:2] == ["STID", "ours, arm b"] and ours[5] == "2.94 ± 0.01" and ours[-1] == "1,100,000"
    assert "other" not in section and "not comparable with published numbers" in section
    without, _ = make_report({"a": BASE, "b": BETTER}, {"published": published}, dataset="PEMS04")
    assert "Beside the published" not in markdown(without, {})


def test_a_changed_matrix_keeps_its_claims() -> None:
    matrix = Matrix.model_validate(
        {
            "name": "m",
            "base": "b",
            "arms": {"a": {}},
            "claims": [{"text": "t", "arm": "a", "is": "best"}],
            "published": {"METR-LA": {"STID": {"arm": "a", 3: 2.8}}},
        }
    )
    changed = matrix.changed({"scheduler": "asha"})
    assert changed.claims == matrix.claims and changed.published == matrix.published
    assert changed.published["METR-LA"]["STID"].mae("3") == 2.8
