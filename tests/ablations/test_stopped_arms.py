"""Arms that early stopping ended: where they stood is said, and nothing else is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ablations.cells import CellResult
from ablations.matrix import Matrix
from ablations.reports.markdown import markdown
from ablations.stopped_arms import epochs_saved, scheduler_text, stopped_arm

BASE = [3.010, 2.995, 3.004]
RULE = {"type": "futility", "rungs": [0.25, 0.5], "margin": 0.02, "alpha": 0.05}
FUTILITY = {"scheduler": {"type": "futility"}}
PLANNED = {"training": {"epochs": 30}}


def results(records: list[Any], arm: str = "b") -> list[CellResult]:
    return [CellResult(arm, seed, f"{arm}{seed}", record) for seed, record in enumerate(records)]


def best(record: Any, epochs: int) -> float:
    return float(min(epoch["val_mae"] for epoch in record["curve"][:epochs]))


def test_the_difference_is_of_the_best_so_far_at_the_epoch_it_was_stopped(make_report: Any, make_record: Any) -> None:
    stopped = [make_record(3.4, seed, "stopped", 8, stopped_by=RULE) for seed in range(3)]
    data, found = make_report({"a": BASE, "b": stopped}, FUTILITY, unit="mph")
    baseline = [result.record for result in found if result.arm == "a"]
    pairs = [best(mine, 8) - best(theirs, 8) for mine, theirs in zip(stopped, baseline, strict=True)]
    arm = data.arms[1]
    assert arm.stopped is not None and arm.comparison is None
    assert (arm.stopped.epoch, arm.stopped.seeds) == (8, (0, 1, 2))
    assert arm.stopped.difference == pytest.approx(np.mean(pairs))
    assert arm.verdict == "stopped at epoch 8"
    assert arm.note == f"3 of 3 seeds stopped; {np.mean(pairs):+.3f} mph in validation MAE by then; not compared"
    assert not any(summary.n for summary in arm.metrics.values())
    section = markdown(data, {}).split("## Arms that were stopped")[1].split("\n## ")[0]
    assert f"| b | 8 | 3 | {arm.stopped.value:.3f} | {arm.stopped.baseline:.3f} | {np.mean(pairs):+.3f} |" in section
    assert f"stopped at epoch 8: b ({np.mean(pairs):+.3f} mph in validation by then)" in data.summary
    assert "It stopped 3 cells of 6, of 1 arm" in data.scheduler


@pytest.mark.parametrize("status", ["failed", "diverged", "not run"])
def test_seeds_that_came_to_grief_have_no_part_in_it(status: str, make_record: Any) -> None:
    stopped = [make_record(3.4, seed, "stopped", 8) for seed in range(2)]
    lost = None if status == "not run" else make_record(9.0, 2, status, 7)
    base = [make_record(mae, seed) for seed, mae in enumerate(BASE)]
    found = stopped_arm(results([*stopped, lost]), results(base, "a"), "val_mae")
    assert found is not None and found.seeds == (0, 1)
    lost_base = [base[0], lost, base[2]]
    found = stopped_arm(results(stopped), results(lost_base, "a"), "val_mae")
    assert found is not None and found.seeds == (0,)


def test_a_baselines_seed_that_diverged_later_has_its_part_in_it(make_record: Any) -> None:
    """As for the rule: the baseline goes on while arms wait, so what becomes of it depends on who arrived when."""
    stopped = [make_record(3.4, seed, "stopped", 8) for seed in range(3)]
    base = [*(make_record(mae, seed) for seed, mae in enumerate(BASE[:2])), make_record(9.0, 2, "diverged", 9)]
    found = stopped_arm(results(stopped), results(base, "a"), "val_mae")
    assert found is not None and found.seeds == (0, 1, 2)


def test_cells_stopped_at_several_epochs_are_compared_at_the_first(make_record: Any) -> None:
    cells = results([make_record(3.4, 0, "stopped", 9), make_record(3.4, 1, "stopped", 3), make_record(3.4, 2)])
    base = results([make_record(3.0, 0, "stopped", 2), *(make_record(3.0, seed) for seed in (1, 2))], "a")
    found = stopped_arm(cells, base, "val_mae")
    assert found is not None and found.where == "stopped at epochs 3 to 9"
    assert found.seeds == (1, 2), "the baseline's first cell has not got so far"
    assert found.value == pytest.approx(np.mean([best(cells[seed].record, 3) for seed in (1, 2)]))


def test_without_numbers_there_is_no_difference(make_record: Any) -> None:
    cells = results([make_record(3.4, 0, "stopped", 3)])
    for baseline in (None, [], results([None], "a")):
        found = stopped_arm(cells, baseline, "val_mae")
        assert found is not None and found.difference is None and found.value is None
    missing = stopped_arm(cells, results([make_record(3.0)], "a"), "val_rmse")
    assert missing is not None and missing.difference is None
    assert stopped_arm(results([make_record(3.4)]), None, "val_mae") is None


def test_what_was_saved_is_a_share_of_all_planned_epochs(make_record: Any) -> None:
    stopped = make_record(3.4, 0, "stopped", 9, config=PLANNED)
    done = make_record(3.0, 1, "done", 20, config=PLANNED)  # ended by itself: nobody's saving
    assert epochs_saved(results([stopped, done])) == pytest.approx(21 / 60)
    assert epochs_saved(results([stopped, done, None])) == pytest.approx(21 / 90)
    assert epochs_saved(results([None])) is None


def test_the_rule_is_named_with_what_it_did(make_record: Any) -> None:
    def matrix(scheduler: Any) -> Matrix:
        values = {"name": "x", "base": "b", "arms": {"a": {}, "b": {}}, "baseline": "a", "scheduler": scheduler}
        return Matrix.model_validate(values | ({"kind": "search"} if scheduler == "asha" else {}))

    stopped = results([make_record(3.4, seed, "stopped", 6, config=PLANNED) for seed in range(2)])
    text = scheduler_text(matrix("futility"), "full", [*stopped, *results([make_record(3.0, config=PLANNED)], "a")])
    assert text.startswith("futility on val_mae (margin 0.02, alpha 0.05 over 2 rungs, at 25 and 50 % of the epochs: ")
    assert "of the epochs: after epochs 8 and 15)" in text
    assert "docs/early-stopping.md" in text
    assert text.endswith("It stopped 2 cells of 3, of 1 arm, which saved about 53 % of the epochs planned.")
    assert scheduler_text(matrix("futility"), "full", []).endswith("It stopped no cell.")
    few = results([make_record(3.0, seed, config={"training": {"epochs": 2}}) for seed in range(3)], "a")
    assert "alpha 0.05 over 1 rung, at 25 and 50 % of the epochs: after epoch 1)" in scheduler_text(
        matrix("futility"), "quick", few
    )
    one = results([make_record(3.0, seed, config={"training": {"epochs": 1}}) for seed in range(3)], "a")
    assert scheduler_text(matrix("futility"), "quick", one) == (
        "futility on val_mae, but in 1 epoch there is no rung before the last: every cell ran to its own end, as with "
        "none."
    )
    assert "with fewer than 3 seeds it stops nothing" in scheduler_text(matrix("futility"), "quick", few[:2])
    assert scheduler_text(matrix("asha"), "full", stopped).startswith("asha on val_mae by epoch (grace period 10")
    assert scheduler_text(matrix("none"), "full", []).startswith("none: every cell runs to its own end")


def test_warnings_tell_a_search_from_a_comparison(make_report: Any, make_record: Any) -> None:
    stopped = [make_record(3.4, seed, "stopped", 8, stopped_by=RULE) for seed in range(3)]
    data, _ = make_report({"a": BASE, "b": stopped}, FUTILITY)
    (warning,) = data.warnings
    assert warning == "The rule futility stopped 3 of 6 cells early: their arms are neither averaged nor compared."
