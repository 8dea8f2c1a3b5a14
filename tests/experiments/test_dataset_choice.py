"""Which data sets a word on the command line stands for."""

from __future__ import annotations

import pytest

from altformer.errors import UserError
from experiments.dataset_choice import at_hand, choose_datasets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))
    return tmp_path


def put(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()


def test_at_hand_is_every_known_data_set_whose_readings_are_there(folder):
    put(folder, "PEMS08/PEMS08.npz", "METR-LA/metr-la.h5", "PEMS04/PEMS04.csv", "other/other.npz", "pems-bay.h5")
    assert at_hand(folder) == ["METR-LA", "PEMS-BAY", "PEMS08"], "a road graph alone is no data set"
    assert [name for name, _ in choose_datasets("at-hand")] == ["METR-LA", "PEMS-BAY", "PEMS08"]


def test_names_with_commas_keep_their_order(folder):
    put(folder, "METR-LA/metr-la.h5")
    chosen = choose_datasets("PEMS08, auto,simulated")
    assert [name for name, _ in chosen] == ["PEMS08", "METR-LA", "simulated"]
    assert all(name in sentence for name, sentence in chosen)


@pytest.mark.parametrize("text", ["PEMS08,PEMS08", "METR-LA,auto", "PEMS08,", ",", ""])
def test_a_name_twice_or_none_is_refused(folder, text):
    put(folder, "METR-LA/metr-la.h5")
    with pytest.raises(UserError, match="different names with commas between"):
        choose_datasets(text)


def test_nothing_at_hand_says_where_it_was_looked_for(folder):
    with pytest.raises(UserError, match=f"none of METR-LA.*{folder.name}"):
        choose_datasets("at-hand")


def test_a_file_of_ones_own_is_named_by_its_experiment(folder, monkeypatch):
    monkeypatch.chdir(folder)
    put(folder, "my.yaml")
    assert [name for name, _ in choose_datasets("my.yaml,PEMS08")] == ["my.yaml", "PEMS08"]
    with pytest.raises(UserError, match=r"unknown data set 'mine.yaml'; did you mean 'my.yaml'"):
        choose_datasets("mine.yaml")
    with pytest.raises(UserError, match=r"a file of your own: --dataset my.yaml"):
        choose_datasets("loops")
