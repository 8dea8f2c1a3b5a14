"""Claims: each check decided from records with known numbers, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ablations.arms import expand
from ablations.cells import CellResult
from ablations.claims import Claim
from ablations.matrix import Matrix, load_matrix
from ablations.reports.data import build_report
from ablations.reports.facts import RunInfo
from ablations.reports.markdown import markdown
from altformer.errors import UserError

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
WORSE = [3.111, 3.098, 3.102]
SAME = [3.001, 3.009, 2.999]
NEAR = [3.013, 2.994, 3.005]
A_LITTLE_WORSE = [3.016, 3.000, 3.009]


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
    "equal, nothing shown": (
        {"a": BASE, "b": SAME},
        {"equal_to": "a"},
        "no difference shown, nor shown to be equal within ±0.02 (measured +0.000 [",
    ),
    "equal within the margin": (
        {"a": BASE, "b": NEAR},
        {"equal_to": "a"},
        "supported (equal within ±0.02; measured +0.001 [",
    ),
    "equal within the margin, though not the same": (
        {"a": BASE, "b": A_LITTLE_WORSE},
        {"equal_to": "a"},
        "supported (equal within ±0.02; measured +0.005 [+0.004, +0.007])",
    ),
    "equal, but it differs": (
        {"a": BASE, "b": WORSE},
        {"equal_to": "a"},
        "contradicted (measured +0.101 [+0.094, +0.107], not shown to be within ±0.02)",
    ),
    "equal, the same difference on every seed": (
        {"a": BASE, "b": [one + 0.001 for one in BASE]},
        {"equal_to": "a"},
        "not enough seeds (measured +0.001)",
    ),
    "equal, one seed": ({"a": [3.0], "b": [3.0]}, {"equal_to": "a"}, "not enough seeds (measured +0.000)"),
    "an arm that was stopped": (
        {"a": BASE, "b": "stopped"},
        {"is": "worse"},
        "not compared: 1 of 1 seeds stopped early",
    ),
    "an arm that diverged": ({"a": BASE, "b": "diverged"}, {"is": "worse"}, "not compared: 1 of 1 seeds diverged"),
    "equal, the same numbers": ({"a": BASE, "b": BASE}, {"equal_to": "a"}, "supported (the same numbers as a on every"),
    "worse, the same numbers": ({"a": BASE, "b": BASE}, {"is": "worse"}, "contradicted (equal to a on every seed)"),
    "better, the same numbers": ({"a": BASE, "b": BASE}, {"is": "better"}, "contradicted (equal to a on every seed)"),
}


@pytest.mark.parametrize("case", COMPARED)
def test_comparisons(case: str, make_report: Any, make_record: Any) -> None:
    arms, claim, expected = COMPARED[case]
    arms = {name: [make_record(9.0, 0, own)] if isinstance(own, str) else own for name, own in arms.items()}
    assert verdict(make_report, arms, claim).startswith(expected)


MARGINS: dict[str, tuple[list[float], dict[str, Any], str]] = {
    "a narrow margin": (NEAR, {"margin": 0.002}, "no difference shown, nor shown to be equal within ±0.002"),
    "a wide margin": (SAME, {"margin": 0.1}, "supported (equal within ±0.1;"),
    "a wide margin, a difference within": (WORSE, {"margin": 0.2}, "supported (equal within ±0.2; measured +0.101"),
    "one of two looks": (NEAR, {"margin": 0.005, "looks": 2}, "no difference shown, nor shown to be equal"),
    "the only look": (NEAR, {"margin": 0.005}, "supported (equal within ±0.005;"),
}


@pytest.mark.parametrize("case", MARGINS)
def test_equality_is_judged_within_the_margin_of_the_matrix(case: str, make_report: Any) -> None:
    values, matrix, expected = MARGINS[case]
    assert verdict(make_report, {"a": BASE, "b": values}, {"equal_to": "a"}, matrix=matrix).startswith(expected)


def test_equality_of_one_claim_pays_for_no_other_arm(make_report: Any) -> None:
    """Declared claims are tests by themselves: equivalence is shown here, and would not be among nine arms."""
    arms = {"a": BASE, "b": NEAR, **{f"c{place}": SAME for place in range(8)}}
    found = verdict(make_report, arms, {"equal_to": "a"}, matrix={"margin": 0.0065})
    assert found.startswith("supported (equal within ±0.0065;")
    data, _ = make_report(arms, {"margin": 0.0065})
    [comparison] = [arm.comparison for arm in data.arms if arm.name == "b"]
    assert not comparison.equivalent and comparison.p_equivalent > 0.05


def test_every_look_has_its_share_of_alpha_in_claims_too(make_report: Any) -> None:
    """p 0.043: decided at 0.05, not at 0.025."""
    arms = {"a": BASE, "b": [3.110, 3.060, 3.144]}
    claims: list[dict[str, Any]] = [{"equal_to": "a"}, {"arm": "a", "is": "best"}]
    once = [verdict(make_report, arms, claim) for claim in claims]
    twice = [verdict(make_report, arms, claim, matrix={"looks": 2}) for claim in claims]
    assert [found.partition(" (")[0] for found in once] == ["contradicted", "supported"]
    assert all(found.startswith("no difference shown") for found in twice)


TWINS: dict[str, tuple[dict[str, Any], str]] = {
    "as good": (
        {"a": BASE, "b": WORSE, "twin": SAME},
        "supported (measured: place 1 of 2 by the mean, twin left out as the same)",
    ),
    "the same numbers": ({"a": BASE, "b": WORSE, "twin": BASE}, "supported (measured: place 1 of 2"),
    "better": ({"a": BASE, "b": WORSE, "twin": BETTER}, "contradicted (better: twin)"),
    "alone": ({"a": BASE, "twin": SAME}, "not testable here (no numbers of a and another arm)"),
}


@pytest.mark.parametrize("tie", ["claim", "alias"])
@pytest.mark.parametrize("case", TWINS)
def test_the_best_need_not_beat_what_is_claimed_to_be_the_same(case: str, tie: str, make_report: Any) -> None:
    arms, expected = TWINS[case]
    claims: list[dict[str, Any]] = [{"text": "t", "arm": "a", "is": "best"}]
    if tie == "claim":
        claims.append({"text": "t", "arm": "twin", "equal_to": "a"})
    aliases = {"x": {"of": "a", "against": "twin"}} if tie == "alias" else {}
    data, _ = make_report(arms, {"claims": claims, "aliases": aliases})
    assert data.claims[0].verdict.startswith(expected)


@pytest.mark.parametrize(
    "claim", [{"is": "worse"}, {"is": "better"}, {"is": "slower"}, {"equal_to": "a"}, {"arm": "a", "is": "best"}]
)
@pytest.mark.parametrize("who", ["a", "b"])
def test_where_seeds_diverged_nothing_is_decided(who: str, claim: Any, make_report: Any, make_record: Any) -> None:
    diverged = [make_record(3.0, seed, "diverged") for seed in (3, 4)]
    arms = {"a": [*BASE, 3.0, 3.01], "b": [*WORSE, 3.1, 3.11]}
    arms[who] = [*arms[who][:3], *diverged]
    of = "" if who == claim.get("arm", "b") else f" of {who}"
    assert verdict(make_report, arms, claim) == f"not compared: 2 of 5 seeds{of} diverged"


def test_an_alias_names_seeds_that_diverged(make_report: Any, make_record: Any) -> None:
    arms = {"a": [*BASE, 3.0], "b": [*WORSE, make_record(3.0, 3, "diverged")]}
    matrix = {
        "aliases": {"x": {"of": "a", "against": "b"}},
        "claims": [{"text": "t", "arm": "x", "is": "better"}],
    }
    data, _ = make_report(arms, matrix)
    assert data.aliases[0].note == "a against b; b: 1 of 4 seeds diverged"
    assert data.claims[0].verdict == "not compared: 1 of 4 seeds of b diverged"


def test_a_note_stands_after_the_verdict(make_report: Any) -> None:
    found = verdict(make_report, {"a": BASE, "b": SAME}, {"equal_to": "a", "note": "a test holds it exactly"})
    assert found.startswith("no difference shown, nor shown") and found.endswith("); a test holds it exactly")


def test_the_report_says_what_claims_are_judged_by(make_report: Any) -> None:
    matrix = {"objective": "val_rmse", "claims": [{"text": "t", "arm": "b", "is": "worse"}]}
    section = markdown(make_report({"a": BASE, "b": WORSE}, matrix)[0], {}).split("## Claims")[1].split("\n## ")[0]
    assert "*better*, *worse* and *best* are judged by the test RMSE." in section
    assert "its own scoring, which counts missing readings as true" in section


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
        ({"is": "worse", "dataset": "METR-LA"}, "dataset and epochs say for which trainings a number after below"),
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


def test_an_alias_of_an_arm_that_is_left_out_is_left_out_too(make_record: Any) -> None:
    matrix = Matrix.model_validate(
        {
            "name": "m",
            "base": "simulated",
            "arms": {"a": {}, "graph": {"graph_bias": True}},
            "baseline": "a",
            "needs_graph": ["graph"],
            "aliases": {"x": {"of": "graph", "against": "a"}, "y": {"of": "a", "against": "graph"}},
            "claims": [{"text": "t", "arm": name, "is": "worse"} for name in ("graph", "x", "y")],
        }
    )
    arms = [arm for arm in expand(matrix) if arm.name == "a"]
    results = [CellResult("a", seed, "0" * 16, make_record(mae, seed)) for seed, mae in enumerate(BASE)]
    data = build_report(matrix, arms, results, RunInfo("PEMS08", "full", "c"))
    assert data.aliases == ()
    assert {claim.verdict for claim in data.claims} == {"not testable here (the arm is left out on this data set)"}


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
