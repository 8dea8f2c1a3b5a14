import argparse

import numpy as np
import pandas as pd
import pytest

from altformer.errors import UserError
from experiments import data_command


@pytest.fixture
def data(tmp_path, monkeypatch, capsys):
    """Runs `altformer data ...` in an empty folder of data sets; gives the exit code and what was printed."""
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))

    def run(*words):
        parser = argparse.ArgumentParser()
        data_command.add_arguments(parser)
        code = data_command.run(parser.parse_args([str(word) for word in words]))
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def csv(tmp_path):
    times = pd.date_range("2024-03-01", periods=200, freq="15min")
    frame = pd.DataFrame(np.full((200, 2), 50.0), index=times, columns=["a", "b"])
    frame.iloc[:20, 0] = 0
    return frame, tmp_path / "my.csv"


def test_list_says_what_is_at_hand(data, tmp_path):
    (tmp_path / "PEMS04.npz").write_bytes(b"")
    code, out = data("list")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0
    assert str(tmp_path / "PEMS04.npz") in lines["PEMS04"]
    assert "altformer data fetch METR-LA" in lines["METR-LA"]
    assert "always" in lines["simulated"]


def test_info_of_an_absent_set_names_its_places(data):
    code, out = data("info", "METR-LA")
    assert code == 0
    assert "34272 rows x 207 sensors" in out
    assert "https://zenodo.org/records/5146275/files/METR-LA.csv" in out


def test_info_and_plot_of_simulated(data, tmp_path):
    code, out = data("info", "simulated", "--plot", tmp_path / "s.png")
    assert code == 0
    assert "8064 rows x 64 sensors, mph" in out
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot write the plot"):
        data("info", "simulated", "--plot", tmp_path / "absent" / "s.png")


def test_info_of_an_own_file(data, csv):
    frame, path = csv
    frame.to_csv(path)
    code, out = data("info", path)
    assert code == 0
    assert "every 15 minutes" in out
    assert "5.00%, marked 0" in out
    frame.where(frame != 0).to_csv(path)
    assert "5.00%, marked empty, or nan" in data("info", path, "--null-value", "nan")[1]


def test_check_lists_findings_and_exits_2(data, csv):
    frame, path = csv
    frame.to_csv(path)
    assert data("check", path) == (0, f"{path}: 200 rows x 2 sensors, 5.00% missing, nothing wrong\n")
    frame.iloc[30, 1] = np.nan
    frame.drop(frame.index[40]).to_csv(path)
    code, out = data("check", path)
    assert code == 2
    assert "2 findings (rows counted from 0 below the header):" in out
    assert "row 30, sensor b, time 2024-03-01 07:30:00" in out
    assert "gap: 1 x 15 minutes absent" in out and "A gap is mended by rows" in out
    assert data("check", path, "--null-value", "nan")[1].count("gap:") == 1
    assert "nan:" not in data("check", path, "--null-value", "nan")[1]


def test_check_of_a_broken_file_is_a_finding(data, tmp_path):
    (tmp_path / "x.npz").write_bytes(b"")
    code, out = data("check", tmp_path / "x.npz")
    assert (code, "file: not a readable .npz" in out) == (2, True)
    assert "What else is wrong shows once that is mended." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "METRLA"], "did you mean 'METR-LA'"),
        (["info", "my_data"], "unknown data set 'my_data'"),
        (["check", "PEMS08", "--freq", "5min"], "--freq describes your own file, not PEMS08"),
        (["check", "my.csv", "--null-value", "none"], "--null-value none"),
        (["fetch", "METR_LA"], "did you mean 'METR-LA'"),
        (["check", "PEMS08"], "Three ways on"),
    ],
)
def test_mistakes(words, message, data):
    with pytest.raises(UserError, match=message):
        data(*words)


def test_real_data(metr_la_dir, data, monkeypatch):
    monkeypatch.setenv("ALTFORMER_DATA", str(metr_la_dir))
    code, out = data("info", "METR-LA")
    assert code == 0
    assert "58.4597, 13.0236 without missing readings" in out
    assert "(the known one)" in out
    code, out = data("fetch", "METR-LA")
    assert (code, "at hand, verified" in out) == (0, True)
    assert data("check", "METR-LA")[0] == 0
