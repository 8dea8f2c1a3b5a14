"""Seeds that are trained together end as each of them does alone, but for rounding."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from altformer.config import Config
from altformer.errors import UserError
from altformer.fit_check import check_fit
from altformer.train import train
from altformer.training import run
from altformer.training.checkpoint import best_checkpoint
from altformer.training.context import BareContext
from altformer.training.loss import LOSSES, Loss, absolute
from altformer.training.together import AT_ONCE, Member, check_together, train_together

TIMES = {"epoch_seconds", "samples_per_second"}


class Leaving(BareContext):
    """Leaves after an epoch, or in the middle of one, to go on later; remembers the epochs."""

    def __init__(self, after=0, at_step=None):
        super().__init__()
        self.after, self.at_step, self.epochs, self.steps = after, at_step, [], 0

    def report(self, metrics):
        self.epochs.append(int(metrics["epoch"]))

    def should_stop(self):
        return "preempted" if self.epochs[-1:] == [self.after] else None

    def progress(self, epoch, step, steps):
        self.steps += 1

    def leave_now(self):
        return self.steps == self.at_step


def configured(config, model=(), training=(), seed=0):
    values = config.model_dump()
    values["model"] |= dict(model)
    values["training"] |= dict(training)
    values["dataset"] |= {"val_stride": 3, "test_stride": 6}
    return Config.model_validate(values | {"seed": seed})


def seeds_of(config, seeds):
    return [config.model_copy(update={"seed": seed}) for seed in seeds]


def together(config, traffic, folder, seeds=(0, 1, 2), contexts=None):
    members = [
        Member(one, context, folder / str(one.seed))
        for one, context in zip(seeds_of(config, seeds), contexts or [BareContext() for _ in seeds], strict=True)
    ]
    found = dict(train_together(members, traffic))
    return {seed: found[number] for number, seed in enumerate(seeds)}


def alone(config, traffic, folder, seeds=(0, 1, 2)):
    return {one.seed: train(one, traffic, BareContext(), folder / str(one.seed)) for one in seeds_of(config, seeds)}


def assert_equal(found, expected, rel=1e-4):
    assert found.keys() == expected.keys()
    for seed, result in found.items():
        other = expected[seed]
        assert (result.status, result.epochs, result.best_epoch) == (other.status, other.epochs, other.best_epoch)
        for ours, theirs in zip(result.curve, other.curve, strict=True):
            assert ours.keys() - {AT_ONCE} == theirs.keys() - {AT_ONCE}
            for name in ours.keys() - TIMES - {AT_ONCE}:
                assert ours[name] == pytest.approx(theirs[name], rel=rel), (seed, ours["epoch"], name)
        if result.test is None:
            assert other.test is None
        else:
            assert result.test["all"] == pytest.approx(other.test["all"], rel=rel)


SMALL = {"dropout": 0.2, "fusion_dropout": 0.2}
MODELS = {
    "phase 1": SMALL,
    "learned positions": {"positional_encoding_type": "learnable", "use_sensor_identity": False},
    "relative positions": {"positional_encoding_type": "relative", "max_relative_position": 3, "patch_len": 2},
    "rotary positions, stages shared": {"positional_encoding_type": "rotary", "share_stages": True},
    "no tables": {"use_sensor_identity": False, "use_adaptive": False, "use_time_of_day": False},
    "nothing but readings": {
        "use_sensor_identity": False,
        "use_adaptive": False,
        "use_time_of_day": False,
        "use_day_of_week": False,
        "use_positional_encoding": False,
    },
    "earlier stages": {"num_stages": 3, "cross_stage_attention": True, "stage_skip": "concat", "patch_len": 3},
    "pyramid": {"patch_sizes": (1, 2), "stage_skip": "add"},
    "concat": {"fusion_type": "concat", "stochastic_depth_rate": 0.3},
    "cross attention": {"fusion_type": "cross_attn", "fusion_heads": 2, **SMALL},
    "gated residual": {"fusion_type": "gated_residual", "encoder_order": "parallel"},
    "adaptive": {"fusion_type": "adaptive"},
    "an encoder left out": {"temporal_depth_2": 0},
    "fixed weights": {"fusion_type": "adaptive", "learnable_weights": False, "spatial_impl": "stepwise"},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_variant_ends_as_it_does_alone(tiny, traffic, tmp_path, name):
    config = configured(tiny, MODELS[name], {"epochs": 1, "steps_per_epoch": 4})
    seeds = (0, 3)
    found = together(config, traffic, tmp_path / "together", seeds)
    assert_equal(found, alone(config, traffic, tmp_path / "alone", seeds))
    assert found[0].test != found[3].test


TRAININGS = {
    "constant": {},
    "everything random": {
        "gradient_accumulation_steps": 2,
        "batch_size": 8,
        "label_smoothing": 0.1,
        "mixup_alpha": 0.2,
        "cutmix_prob": 0.5,
        "augmentation": {"noise_std": 0.01, "mask_ratio": 0.1, "temporal_shift": 2},
    },
    "curriculum": {"horizon_curriculum": 2},
    "average": {"ema_decay": 0.6, "loss": "huber"},
    "rates by part": {"optimizer": {"lr_groups": {"encoder": 1e-3, "decoder": 2e-3, "head": 3e-3}}},
    "Adam, clipped": {"optimizer": "Adam", "clip_norm": 0.05, "loss": "mae_unmasked", "scheduler": "OneCycleLR"},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_every_kind_of_training_ends_as_it_does_alone(tiny, traffic, tmp_path, name):
    config = configured(tiny, SMALL, {**TRAININGS[name], "epochs": 2})
    expected = alone(config, traffic, tmp_path / "alone")
    assert_equal(together(config, traffic, tmp_path / "together"), expected)


@pytest.mark.parametrize("model", [{"type": "mlp", "hidden_dim": 8, "dropout": 0.2}, {"type": "dlinear"}])
def test_baselines_of_linear_maps_can_be_trained_together_too(tiny, traffic, tmp_path, model):
    values = configured(tiny).model_dump() | {"model": model}
    config = Config.model_validate(values)
    expected = alone(config, traffic, tmp_path / "alone")
    assert_equal(together(config, traffic, tmp_path / "together"), expected)


def test_weights_and_moments_after_some_steps_are_those_of_separate_training(tiny, traffic, tmp_path):
    config = configured(tiny, SMALL, {"epochs": 1, "ema_decay": 0.5})
    together(config, traffic, tmp_path / "together", (0, 4))
    alone(config, traffic, tmp_path / "alone", (0, 4))
    compared = weights = 0
    for seed in ("0", "4"):
        ours, theirs = (saved(tmp_path / way / seed) for way in ("together", "alone"))
        assert ours.keys() == theirs.keys()
        for name, (average, weight, first, second) in ours.items():
            other_average, other_weight, other_first, other_second = theirs[name]
            torch.testing.assert_close(first, other_first, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(second, other_second, rtol=1e-3, atol=1e-9)
            moved = other_second.sqrt() > 1e-5  # by more than rounding, as a key's bias is not, and Adam moves it too
            compared += int(moved.sum())
            weights += moved.numel()
            torch.testing.assert_close(weight[moved], other_weight[moved], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(average[moved], other_average[moved], rtol=1e-3, atol=1e-5)
    assert compared > weights / 2
    sizes = [(best_checkpoint(tmp_path / way / "4") / "state.pt").stat().st_size for way in ("together", "alone")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02), "each keeps its own moments, not those of all"


def saved(folder):
    """By name, what the best checkpoint has of each weight: average, weight, first and second moment."""
    path = best_checkpoint(folder)
    state = torch.load(path / "state.pt", weights_only=True)
    averages, moments = load_file(path / "model.safetensors"), state["optimizer"]["parts"][0]["state"].values()
    return {
        name: (averages[name], weight, moment["exp_avg"], moment["exp_avg_sq"])
        for (name, weight), moment in zip(state["weights"].items(), moments, strict=True)
    }


def test_in_bf16_they_differ_by_its_rounding(tiny, traffic, tmp_path):
    config = configured(tiny, SMALL, {"precision": "bf16", "epochs": 1})
    assert_equal(together(config, traffic, tmp_path / "t"), alone(config, traffic, tmp_path / "a"), rel=0.02)


def test_the_others_do_not_matter(tiny, traffic, tmp_path):
    config = configured(tiny, SMALL)
    three = together(config, traffic, tmp_path / "three", (0, 1, 2))
    two = together(config, traffic, tmp_path / "two", (2, 0))
    assert_equal(two, {seed: three[seed] for seed in (2, 0)})


def test_one_that_diverges_harms_no_other(tiny, traffic, tmp_path, monkeypatch):
    calls = []

    def poisoned(forecast, target):
        calls.append(1)
        return absolute(forecast, target) * (math.nan if len(calls) == 3 * 6 + 2 else 1)  # seed 1, in epoch 2

    config = configured(tiny, SMALL)
    expected = alone(config, traffic, tmp_path / "alone")
    monkeypatch.setitem(LOSSES, "masked_mae", Loss(poisoned))
    found = together(config, traffic, tmp_path / "together")
    assert (found[1].status, found[1].epochs, found[1].test) == ("diverged", 1, None)
    assert_equal({seed: found[seed] for seed in (0, 2)}, {seed: expected[seed] for seed in (0, 2)})


def test_each_has_its_own_patience_and_best_epoch(tiny, traffic, tmp_path):
    config = configured(tiny, SMALL, {"epochs": 10, "patience": 1, "lr": 0.01, "steps_per_epoch": 2})
    expected = alone(config, traffic, tmp_path / "alone")
    assert len({result.epochs for result in expected.values()}) == 3, "the test needs seeds that end at different times"
    assert_equal(together(config, traffic, tmp_path / "together"), expected, rel=1e-3)


@pytest.mark.parametrize("others", ["together", "alone"])
def test_what_was_left_goes_on_either_way(tiny, traffic, tmp_path, others):
    """One seed after an epoch, one in the middle of the next: those behind catch up, then all go on at once."""
    config = configured(tiny, SMALL, {"ema_decay": 0.5})
    expected = alone(config, traffic, tmp_path / "alone")
    folder = tmp_path / "left"
    if others == "together":
        left = together(config, traffic, folder, contexts=[Leaving(after=1), Leaving(after=2), Leaving(after=1)])
        assert [result.status for result in left.values()] == ["interrupted"] * 3
        assert_equal(alone(config, traffic, folder), expected)
    else:
        for seed, context in ((0, Leaving(after=1)), (1, Leaving(at_step=7))):
            train(seeds_of(config, [seed])[0], traffic, context, folder / str(seed))
        assert (folder / "1" / "checkpoints" / "part-0002").is_dir()
        contexts = [Leaving() for _ in range(3)]
        assert_equal(together(config, traffic, folder, contexts=contexts), expected)
        assert [context.epochs for context in contexts] == [[2, 3], [2, 3], [1, 2, 3]]


@pytest.mark.parametrize("left", [{"after": 1}, {"at_step": 8}])
def test_left_together_they_go_on_together_to_the_bit(tiny, traffic, tmp_path, left):
    """After an epoch, or in the middle of the second, with its random numbers."""
    config = configured(tiny, SMALL, {**TRAININGS["everything random"], "ema_decay": 0.5, "epochs": 2})
    expected = together(config, traffic, tmp_path / "whole")
    folder = tmp_path / "left"
    found = together(config, traffic, folder, contexts=[Leaving(**left), *(Leaving(**left) for _ in range(2))])
    assert [result.status for result in found.values()] == ["interrupted"] * 3
    assert (folder / "2" / "checkpoints" / "part-0002").is_dir() == ("at_step" in left)
    for seed, result in together(config, traffic, folder).items():
        assert result.test == expected[seed].test and result.val == expected[seed].val
        assert [epoch["train_loss"] for epoch in result.curve] == [
            epoch["train_loss"] for epoch in expected[seed].curve
        ]


def test_one_that_has_to_leave_between_steps_takes_the_others_along(tiny, traffic, tmp_path):
    config = configured(tiny, SMALL)
    contexts = [BareContext(), Leaving(at_step=3), BareContext()]
    found = together(config, traffic, tmp_path, contexts=contexts)
    assert [(result.status, result.epochs) for result in found.values()] == [("interrupted", 0)] * 3
    assert_equal(together(config, traffic, tmp_path), alone(config, traffic, tmp_path / "alone"))


def test_what_concerns_a_seed_happens_in_its_scope_and_results_come_as_they_end(tiny, traffic, tmp_path, monkeypatch):
    inside, scored = [], []

    def scope_of(seed):
        @contextmanager
        def scope():
            inside.append(seed)
            yield
            inside.pop()

        return scope

    score = run.score
    monkeypatch.setattr(run, "score", lambda *args: scored.append((args[2], *inside)) or score(*args))
    config = configured(tiny, training={"epochs": 1})
    members = [
        Member(one, BareContext(), tmp_path / str(one.seed), scope_of(one.seed)) for one in seeds_of(config, (5, 6))
    ]
    for number, _ in train_together(members, traffic):
        assert not inside and scored[-1] == ("test", 5 + number)
    assert scored == [("val", 5), ("val", 6), ("test", 5), ("test", 6)]


def test_times_are_shares_so_that_they_add_up(tiny, traffic, tmp_path):
    began = run.time.perf_counter()
    found = together(configured(tiny), traffic, tmp_path)
    whole = run.time.perf_counter() - began
    assert 0 < sum(result.train_seconds for result in found.values()) < whole
    assert all(before["epoch"] < after["epoch"] for before, after in pairwise(found[0].curve))


def refused(config, **changes):
    return Config.model_validate(config.model_dump() | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"compile": True}}, "training.compile is on"),
        ({"training": {"distillation": {"teacher": "0" * 16}}}, "training.distillation has a teacher"),
        ({"training": {"optimizer": "Muon"}}, "Muon looks at each matrix as a whole"),
        ({"model": {"type": "copy_last"}}, "copy_last has no weights to train"),
        ({"model": {"type": "historical_average"}}, "historical_average has no weights to train"),
        ({"model": {"type": "graph_wavenet"}}, "GraphWaveNet"),
        ({"model": {"type": "stid"}}, "Stid"),
        ({"model": {"type": "own", "class_path": "torch.nn:Linear", "options": {}}}, "model.class is your own code"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(tiny, traffic, changes, message):
    config = refused(tiny, **changes)
    model = nn.Linear(2, 2) if config.model.type == "own" else check_fit(config, traffic)
    with pytest.raises(UserError, match=f"cannot be trained together.*{message}.*with --seed"):
        check_together(config, model)


def test_other_configurations_are_no_seeds(tiny, traffic, tmp_path):
    members = [
        Member(configured(tiny, training={"lr": lr}, seed=seed), BareContext(), tmp_path)
        for seed, lr in ((0, 1), (1, 2))
    ]
    with pytest.raises(ValueError, match="seeds of one configuration"):
        next(train_together(members, traffic))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("model", "training", "rel"),
    [
        (SMALL, TRAININGS["everything random"], 2e-3),
        ({**SMALL, "stochastic_depth_rate": 0.2}, {"ema_decay": 0.5, "scheduler": "OneCycleLR"}, 2e-3),
        ({**SMALL, "stochastic_depth_rate": 0.2}, {"ema_decay": 0.5, "precision": "bf16"}, 0.03),
        (MODELS["relative positions"], {}, 2e-3),
    ],
)
def test_on_a_gpu_they_end_as_they_do_alone(tiny, traffic, tmp_path, model, training, rel):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    config = configured(tiny, model, {**training, "epochs": 2})
    seeds = seeds_of(config, (0, 1, 2))
    members = [Member(one, BareContext("cuda"), tmp_path / "together" / str(one.seed)) for one in seeds]
    found = dict(train_together(members, traffic))
    expected = {one.seed: train(one, traffic, BareContext("cuda"), tmp_path / str(one.seed)) for one in seeds}
    for result in (*found.values(), *expected.values()):
        for epoch in result.curve:
            del epoch["gpu_memory_bytes"]
    assert_equal(found, expected, rel=rel)


@pytest.mark.gpu
def test_on_a_gpu_no_step_waits_for_it(tiny, traffic, tmp_path):
    """From the second step on, when everything has been set up, up to the epoch's last."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    class Watched(BareContext):
        def progress(self, epoch, step, steps):
            torch.cuda.set_sync_debug_mode("error" if 1 <= step < steps - 1 else "default")

    config = configured(tiny, SMALL, {"epochs": 1, "steps_per_epoch": 6})
    members = [Member(one, Watched("cuda"), tmp_path / str(one.seed)) for one in seeds_of(config, (0, 1))]
    assert [result.status for _, result in train_together(members, traffic)] == ["done", "done"]
