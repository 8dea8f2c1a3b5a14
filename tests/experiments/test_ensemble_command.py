from __future__ import annotations

import copy
import json
import re
import shutil

import pytest
import torch

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.loaded import load_model
from altformer.metrics import ErrorSums
from experiments.cli import main
from experiments.ensemble_command import choose
from experiments.runs import Run, find_run


def run(out, *arguments):
    return main(["ensemble", *arguments, "--out", str(out), "--device", "cpu"])


def written(out):
    [path] = (out / "ensembles").iterdir()
    return json.loads(path.read_text())


def test_the_average_is_scored_as_its_members_were(own_out, seeds, capsys):
    assert run(own_out, "seed0", "seed1", "seed2") == 0
    result = written(own_out)
    data = load(DatasetConfig(name="simulated", sensors=8, days=4))
    windows = Windows.of(data, 12, 12)
    sums = ErrorSums(12)
    for origin in windows.origins["test"][::10]:
        origins = origin[None]
        batch = windows.batch(origins)
        with torch.inference_mode():
            forecasts = [load_model(seed.folder).forecaster(data, windows)(origins) for seed in seeds[:3]]
        sums.add(sum(forecasts) / 3, batch.target, batch.target_observed)
    for step, values in sums.scores().items():
        assert result["test"][step] == pytest.approx(values, rel=1e-5)
    assert [member["test"] for member in result["members"]] == [seed.record["test"] for seed in seeds[:3]]
    assert result["test"]["windows"] == seeds[0].record["test"]["windows"]
    assert result["provenance"]["git_commit"] and result["provenance"]["versions"]["torch"]
    printed = capsys.readouterr().out
    assert f"{result['test']['all']['mae']:.4f}" in printed and f"{seeds[1].record['val']['all']['mae']:.4f}" in printed
    assert "not comparable with published numbers" in printed


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["seed0", "seed1", "seed2", "seed3"], [0, 1, 2, 3]),
        (["seed0", "seed1", "seed2", "seed3", "--seeds", "0,2,3"], [0, 2, 3]),
        (["seed1", "--seeds", "0,1,3"], [0, 1, 3]),
    ],
)
def test_members_by_name_or_seed(own_out, capsys, arguments, chosen):
    assert run(own_out, *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [member["seed"] for member in result["members"]] == chosen and result == written(own_out)


def test_the_best_are_those_with_the_least_validation_error(own_out, seeds, capsys):
    assert run(own_out, *(seed.hash for seed in seeds), "--best", "3", "--json") == 0
    errors = sorted(seed.record["val"]["all"]["mae"] for seed in seeds)
    result = json.loads(capsys.readouterr().out)
    assert [member["val"]["all"]["mae"] for member in result["members"]] == errors[:3]


def test_the_members_of_an_arm(own_out, seeds, tmp_path, capsys):
    matrix = tmp_path / "depth-simulated-1"
    matrix.mkdir()
    lines = ["arm,status,cell_hash", *(f"small,done,{seed.hash}" for seed in seeds[:3])]
    (matrix / "cells.csv").write_text("\n".join(lines))
    assert run(own_out, "--matrix", str(matrix), "--arm", "small", "--json") == 0
    assert [member["seed"] for member in json.loads(capsys.readouterr().out)["members"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "an ensemble needs runs: give 3 to 5"),
        (["seed0", "seed1"], "an ensemble has 3 to 5 members, got 2"),
        (["seed0", "seed1", "seed1"], "is given twice"),
        (["seed0", "seed1", "network"], "runs of different data: .* is of simulated"),
        (["seed0", "seed1", "stride"], "runs of different windows: .* has test_stride 10, .* has 9"),
        (["seed0", "seed1", "seed"], "unknown run 'seed'; did you mean 'seed"),
        (["seed0", "seed1", "seed2", "--best", "2"], "--best must be 3 to 5, got 2"),
        (["seed0", "seed1", "seed2", "--best", "4"], "--best 4 of only 3 runs"),
        (["seed0", "--seeds", "0,1,7"], r"--seeds: no run with seed 7 \(found: 0, 1, 2, 3\)"),
        (["seed0", "--seeds", "0;1"], "--seeds takes whole numbers"),
        (["--matrix", "runs"], "--matrix and --arm go together"),
    ],
)
def test_mistakes_are_one_message_and_code_2(own_out, capsys, arguments, message):
    assert run(own_out, *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error and not (own_out / "ensembles").exists()


def of_other_sources(out, name):
    """Another finished cell of the same configuration, as an earlier version of the code would have left it."""
    run = find_run(name, out)
    folder = run.folder.with_name("0123456789abcdef")
    shutil.copytree(run.folder, folder)
    (folder / "record.json").write_text(json.dumps(run.record | {"cell_hash": folder.name, "sources": "others"}))
    return folder.name


def test_siblings_are_of_the_same_code(own_out, capsys):
    of_other_sources(own_out, "seed0")
    assert run(own_out, "seed0", "--seeds", "0,1,2", "--json") == 0
    members = json.loads(capsys.readouterr().out)["members"]
    assert sorted(member["seed"] for member in members) == [0, 1, 2]


def test_one_seed_never_counts_twice(own_out, capsys):
    assert run(own_out, "seed0", of_other_sources(own_out, "seed0"), "seed1") == 2
    assert "are the same run (of different code" in capsys.readouterr().err


def test_the_best_by_the_scoring_that_selected_them(seeds):
    """Runs that were trained and selected with missing readings scored are ranked so too."""

    def scored(seed, mae, unmasked):
        config = copy.deepcopy(seed.record["config"])
        config["training"]["loss"] = "mae_unmasked"
        val = seed.record["val"] | {"all": seed.record["val"]["all"] | {"mae": mae}, "mae_unmasked": unmasked}
        return Run(seed.folder, seed.record | {"config": config, "val": val})

    runs = [scored(seed, mae, 5 - mae) for seed, mae in zip(seeds, [1.0, 2.0, 3.0, 4.0], strict=True)]
    assert [member.record["val"]["mae_unmasked"] for member in choose(runs, best=3)] == [1, 2, 3]
    with pytest.raises(UserError, match="different metrics: val_mae, val_mae_unmasked"):
        choose([*runs[:3], seeds[3]], best=3)


def test_a_damaged_member_is_refused(own_out, capsys):
    for weights in own_out.glob("cells/*/checkpoints/*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-4])
    assert run(own_out, "seed0", "seed1", "seed2") == 2
    assert "no whole checkpoint" in capsys.readouterr().err
