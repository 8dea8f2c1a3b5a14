from __future__ import annotations

import json
import shutil

import pytest

from altformer.errors import UserError
from experiments.runs import experiment_file, find_arm, find_folder, find_run, find_siblings


@pytest.fixture
def cell(trained_out):
    return find_run("seed1", trained_out)


@pytest.mark.parametrize(
    "name",
    [
        lambda cell: "seed1",
        lambda cell: cell.hash,
        lambda cell: cell.hash[:6],
        lambda cell: str(cell.folder),
        lambda cell: f"{cell.folder}/",
    ],
    ids=["experiment", "hash", "prefix", "folder", "folder with slash"],
)
def test_every_name_of_a_run_leads_to_it(trained_out, cell, name):
    run = find_run(name(cell), trained_out)
    assert (run.hash, run.config, run.folder.resolve()) == (cell.hash, cell.config, cell.folder.resolve())
    assert run.record["seed"] == 1


def test_a_checkpoint_folder_is_found_but_is_no_finished_run(trained_out, cell):
    checkpoint = next((cell.folder / "checkpoints").iterdir())
    assert find_folder(str(checkpoint), trained_out) == checkpoint
    with pytest.raises(UserError, match=r"has no record\.json of a finished run"):
        find_run(str(checkpoint), trained_out)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed1", "unknown run 'sed1'; did you mean 'seed1'?.*6 cells; experiments: network, seed0, "),
        ("abc", "unknown run 'abc'"),
        ("0123456789abcdef", "unknown run '0123456789abcdef'"),
        ("no/where", "unknown run 'no/where'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(trained_out, name, message):
    with pytest.raises(UserError, match=message):
        find_run(name, trained_out)


def test_a_mistyped_hash_names_the_nearest_cell(trained_out, cell):
    wrong = cell.hash[:-1] + ("0" if cell.hash[-1] != "0" else "1")
    with pytest.raises(UserError, match=f"did you mean '{cell.hash}'"):
        find_run(wrong, trained_out)


def test_a_prefix_of_several_cells_is_refused_with_all_of_them(own_out, cell):
    twin = cell.hash[:8] + "0" * 8
    shutil.copytree(own_out / "cells" / cell.hash, own_out / "cells" / twin)
    with pytest.raises(UserError, match=f"run '{cell.hash[:7]}' stands for 2 cells: .*{twin}"):
        find_run(cell.hash[:7], own_out)


def test_a_moved_folder_of_runs_still_knows_its_experiments(trained_out, tmp_path, cell):
    moved = shutil.copytree(trained_out, tmp_path / "moved")
    note = experiment_file("seed1", moved)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"cell_folder": "/gone/cells/x"}))
    assert find_run("seed1", moved).folder == moved / "cells" / cell.hash
    shutil.rmtree(moved / "cells" / cell.hash)
    with pytest.raises(UserError, match=r"which is neither at .* nor at /gone/cells/x"):
        find_run("seed1", moved)
    note.write_text("{")
    with pytest.raises(UserError, match="is no note of an experiment"):
        find_run("seed1", moved)


@pytest.mark.parametrize("status", ["stopped", "diverged", "failed"])
def test_only_what_was_trained_to_its_end_is_used(own_out, status):
    folder = own_out / "cells" / find_run("seed1", own_out).hash
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"status": status}))
    with pytest.raises(UserError, match=f"this run is {status}, not done"):
        find_run(str(folder), own_out)


def test_a_record_of_another_version_is_refused(cell):
    config = cell.record["config"] | {"speed": 1}
    with pytest.raises(UserError, match=r"another version of altformer: speed: Extra inputs"):
        _ = type(cell)(cell.folder, cell.record | {"config": config}).config


def test_siblings_differ_in_the_seed_alone(seeds):
    assert [run.hash for run in find_siblings(seeds[2])] == [run.hash for run in seeds]


def test_an_arms_finished_cells_are_those_of_the_matrix(trained_out, seeds, tmp_path):
    rows = [("small", run, "done") for run in seeds[:2]] + [("small", seeds[2], "failed"), ("'-x", seeds[3], "done")]
    lines = ["arm,seed,status,cell_hash"] + [
        f"{arm},{run.record['seed']},{status},{run.hash}" for arm, run, status in rows
    ]
    (tmp_path / "cells.csv").write_text("\n".join(lines) + "\n")
    assert [run.hash for run in find_arm(tmp_path, "small", trained_out)] == [run.hash for run in seeds[:2]]
    assert [run.hash for run in find_arm(tmp_path, "-x", trained_out)] == [seeds[3].hash], "as cells.csv has formulas"
    with pytest.raises(UserError, match="unknown arm 'smal'; did you mean 'small'"):
        find_arm(tmp_path, "smal", trained_out)
    with pytest.raises(UserError, match=r"cells\.csv: cannot be read: .*; name the folder of a matrix"):
        find_arm(tmp_path / "nowhere", "small", trained_out)
