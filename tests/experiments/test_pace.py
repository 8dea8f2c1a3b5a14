import math

import pytest

from altformer.errors import UserError
from experiments.pace import Load, Pace, cost_key, load_of, median_pace, recorded_pace


def changed(config, section, **values):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("load", "done", "seconds"),
    [
        (Load(epochs=10, trained=100, validated=20, tested=50), 0, 3 + 10 * (100 * 0.1 + 20 * 0.05 + 0.5) + 50 * 0.05),
        (Load(epochs=10, trained=100, validated=20, tested=50), 7, 3 + 3 * (100 * 0.1 + 20 * 0.05 + 0.5) + 50 * 0.05),
        (Load(epochs=10, trained=100, validated=20, tested=50), 12, 3 + 50 * 0.05),
    ],
)
def test_a_cell_takes_its_epochs_and_what_is_done_once(load, done, seconds):
    assert Pace(once=3, trained=0.1, scored=0.05, epoch=0.5).seconds(load, done) == pytest.approx(seconds)


def test_the_load_counts_windows_as_training_does(tiny, traffic):
    load = load_of(tiny, traffic, params=10)
    assert (load.epochs, load.trained) == (3, 5 * 16)
    whole = load_of(changed(tiny, "training", steps_per_epoch=None), traffic, params=10)
    sparse = load_of(changed(tiny, "dataset", val_stride=7, test_stride=5), traffic, params=10)
    count = 400 - 12 - 12 + 1
    assert whole.trained == round(count * 0.7)
    assert whole.trained + whole.validated + whole.tested == count
    assert sparse.validated == math.ceil(whole.validated / 7) and sparse.tested == math.ceil(whole.tested / 5)
    assert load_of(changed(tiny, "training", gradient_accumulation_steps=2), traffic, params=10).trained == 5 * 32
    assert load_of(tiny, traffic, params=0).epochs == 1, "nothing to train"


def test_too_little_data_is_refused(tiny, traffic):
    with pytest.raises(UserError, match="input_len"):
        load_of(changed(tiny, "dataset", input_len=390), traffic, params=10)


@pytest.mark.parametrize(
    ("section", "values", "same"),
    [
        ("training", {"lr": 0.1, "epochs": 50, "steps_per_epoch": None, "patience": 3}, True),
        ("dataset", {"val_stride": 9, "test_stride": 9}, True),
        ("training", {"batch_size": 17}, False),
        ("training", {"precision": "bf16"}, False),
        ("model", {"embed_dim": 16}, False),
        ("dataset", {"input_len": 24}, False),
    ],
)
def test_what_decides_the_seconds_per_window(tiny, section, values, same):
    assert (cost_key(changed(tiny, section, **values)) == cost_key(tiny)) is same
    assert cost_key(tiny.model_copy(update={"seed": 5})) == cost_key(tiny)


def record(load, trained=0.01, scored=0.005, once=4, epochs=3):
    each = trained * load.trained + scored * load.validated
    curve = [{"epoch_seconds": each, "samples_per_second": 1 / trained} for _ in range(epochs)]
    curve[0]["epoch_seconds"] += 2.0  # warming up
    seconds = once + 2 + epochs * each + scored * load.tested
    return {
        "status": "done",
        "params": 10,
        "curve": curve,
        "val": {"windows": load.validated},
        "test": {"windows": load.tested},
        "provenance": {
            "started": "2026-01-01T00:00:00+00:00",
            "ended": f"2026-01-01T00:00:{seconds:09.6f}+00:00",
        },
    }


def test_a_record_gives_the_pace_it_was_trained_at(tiny, traffic):
    load = load_of(tiny, traffic, params=10)
    pace = recorded_pace(record(load), tiny, traffic)
    assert (pace.once, pace.trained, pace.scored) == pytest.approx((4 + 2, 0.01, 0.005), rel=1e-4)
    longer = load_of(changed(tiny, "training", epochs=30), traffic, params=10)
    assert pace.seconds(longer) - pace.seconds(load) == pytest.approx(27 * (0.01 * 80 + 0.005 * load.validated))


@pytest.mark.parametrize("damage", ["curve", "val", "provenance", "params"])
def test_a_record_that_does_not_say_is_no_pace(tiny, traffic, damage):
    broken = record(load_of(tiny, traffic, params=10))
    broken[damage] = None
    assert recorded_pace(broken, tiny, traffic) is None


def test_a_cell_that_was_resumed_took_no_less_than_its_epochs(tiny, traffic):
    resumed = record(load_of(tiny, traffic, params=10))
    resumed["provenance"]["ended"] = "2026-01-01T00:00:01+00:00"
    assert recorded_pace(resumed, tiny, traffic).once == 0


def test_the_median_of_several_paces_is_taken_part_by_part():
    assert median_pace([Pace(1, 9, 2), Pace(2, 3, 9), Pace(9, 4, 3)]) == Pace(2, 4, 3, 0)
