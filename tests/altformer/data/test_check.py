import numpy as np
import pandas as pd
import pytest

from altformer.data.check import check
from altformer.data.config import DatasetConfig
from altformer.data.identity import content_hash
from altformer.errors import UserError

TINY = DatasetConfig(name="TINY")


def save(folder, values):
    np.savez(folder / "tiny.npz", data=values)
    return folder


def test_a_clean_set(tiny, tmp_path):
    values = tiny().copy()
    values[:, 2] = 0
    checked = check(TINY, save(tmp_path, values))
    assert (checked.findings, checked.shape) == ((), (24, 3))
    assert checked.missing_share == pytest.approx(1 / 3)
    assert checked.silent_sensors == ("2",)


@pytest.mark.parametrize(
    ("damage", "rules"),
    [
        (lambda values: values[:20], ["shape"]),
        (lambda values: np.where(values == values[7, 1], np.nan, values), ["nan"]),
        (lambda values: np.where(values == values[7, 1], np.inf, values), ["inf", "hash"]),
        (lambda values: values + 1, ["hash"]),
        (lambda values: values.astype(str), ["file"]),
        (lambda values: values[:, 0], ["file"]),
    ],
)
def test_what_is_wrong_is_listed(damage, rules, tiny, tmp_path):
    values = tiny(content_hash=content_hash(tiny()))
    checked = check(TINY, save(tmp_path, damage(values)))
    assert [finding.rule for finding in checked.findings] == rules


def test_everything_is_listed_with_its_place(tmp_path):
    times = pd.date_range("2024-03-01", periods=20, freq="5min")
    frame = pd.DataFrame(np.ones((20, 2)), index=times, columns=["a", "b"])
    frame.iloc[4, 1] = np.nan
    frame.iloc[6, 0] = np.inf
    frame.drop(times[[10, 11]]).to_csv(tmp_path / "my.csv")
    checked = check(DatasetConfig(path=tmp_path / "my.csv"))
    places = [(finding.rule, finding.row, finding.sensor, finding.time) for finding in checked.findings]
    assert places == [
        ("nan", 4, "b", "2024-03-01 00:20:00"),
        ("inf", 6, "a", "2024-03-01 00:30:00"),
        ("gap", 10, None, "2024-03-01 01:00:00"),
    ]


def test_a_graph_of_other_sensors(tiny, tmp_path):
    (tmp_path / "tiny_graph.csv").write_text("from,to,cost\n0,9,1\n")
    (found,) = check(TINY, save(tmp_path, tiny())).findings
    assert found.rule == "graph"
    assert "line 2: sensor '9'" in found.message


def test_checking_writes_nothing(tiny, tmp_path):
    check(TINY, save(tmp_path, tiny()))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.npz"]


def test_truncated_and_absent_files(tiny, tmp_path):
    path = save(tmp_path, tiny()) / "tiny.npz"
    path.write_bytes(path.read_bytes()[:100])
    (found,) = check(TINY, tmp_path).findings
    assert "not a readable .npz file" in found.message
    path.unlink()
    with pytest.raises(UserError, match="Three ways on"):
        check(TINY, tmp_path)


def test_simulated_is_clean():
    checked = check(DatasetConfig(name="simulated", sensors=8, days=2))
    assert (checked.path, checked.shape, checked.findings) == (None, (576, 8), ())


def test_the_real_files_are_clean(metr_la_dir, pems08_dir):
    for name, folder in (("METR-LA", metr_la_dir), ("PEMS08", pems08_dir)):
        checked = check(DatasetConfig(name=name), folder)
        assert (checked.findings, checked.silent_sensors) == ((), ())
