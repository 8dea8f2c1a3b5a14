"""Which cell of a matrix is promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.promote_command import choose
from altformer.errors import UserError


def test_the_best_seed_of_the_best_arm_by_validation(make_folder: Any) -> None:
    """The test set has no part in it: the arm with the lowest test error is not taken."""
    deceptive = [{"mae": 3.0, "seed": seed, "val": {"all": {"mae": 9.0}, "mae_unmasked": 9.0}} for seed in range(3)]
    folder = make_folder(low=[3.1, 3.4, 3.2], high=[3.5, 3.0, 3.9])
    chosen = choose("rates", folder.parent)
    assert chosen.tags == {"arm": "low", "matrix": "rates"} and chosen.run.record["seed"] == 0
    assert "of 2 arms low has the lowest mean val_mae, 2.983" in chosen.why
    assert choose("rates:high", folder.parent).run.record["seed"] == 1
    assert choose(str(folder), folder.parent).run.hash == chosen.run.hash

    for seed, changes in enumerate(deceptive):
        del changes["seed"]
        changes["mae"] = 1.0 + seed
    folder = make_folder("other", low=[3.1, 3.4, 3.2], high=deceptive)
    assert choose("other", folder.parent).tags["arm"] == "low"


@pytest.mark.parametrize(
    ("name", "high", "arm"), [("rates", [2.0, 2.0, None], "low"), ("rates", [{"status": "stopped"}, 2.0, 2.0], "low")]
)
def test_an_arm_that_is_not_whole_is_not_the_best(name: str, high: Any, arm: str, make_folder: Any) -> None:
    folder = make_folder(low=[3.1, 3.4, 3.2], high=high)
    assert choose(name, folder.parent).tags["arm"] == arm


def test_nothing_done_is_nothing_promoted(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder(low=[3.1, None, None], high=[None, None, None])
    with pytest.raises(UserError, match="no arm has all its seeds done"):
        choose("rates", folder.parent)
    with pytest.raises(UserError, match="the arm 'high' has no cell that is done"):
        choose("rates:high", folder.parent)
    assert choose("rates:low", folder.parent).run.record["seed"] == 0


def test_what_is_not_there_is_named_with_what_is(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder(low=[3.1, 3.4, 3.2], high=[3.5, 3.6, 3.7])
    with pytest.raises(UserError, match="unknown arm 'lw'; did you mean 'low'"):
        choose("rates:lw", folder.parent)
    with pytest.raises(UserError, match=f"unknown run 'nonsense'.* matrices there: {folder.name}"):
        choose("nonsense", folder.parent)
