import contextlib

import numpy as np
import pytest

from altformer.data.readers import read_table
from altformer.errors import UserError


def write(path, frame, write_h5):
    match path.suffix:
        case ".h5":
            write_h5(path, frame)
        case ".csv":
            frame.to_csv(path)
        case ".parquet":
            frame.to_parquet(path)
        case ".npz":
            np.savez(path, data=frame.to_numpy(), times=frame.index.to_numpy())
    return path


@pytest.mark.parametrize("suffix", [".h5", ".csv", ".parquet", ".npz"])
def test_every_form_gives_the_same_readings(suffix, tmp_path, frame, write_h5):
    table = read_table(write(tmp_path / f"x{suffix}", frame, write_h5))
    np.testing.assert_array_equal(table.values, frame.to_numpy())
    np.testing.assert_array_equal(table.times, frame.index.to_numpy())
    assert table.sensor_ids == (None if suffix == ".npz" else tuple(frame.columns))


@pytest.mark.parametrize(
    ("kind", "unit"), [(b"datetime64", "ns"), (b"datetime64[us]", "us"), (b"datetime64[ns, UTC]", "ns")]
)
def test_h5_times_in_any_unit(kind, unit, tmp_path, frame, write_h5):
    table = read_table(write_h5(tmp_path / "x.h5", frame, kind=kind, unit=unit))
    np.testing.assert_array_equal(table.times, frame.index.to_numpy())


@pytest.mark.parametrize("transposed", [0, 1])
def test_h5_of_several_blocks_keeps_the_order_of_columns(transposed, tmp_path, frame, write_h5):
    blocks = [["400003", "400001"], ["400002"]]
    table = read_table(write_h5(tmp_path / "x.h5", frame, blocks=blocks, transposed=transposed))
    np.testing.assert_array_equal(table.values, frame.to_numpy())


def test_npz_of_three_channels_uses_the_first(tmp_path):
    flow = np.arange(60.0).reshape(10, 2, 3)
    np.savez(tmp_path / "x.npz", data=flow)
    table = read_table(tmp_path / "x.npz")
    np.testing.assert_array_equal(table.values, flow[:, :, 0])
    assert table.times is None


@pytest.mark.parametrize("column", ["time", "Timestamp", "date", ""])
@pytest.mark.parametrize("place", [0, 2])
def test_the_time_column_is_found_by_its_name(column, place, tmp_path, frame):
    frame = frame.copy()
    frame.insert(place, column, frame.index)
    frame.to_csv(tmp_path / "x.csv", index=False)
    table = read_table(tmp_path / "x.csv")
    assert table.sensor_ids == ("400001", "400002", "400003")
    assert table.times[1] == np.datetime64("2024-03-01T00:05")


def test_the_first_column_is_the_time_column_whatever_its_name(tmp_path, frame):
    frame.to_csv(tmp_path / "x.csv", index_label="measured at")
    assert read_table(tmp_path / "x.csv").times[1] == np.datetime64("2024-03-01T00:05")


def test_wall_time_is_kept_and_days_may_come_first(tmp_path):
    (tmp_path / "x.csv").write_text("time,a\n2024-03-01T00:00:00+01:00,1\n2024-03-01T00:05:00+01:00,2\n")
    assert read_table(tmp_path / "x.csv").times[0] == np.datetime64("2024-03-01T00:00")
    (tmp_path / "y.csv").write_text("time,a\n13/02/2024 00:00,1\n13/02/2024 00:05,2\n")
    assert read_table(tmp_path / "y.csv").times[1] == np.datetime64("2024-02-13T00:05")
    (tmp_path / "z.csv").write_text("time,a\n12.02.2024,1\n13.02.2024,2\n")
    assert read_table(tmp_path / "z.csv").times[0] == np.datetime64("2024-02-12"), (
        "the second row says which is the day"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"not a readable \.csv"),
        ("a,b\n1,2\n3,4\n", "no time column: column 'a' holds numbers"),
        ("time,a\n1,2\n3,4\n", "no time column: column 'time' holds numbers"),
        ("time,a\n2024-03-01 00:00,1\n2024-03-01 00:05,fast\n", "wrong dtype: column 'a' holds 'fast' in row 1"),
        ("time,a\n2024-03-01 00:00,1\nyesterday,2\n", "'yesterday' in row 1, expected a time"),
        ("time,a\n05.01.2026 00:00,1\n05.01.2026 00:05,2\n", "which may be 2026-05-01 or 2026-01-05; write times as"),
        ("time,a\n01/02/2026,1\n02/02/2026,2\n", "'01/02/2026' in row 0, which may be 2026-01-02 or 2026-02-01"),
        ("time,a\n2024-03-01 00:00,True\n2024-03-01 00:05,False\n", "wrong dtype: column 'a'"),
        ("time,a\n2024-03-01 00:00,1,2\n2024-03-01 00:05,1,2\n", "more fields than the 2 of the header"),
        ("time,a\n2024-03-01 00:00,1\n2024-03-01 00:05,1,2\n", r"not a readable \.csv"),
        ("time,a\n2024-03-01T00:00+01:00,1\n2024-04-01T00:05+02:00,2\n", "mixes time zones"),
    ],
)
def test_bad_csv(text, message, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_file(suffix, damage, tmp_path, frame, write_h5):
    path = write(tmp_path / f"x{suffix}", frame, write_h5)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"<html>404</html>" * 100, "empty": b""}[damage])
    with pytest.raises(UserError, match=r"x\.\w+: not a readable"):
        read_table(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}, "array named 'data', found a, b"),
        ({"data": np.zeros(4)}, r"shape \(4,\)"),
        ({"data": np.zeros((4, 2, 3, 1))}, r"shape \(4, 2, 3, 1\)"),
        ({"data": np.array([["a", "b"]])}, "of type <U1"),
        ({"data": np.zeros((4, 2)), "times": np.arange(4)}, "'times' is int64"),
        ({"data": np.array([[{}]], dtype=object)}, "not a readable .npz"),
    ],
)
def test_bad_npz(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "x.npz")


def test_h5_table_format_is_refused_with_the_way_out(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("df")["table"] = np.zeros(3)
    with pytest.raises(UserError, match='format="fixed"'):
        read_table(tmp_path / "x.h5")


def test_h5_without_times_or_numbers(tmp_path, frame, write_h5):
    write_h5(tmp_path / "x.h5", frame, kind=b"integer")
    with pytest.raises(UserError, match="indexed by integer"):
        read_table(tmp_path / "x.h5")
    write_h5(tmp_path / "y.h5", frame.astype(bool))
    with pytest.raises(UserError, match="block0_values is of type bool"):
        read_table(tmp_path / "y.h5")


def test_h5_that_holds_something_else(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["speed"] = np.zeros(3)
    with pytest.raises(UserError, match="found 0"):
        read_table(tmp_path / "x.h5")


def test_unknown_extension_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"unknown file extension '\.parq'; did you mean '\.parquet'"):
        read_table(tmp_path / "x.parq")


def test_absent_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "x.csv")


def test_parquet_with_a_time_column(tmp_path, frame):
    frame.reset_index(names="time").to_parquet(tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(table.times, frame.index.to_numpy())
    assert table.sensor_ids == tuple(frame.columns)


def test_missing_cells_of_a_csv_are_nan(tmp_path):
    (tmp_path / "x.csv").write_text("time,a,b\n2024-03-01 00:00,1,\n2024-03-01 00:05,,2\n")
    assert np.isnan(read_table(tmp_path / "x.csv").values).sum() == 2


def test_columns_that_occur_twice_are_told_apart_from_pandas_renaming(tmp_path):
    (tmp_path / "x.csv").write_text("time,a,a\n2024-03-01 00:00,1,2\n2024-03-01 00:05,3,4\n")
    table = read_table(tmp_path / "x.csv")
    assert table.sensor_ids == ("a", "a")
    np.testing.assert_array_equal(table.values[1], [3, 4])


@pytest.mark.parametrize("suffix", [".csv", ".npz"])  # flipped bits can crash the HDF5 library itself
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_never_ends_in_a_traceback(suffix, seed, tmp_path, frame, write_h5):
    whole = write(tmp_path / f"x{suffix}", frame, write_h5).read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(len(damaged), size=4):
            damaged[place] = rng.integers(256)
        (tmp_path / f"x{suffix}").write_bytes(damaged)
        with contextlib.suppress(UserError):
            assert read_table(tmp_path / f"x{suffix}").values.ndim == 2
