"""Asking and telling: the same answers lead to the same questions."""

from __future__ import annotations

import math
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from ablations.tuning.search import Dimension, Result, TpeSearch, label
from altformer.errors import UserError

pytest.importorskip("optuna")

DIMENSION = TypeAdapter(Dimension)
SPACE = {
    "lr": DIMENSION.validate_python({"type": "loguniform", "low": 1e-4, "high": 2e-3}),
    "embed_dim": DIMENSION.validate_python({"type": "choice", "values": [64, 96, 128]}),
    "dropout": DIMENSION.validate_python({"type": "uniform", "low": 0.1, "high": 0.3, "step": 0.01}),
}


def objective(settings):
    return abs(math.log(settings["lr"] / 6e-4)) + settings["dropout"] + abs(settings["embed_dim"] - 96) / 96


def answer(place, settings):
    """Of every four one has diverged and one was stopped."""
    if place % 4 == 1:
        return Result("diverged", None, 0)
    status = "stopped" if place % 4 == 2 else "done"
    return Result(status, objective(settings) + (status == "stopped"), 3)


def searched(rounds, seed=0, answers=answer):
    search = TpeSearch(SPACE, seed, startup=4)
    asked = []
    for _ in range(rounds):
        proposals = search.ask(4)
        asked += [proposal.settings for proposal in proposals]
        for place, proposal in enumerate(proposals):
            search.tell(proposal, answers(place, proposal.settings))
    return asked


def test_a_restarted_search_asks_the_same_and_goes_on():
    before = searched(3)
    assert searched(6)[:12] == before


def test_seed_and_answers_decide_what_is_asked():
    first = searched(6)
    assert searched(6, seed=1) != first
    others = searched(6, answers=lambda place, settings: Result("done", -objective(settings), 3))
    assert others[:4] == first[:4], "nothing has been answered before the first round"
    assert others != first


def test_proposals_lie_in_the_space_in_few_digits():
    for settings in searched(6):
        assert 1e-4 <= settings["lr"] <= 2e-3 and float(f"{settings['lr']:.3g}") == settings["lr"]
        assert settings["embed_dim"] in (64, 96, 128)
        assert 0.1 <= settings["dropout"] <= 0.3 and round(settings["dropout"], 2) == settings["dropout"]


def test_the_search_turns_away_from_what_diverges():
    """Told as failed it would be forgotten; here every rate above 4e-4 diverges."""
    bad = 4e-4

    def answers(place, settings):
        return Result("diverged", None, 0) if settings["lr"] > bad else Result("done", objective(settings), 3)

    rates = [settings["lr"] for settings in searched(12, answers=answers)]
    share = [sum(rate > bad for rate in part) / len(part) for part in (rates[:12], rates[24:])]
    assert share[1] < share[0]


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"type": "loguniform", "low": 0, "high": 1}, "greater than 0"),
        ({"type": "loguniform", "low": 2, "high": 1}, "low must be below high"),
        ({"type": "uniform", "low": 1, "high": 1}, "low must be below high"),
        ({"type": "uniform", "low": 0, "high": 1, "step": 0}, "greater than 0"),
        ({"type": "choice", "values": []}, "at least 1 item"),
        ({"type": "normal", "low": 0}, "does not match any of the expected tags"),
    ],
)
def test_a_dimension_that_is_none_is_refused(dimension, message):
    with pytest.raises(ValidationError, match=message):
        DIMENSION.validate_python(dimension)


def test_without_optuna_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'altformer\[optuna\]'.*--sampler grid"):
        TpeSearch(SPACE, 0)


def test_labels_name_the_values():
    assert label({"training.lr": 0.0005, "embed_dim": 96}) == "lr=0.0005,embed_dim=96"
