from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from altformer.data.windows import Batch, Windows
from altformer.training.augmentation import (
    Augmentation,
    add_noise,
    cutmix,
    mask_readings,
    missing_mark,
    mixup,
    shift_origins,
    smooth_labels,
)
from altformer.training.config import TrainingConfig

OPTIONS = {
    "label smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup_alpha": 0.2},
    "cutmix": {"cutmix_prob": 1.0},
    "noise": {"augmentation": {"noise_std": 0.01}},
    "mask": {"augmentation": {"mask_ratio": 0.1}},
    "shift": {"augmentation": {"temporal_shift": 2}},
}
CHANGED = {
    "label smoothing": {"target"},
    "mixup": {"reading", "observed", "time_of_day", "day_of_week", "target", "target_observed"},
    "cutmix": {"reading", "observed", "target", "target_observed"},
    "noise": {"reading"},
    "mask": {"reading", "observed"},
    "shift": {"reading", "observed", "time_of_day", "day_of_week", "target", "target_observed"},
}


@pytest.fixture(scope="module")
def windows(traffic):
    return Windows.of(traffic, 12, 12)


@pytest.fixture
def origins(windows):
    return windows.origins["train"][::2]


@pytest.fixture
def batch(windows, origins):
    return windows.batch(origins)


def augmented(windows, origins, seed=0, **options):
    torch.manual_seed(seed)
    return Augmentation(TrainingConfig.model_validate(options), windows)(origins)


def same(one, other):
    return {name for name in Batch._fields if torch.equal(getattr(one, name), getattr(other, name))}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_changes_what_it_says_and_repeats_with_its_seed(windows, origins, batch, name):
    changed, again, other = (augmented(windows, origins, seed, **OPTIONS[name]) for seed in (0, 0, 1))
    assert same(changed, again) == set(Batch._fields)
    assert set(Batch._fields) - same(changed, batch) == CHANGED[name]
    assert (set(Batch._fields) == same(changed, other)) == (name == "label smoothing")
    for before, after in zip(batch, changed, strict=True):
        assert before.shape == after.shape and before.dtype == after.dtype
    assert all(part.isfinite().all() for part in changed)


def test_with_all_off_windows_are_only_gathered_and_nothing_is_drawn(windows, origins, batch):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert same(Augmentation(TrainingConfig(), windows)(origins), batch) == set(Batch._fields)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_missing_reading_is_always_marked_as_the_data_marks_it(windows, origins):
    """Masked or mixed, a reading that is not observed has the scaled null value to the bit, and no observed one has."""
    options = {"mixup_alpha": 0.4, "cutmix_prob": 1.0, "augmentation": {"mask_ratio": 0.3, "noise_std": 0.05}}
    changed = augmented(windows, origins, **options)
    assert torch.equal(changed.observed, changed.reading != missing_mark(windows))


def test_a_masked_reading_looks_like_one_that_was_missing(windows, batch):
    missing = batch.reading[~batch.observed]
    torch.manual_seed(0)
    masked = mask_readings(batch, 0.25, missing_mark(windows))
    dropped = batch.observed & ~masked.observed
    assert torch.equal(masked.reading[dropped].unique(), missing.unique())
    assert dropped.sum() / batch.observed.sum() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(masked.reading[~dropped], batch.reading[~dropped])


def test_the_mark_of_a_missing_reading_is_the_data_sets_own(traffic):
    values = traffic.values.copy()
    values[values == 0] = -1
    windows = Windows.of(replace(traffic, values=values, null_value=-1.0), 12, 12)
    batch = windows.batch(windows.origins["train"])
    assert torch.equal(batch.reading[~batch.observed].unique(), missing_mark(windows)[None])


def test_noise_is_of_the_given_size_and_on_observed_readings_only(batch):
    torch.manual_seed(0)
    noise = add_noise(batch, 0.05).reading - batch.reading
    assert noise[batch.observed].std() == pytest.approx(0.05, rel=0.05)
    assert abs(float(noise[batch.observed].mean())) < 0.002
    assert not noise[~batch.observed].any()


def test_label_smoothing_by_hand():
    """Observed 10 and 20 of one sensor have the mean 15: with 0.1 they become 10.5 and 19.5, the missing 0 stays."""
    target = torch.tensor([[[10.0, 0.0], [0.0, 0.0], [20.0, 7.0]]])
    batch = Batch(*[torch.zeros(1)] * 4, target, target != 0)
    expected = torch.tensor([[[10.5, 0.0], [0.0, 0.0], [19.5, 7.0]]])
    torch.testing.assert_close(smooth_labels(batch, 0.1).target, expected)


def test_mixup_mixes_inputs_and_targets_with_one_weight_per_sample(windows, batch, monkeypatch):
    partners = torch.roll(torch.arange(len(batch.reading)), 1)
    weight = torch.linspace(0, 1, len(partners))
    monkeypatch.setattr(torch, "randperm", lambda *args, **kwargs: partners)
    monkeypatch.setattr("torch.distributions.Beta.sample", lambda self: weight)
    mixed = mixup(batch, 0.2, missing_mark(windows))
    for sample in (0, 1, 40, len(partners) - 1):
        w, other = weight[sample], partners[sample]
        both = batch.observed[sample] & batch.observed[other]
        expected = w * batch.reading[sample] + (1 - w) * batch.reading[other]
        assert torch.equal(mixed.observed[sample], both)
        torch.testing.assert_close(mixed.reading[sample][both], expected[both])
        torch.testing.assert_close(mixed.target[sample], w * batch.target[sample] + (1 - w) * batch.target[other])
        both_targets = batch.target_observed[sample] & batch.target_observed[other]
        assert torch.equal(mixed.target_observed[sample], both_targets)
        clock = sample if w >= 0.5 else other
        assert torch.equal(mixed.time_of_day[sample], batch.time_of_day[clock])
        assert torch.equal(mixed.day_of_week[sample], batch.day_of_week[clock])


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 100.0])
def test_mixup_weights_are_finite_for_any_alpha(windows, batch, alpha):
    torch.manual_seed(0)
    mixed = mixup(batch, alpha, missing_mark(windows))
    assert mixed.reading.isfinite().all() and mixed.target.isfinite().all()
    assert mixed.target.max() <= batch.target.max() and mixed.target.min() >= batch.target.min()


def test_cutmix_takes_whole_sensors_with_their_targets_and_masks(windows, batch, monkeypatch):
    partners = torch.roll(torch.arange(len(batch.reading)), 1)
    monkeypatch.setattr(torch, "randperm", lambda *args, **kwargs: partners)
    torch.manual_seed(0)
    mixed = cutmix(batch, 1.0)
    taken = 0
    for sample in range(len(partners)):
        for sensor in range(batch.reading.shape[2]):
            own, other = (
                tuple(part[source, :, sensor] for part in (batch.reading, batch.observed, batch.target))
                for source in (sample, partners[sample])
            )
            got = tuple(part[sample, :, sensor] for part in (mixed.reading, mixed.observed, mixed.target))
            is_other = all(map(torch.equal, got, other))
            assert is_other or all(map(torch.equal, got, own)), (sample, sensor)
            taken += is_other
    assert taken / len(partners) / batch.reading.shape[2] == pytest.approx(0.5, abs=0.1)
    assert torch.equal(mixed.target_observed, mixed.target != windows.null_value)


def test_cutmix_happens_with_its_probability(batch):
    torch.manual_seed(0)
    untouched = sum(torch.equal(cutmix(batch, 0.3).reading, batch.reading) for _ in range(200))
    assert untouched / 200 == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("most", [1, 2, 50])
def test_a_shifted_window_never_leaves_the_training_origins(windows, most):
    origins = windows.origins["train"]
    torch.manual_seed(0)
    shifted = torch.stack([shift_origins(origins, most, int(origins[0]), int(origins[-1])) for _ in range(50)])
    assert set(shifted.flatten().tolist()) <= set(origins.tolist())
    moved = (shifted - origins)[:, most : len(origins) - most] if most < 50 else shifted - origins
    assert set(moved.unique().tolist()) == set(range(-most, most + 1))


def test_a_shift_moves_inputs_and_targets_together(windows, origins, monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda low, high, shape, device: torch.full(shape, high - 1))
    shifted = augmented(windows, origins[:10], augmentation={"temporal_shift": 2})
    assert same(shifted, windows.batch(origins[:10] + 2)) == set(Batch._fields)


@pytest.mark.filterwarnings("ignore")
def test_no_change_waits_for_the_device(windows, batch):
    """On tensors without content, anything that must look at a value before it goes on raises."""
    fake = FakeTensorMode()
    nothing = Batch(*(fake.from_tensor(part) for part in batch))
    mark = fake.from_tensor(missing_mark(windows))
    with fake:
        mask_readings(nothing, 0.1, mark)
        add_noise(nothing, 0.1)
        smooth_labels(nothing, 0.1)
        mixup(nothing, 0.2, mark)
        cutmix(nothing, 0.5)
        shift_origins(torch.zeros(3, dtype=torch.int64), 2, 0, 5)
        with pytest.raises(DataDependentOutputException):
            bool(nothing.reading.sum() > 0)
