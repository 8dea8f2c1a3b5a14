import hashlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import data_dir, load
from altformer.data.identity import content_hash, recorded_hash
from altformer.data.specs import SPECS
from altformer.errors import UserError

TINY = DatasetConfig(name="TINY")


def test_the_hash_is_what_its_docstring_says():
    values = np.array([[1.5, 0], [2, 3]], dtype=np.float32)
    expected = hashlib.sha256(b"2 2\n" + b"\x00\x00\xc0\x3f\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x40\x40")
    assert content_hash(values) == expected.hexdigest()
    assert content_hash(values) != content_hash(values.T)
    assert content_hash(values) == content_hash(np.asfortranarray(values))


def test_metr_la(metr_la_dir):
    data = load(DatasetConfig(name="METR-LA"), metr_la_dir)
    assert data.values.shape == (34272, 207)
    np.testing.assert_array_equal(data.values[0, :5], [64.375, 67.625, 67.125, 61.5, 66.875])
    assert data.values.mean(dtype=np.float64) == pytest.approx(53.719021, abs=1e-6)
    assert data.values.std(dtype=np.float64) == pytest.approx(20.261431, abs=1e-6)
    assert data.values[data.values != 0].mean(dtype=np.float64) == pytest.approx(58.459725, abs=1e-6)
    assert data.missing_share == pytest.approx(0.0811, abs=1e-4)
    assert (str(data.start), str(data.times[-1])) == ("2012-03-01T00:00", "2012-06-27T23:55")
    assert (data.day_of_week[0], data.time_of_day[-1], data.steps_per_day) == (3, 287, 288)  # a Thursday
    assert data.sensor_ids[:2] == ("773869", "767541")
    assert np.count_nonzero(data.adjacency) == 1722
    assert (data.split, data.null_value, data.unit, data.user_file) == ((0.7, 0.1, 0.2), 0.0, "mph", False)


def test_pems08(pems08_dir):
    data = load(DatasetConfig(name="PEMS08"), pems08_dir)
    assert data.values.shape == (17856, 170)
    assert data.values.mean(dtype=np.float64) == pytest.approx(230.6807, abs=1e-4)
    assert data.values.std(dtype=np.float64) == pytest.approx(146.2170, abs=1e-4)
    assert (data.values.max(), data.missing_share) == (1147, pytest.approx(0.0035, abs=1e-4))
    assert (str(data.start), str(data.times[-1])) == ("2016-07-01T00:00", "2016-08-31T23:55")
    edges = pd.read_csv(pems08_dir / "PEMS08" / "PEMS08.csv")
    assert len(edges) == 295
    assert (data.adjacency[edges["from"], edges["to"]] == 1).all()
    assert data.adjacency.sum() == 170 + len(edges[["from", "to"]].drop_duplicates())


@pytest.mark.slow
def test_metr_la_is_the_same_from_csv_and_parquet_and_h5(metr_la_dir, tmp_path):
    """The conversions that public copies went through change no float32 reading."""
    with h5py.File(metr_la_dir / "METR-LA" / "metr-la.h5") as file:
        group = file["df"]
        columns = [name.decode() for name in group["axis0"][:]]
        times = pd.DatetimeIndex(group["axis1"][:].view("datetime64[us]"))
        frame = pd.DataFrame(group["block0_values"][:], index=times, columns=columns)
    frame.to_parquet(tmp_path / "METR-LA.parquet")
    assert load(DatasetConfig(name="METR-LA"), tmp_path).content_hash == SPECS["METR-LA"].content_hash
    (tmp_path / "METR-LA.parquet").unlink()
    frame.round(8).to_csv(tmp_path / "METR-LA.csv")
    assert load(DatasetConfig(name="METR-LA"), tmp_path).content_hash == SPECS["METR-LA"].content_hash


def test_two_sensors_swapped_are_refused(tiny, tmp_path):
    values = tiny(content_hash=content_hash(tiny()))
    np.savez(tmp_path / "tiny.npz", data=values)
    load(TINY, tmp_path)
    np.savez(tmp_path / "tiny.npz", data=values[:, [1, 0, 2]])
    with pytest.raises(UserError, match="sensors are in another order"):
        load(TINY, tmp_path)


@pytest.mark.parametrize("place", [".", "TINY"])
def test_files_lie_in_the_folder_or_in_one_of_their_own(place, tiny, tmp_path):
    values = tiny()
    (tmp_path / place).mkdir(exist_ok=True)
    np.savez(tmp_path / place / "tiny.npz", data=values)
    data = load(TINY, tmp_path)
    np.testing.assert_array_equal(data.values, values)
    assert data.times[12] == np.datetime64("2024-03-01T01:00")
    assert (data.sensor_ids, data.adjacency) == (("0", "1", "2"), None)


def test_readings_are_read_only_float32(tiny, tmp_path):
    np.savez(tmp_path / "tiny.npz", data=np.asfortranarray(tiny().astype(np.float64)))
    data = load(TINY, tmp_path)
    assert (data.values.dtype, data.values.flags.c_contiguous) == (np.float32, True)
    with pytest.raises(ValueError, match="read-only"):
        data.values[0, 0] = 1


def test_a_list_of_stations_names_the_sensors_for_the_graph(tiny, tmp_path):
    np.savez(tmp_path / "tiny.npz", data=tiny())
    (tmp_path / "tiny_graph.csv").write_text("from,to,cost\n31,32,1\n")
    with pytest.raises(UserError, match="line 2: sensor '31'"):
        load(TINY, tmp_path)
    (tmp_path / "tiny.txt").write_text("31\n32\n33\n")
    data = load(TINY, tmp_path)
    assert (data.sensor_ids, data.adjacency[0, 1]) == (("31", "32", "33"), 1)
    (tmp_path / "tiny.txt").write_text("31\n32\n")
    with pytest.raises(UserError, match=r"names 2 sensors, tiny\.npz has 3"):
        load(TINY, tmp_path)


def test_an_unknown_hash_is_remembered_at_first_use(tiny, tmp_path):
    values = tiny()
    np.savez(tmp_path / "tiny.npz", data=values)
    assert recorded_hash(tmp_path / "tiny.npz") is None
    first = load(TINY, tmp_path)
    assert recorded_hash(tmp_path / "tiny.npz") == first.content_hash == load(TINY, tmp_path).content_hash
    np.savez(tmp_path / "tiny.npz", data=values + 1)
    with pytest.raises(UserError, match="changed since their first use"):
        load(TINY, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_enough(tiny, tmp_path, monkeypatch):
    np.savez(tmp_path / "tiny.npz", data=tiny())

    def refuse(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    load(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[:-1], "shape: 23 rows x 3 sensors, expected 24 x 3"),
        (lambda values: values[:, :2], "shape: 24 rows x 2 sensors, expected 24 x 3"),
        (lambda values: np.where(values == values[5, 1], np.nan, values), "nan: "),
    ],
)
def test_readings_that_are_not_the_known_ones(change, message, tiny, tmp_path):
    np.savez(tmp_path / "tiny.npz", data=change(tiny()))
    with pytest.raises(UserError, match=message):
        load(TINY, tmp_path)


def test_a_known_hash_is_required(tiny, tmp_path):
    values = tiny(content_hash="0" * 64)
    np.savez(tmp_path / "tiny.npz", data=values)
    with pytest.raises(UserError, match=f"hash: .*{content_hash(values)}, expected 0000"):
        load(TINY, tmp_path)


def test_the_hour_lost_to_daylight_saving_moves_the_clock(tiny, tmp_path):
    values = tiny(absent_steps=12)
    times = pd.date_range("2024-03-01", periods=36, freq="5min").delete(range(10, 22))
    pd.DataFrame(values, index=times).to_csv(tmp_path / "tiny.csv")
    data = load(TINY, tmp_path)
    assert data.time_of_day[9:11].tolist() == [9, 22]
    tiny()
    with pytest.raises(UserError, match=r"gap: 12 x 5 minutes absent after 2024-03-01 00:45:00 \(row 10"):
        load(TINY, tmp_path)


def test_absent_files_and_unknown_names(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Three ways on") as error:
        load(DatasetConfig(name="PEMS04"), tmp_path)
    for way in (str(tmp_path / "PEMS04" / "PEMS04.npz"), "ALTFORMER_DATA", "--dataset simulated"):
        assert way in str(error.value)
    with pytest.raises(UserError, match="did you mean 'METR-LA'"):
        load(DatasetConfig(name="METR_LA"), tmp_path)
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("ALTFORMER_DATA")
    assert data_dir() == Path("data")


def test_weekdays_count_from_monday(tiny, tmp_path):
    np.savez(tmp_path / "tiny.npz", data=tiny(start="2024-03-03T23:00"))  # a Sunday
    data = load(TINY, tmp_path)
    assert data.day_of_week.tolist() == [6] * 12 + [0] * 12
    assert data.time_of_day.tolist() == list(range(276, 288)) + list(range(12))


@pytest.mark.parametrize("name", list(SPECS))
def test_every_entry_is_whole(name):
    spec = SPECS[name]
    assert sum(spec.split) == pytest.approx(1)
    assert spec.sources
    assert spec.graph_sources
    for source in spec.sources:
        assert source.file in spec.files
        assert all(url.startswith("https://") for url in source.urls)
    assert all(source.file in spec.graph_files for source in spec.graph_sources)
    days = (spec.shape[0] + spec.absent_steps) * spec.step_minutes / 1440
    assert days == int(days)  # all of them hold whole days
