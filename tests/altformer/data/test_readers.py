import contextlib
import io
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest

from altformer.data import declared as declared_module
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
        ("time;a\n2024-03-01 00:00;1\n2024-03-01 00:05;2\n", "separated by semicolons; write it with commas"),
        ("time\ta\n2024-03-01 00:00\t1\n", "separated by tabs"),
        ("time,a,b\n2024-03-01 00:00,1,2\n2024-03-01 00:05,1", r"truncated: its last row \(1\) has 2 of 3 fields"),
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
        ({"data": np.array([[{}]], dtype=object)}, "array 'data' holds Python objects, which could run code"),
    ],
)
def test_bad_npz(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "x.npz")


def test_h5_table_format_is_refused_with_the_way_out(tmp_path):
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


def declared(shape, content=b""):
    """An .npy array of a shape, whatever it holds."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return head.getvalue() + content


NPZ = {
    "a shape beyond any memory": (declared((10**12, 10**12)), r"declares 1000000000000 x 1000000000000 values, .* GB"),
    "more than it holds": (declared((100, 3), bytes(800)), r"shape \(100, 3\), but holds 800 bytes \(truncated"),
    "less than it holds": (declared((10, 3), bytes(800)), r"shape \(10, 3\), but holds 800 bytes"),
    "another version": (b"\x93NUMPY\x09\x00" + bytes(100), "no plain numpy array"),
    "no array": (b"hello", "not a readable .npz"),
}


@pytest.mark.parametrize(("content", "message"), NPZ.values(), ids=NPZ)
def test_an_npz_that_declares_what_it_does_not_hold(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data.npy", content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "x.npz")


def small_machine(monkeypatch):
    monkeypatch.setattr(declared_module, "memory_bytes", lambda: 1_000_000)


def test_an_npz_that_would_unpack_to_more_than_the_machine_has(tmp_path, monkeypatch):
    small_machine(monkeypatch)
    np.savez_compressed(tmp_path / "x.npz", data=np.zeros((50_000, 4)))
    assert (tmp_path / "x.npz").stat().st_size < 10_000
    with pytest.raises(UserError, match=r"array 'data' declares 1600128 values, 0\.0 GB; this machine has 0\.0 GB"):
        read_table(tmp_path / "x.npz")


def test_a_parquet_that_would_unpack_to_more_than_the_machine_has(tmp_path, monkeypatch, frame):
    small_machine(monkeypatch)
    frame.to_parquet(tmp_path / "y.parquet")
    assert read_table(tmp_path / "y.parquet").values.shape == (24, 3)
    pd.DataFrame(np.zeros((50_000, 4)), columns=list("abcd")).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="the table declares 50000 x 4 values"):
        read_table(tmp_path / "x.parquet")


def elsewhere_by_link(group, other):
    del group["block0_values"]
    group["block0_values"] = h5py.ExternalLink(str(other), "/df/block0_values")


def elsewhere_by_storage(group, other):
    other.write_bytes(bytes(24 * 3 * 8))
    del group["block0_values"]
    group.create_dataset("block0_values", shape=(24, 3), dtype="f8", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def elsewhere_by_view(group, other):
    del group["block0_values"]
    layout = h5py.VirtualLayout(shape=(24, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "df/block0_values", shape=(24, 3))
    group.create_virtual_dataset("block0_values", layout)


def beyond_memory(group, other):
    del group["block0_values"]
    group.create_dataset("block0_values", shape=(10**12, 10**6), dtype="f8", chunks=(1000, 1000))


def rows_beyond_memory(group, other):
    del group["axis1"]
    group.create_dataset("axis1", shape=(10**12,), dtype="i8", chunks=(1000,))


def other_rows(group, other):
    values = group["block0_values"][:7]
    del group["block0_values"]
    group["block0_values"] = values
    group["block0_values"].attrs["transposed"] = 1


def unknown_column(group, other):
    del group["block0_items"]
    group["block0_items"] = np.array([b"400001", b"400002", b"x"])


def no_items(group, other):
    del group["block0_items"]


H5 = {
    elsewhere_by_link: "block0_values is a link to another file, '.*other.h5'",
    elsewhere_by_storage: "block0_values keeps its values in another file",
    elsewhere_by_view: "block0_values keeps its values in another file",
    beyond_memory: r"block0_values declares 1000000000000 x 1000000 values",
    rows_beyond_memory: r"axis1 declares 1000000000000 values",
    other_rows: r"block0_values has shape \(7, 3\), rows and columns of the DataFrame need \(24, 3\)",
    unknown_column: "block0_values is of column 'x', which the DataFrame does not have",
    no_items: "the stored DataFrame has no block0_items",
}


@pytest.mark.parametrize(("damage", "message"), H5.items(), ids=[damage.__name__ for damage in H5])
def test_an_h5_that_is_not_all_in_the_file(damage, message, tmp_path, frame, write_h5):
    other = write_h5(tmp_path / "other.h5", frame)
    with h5py.File(write_h5(tmp_path / "x.h5", frame), "r+") as file:
        damage(file["df"], other)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "x.h5")


def test_links_at_the_top_of_an_h5_lead_nowhere(tmp_path, frame, write_h5):
    write_h5(tmp_path / "other.h5", frame)
    with h5py.File(write_h5(tmp_path / "x.h5", frame), "r+") as file:
        file["loop"] = h5py.SoftLink("/loop")
        file["again"] = h5py.ExternalLink("other.h5", "/df")
    assert read_table(tmp_path / "x.h5").values.shape == (24, 3)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["df"] = h5py.ExternalLink("other.h5", "/df")
    with pytest.raises(UserError, match="found 0"):
        read_table(tmp_path / "y.h5")


def test_h5_that_holds_something_else(tmp_path):
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
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match="a folder, not a file"):
        read_table(tmp_path / "x.csv")


def test_a_link_to_a_file_is_as_good_as_the_file(tmp_path, frame):
    frame.to_csv(tmp_path / "x.csv")
    (tmp_path / "y.csv").symlink_to("x.csv")
    assert read_table(tmp_path / "y.csv").values.shape == (24, 3)


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
