"""Plans: what is settled, where it goes, and what a user is told before the start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablations.folders import short_id
from ablations.matrix import load_matrix
from ablations.planning import compose_with, make_plan
from ablations.terminal import print_plan
from altformer.errors import UserError
from experiments.cell import Machine, write_failure
from experiments.provenance import versions

MATRIX = """
name: tiny
base: simulated.yaml
arms: {one: {lr: 0.001}, two: {lr: 0.003}}
baseline: one
scheduler: asha
"""


@pytest.fixture
def plan(traffic, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(MATRIX)

    def make(seeds=2, **changes):
        arguments = {"dataset": None, "profile": "quick", "settings": {}, "out": tmp_path / "runs"} | changes
        return make_plan(load_matrix(path), traffic, Machine("cpu", 1, 1), seeds=seeds, **arguments)

    return make


def settle(planned, status, **changes):
    """Leave a record of a cell as training would."""
    record = write_failure(planned.cell, "", {})
    record |= {"status": status, "error": None, **changes}
    (planned.cell.folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("status", "stopped_by", "settled"),
    [
        ("done", None, True),
        ("diverged", None, True),
        ("failed", None, False),
        ("stopped", "this scheduler", True),
        ("stopped", {"type": "asha", "reduction_factor": 9}, False),
    ],
)
def test_what_counts_as_settled(plan, status, stopped_by, settled):
    before = plan()
    stopped_by = before.scheduler if stopped_by == "this scheduler" else stopped_by
    settle(before.cells[0], status, stopped_by=stopped_by)
    after = plan()
    assert [after.settled(at) for at in after.cells] == [settled, False, False, False]
    assert len(after.to_run) == 4 - settled


def test_more_seeds_continue_the_same_folder_and_other_settings_do_not(plan):
    folder = plan().folder
    assert plan(seeds=5).folder == folder
    assert plan(settings={"dropout": 0.2}).folder != folder
    assert plan(profile="full").folder != folder


def test_set_names_a_field_by_leaf_or_by_path(plan):
    by_leaf, by_path = plan(settings={"dropout": 0.2}), plan(settings={"model.dropout": 0.2})
    assert by_leaf.folder == by_path.folder
    assert [at.cell.hash for at in by_leaf.cells] == [at.cell.hash for at in by_path.cells]


def test_a_run_with_fewer_seeds_keeps_those_that_are_settled(plan):
    three = plan(seeds=3)
    for at in three.cells:
        settle(at, "done")
    assert {at.seed for at in plan(seeds=1, keep_seeds=True).cells} == {0}, "no report on more yet"
    three.write()
    again = plan(seeds=1, keep_seeds=True)
    assert [(at.arm, at.seed) for at in again.cells] == [(at.arm, at.seed) for at in three.cells]
    assert not again.to_run and {at.seed for at in plan(seeds=1).cells} == {0}
    assert {at.seed for at in plan(seeds=4, keep_seeds=True).cells} == {0, 1, 2, 3}
    settle(three.cells[-1], "failed")
    assert {at.seed for at in plan(seeds=1, keep_seeds=True).cells} == {0, 1}, "nothing unasked is trained"


def test_a_broken_plan_of_before_is_as_none(plan):
    folder = plan().folder
    folder.mkdir(parents=True)
    for text in ("", "[]", "{}", '{"cells": [{}]}', '{"cells": []}'):
        (folder / "plan.json").write_text(text)
        assert {at.seed for at in plan(seeds=1, keep_seeds=True).cells} == {0}


@pytest.mark.parametrize("width", [60, 200])
def test_names_are_whole_and_hashes_whole_or_absent_however_narrow(width, plan, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    found = plan(seeds=5)
    print_plan(found, 1)
    printed = capsys.readouterr().out
    assert "one (baseline)" in printed and "…" not in printed
    shown = [at.cell.hash[:8] in printed for at in found.cells]
    assert all(shown) if width == 200 else not any(shown)


def test_a_long_name_is_folded_not_cut(plan, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    found = plan()
    name = "learning_rate=0.001,weight_decay=0.0001"
    arms = [replace(found.arms[0], name=name), *found.arms[1:]]
    cells = [replace(at, arm=name if at.arm == "one" else at.arm) for at in found.cells]
    print_plan(replace(found, arms=arms, cells=cells, params={name: 1, "two": 2}), 1)
    printed = capsys.readouterr().out
    assert "".join(line.split()[0] for line in printed.splitlines()[3:]).startswith(f"{name}(baseline)"), printed
    assert "…" not in printed


def test_whole_seeds_come_first(plan):
    assert [(at.arm, at.seed) for at in plan().cells] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


def test_a_plan_knows_whether_it_is_written(plan):
    before = plan()
    assert not before.is_written()
    before.write()
    assert plan().is_written() and not plan(seeds=3).is_written()
    settle(before.cells[0], "done")
    assert not plan().is_written()


def test_cells_of_another_torch_are_named(plan, capsys):
    settle(plan().cells[0], "done")
    print_plan(plan(), 1)
    assert "Warning" not in capsys.readouterr().out
    record = json.loads((plan().cells[0].cell.folder / "record.json").read_text())
    record["provenance"]["versions"]["torch"] = "1.0.0"
    (plan().cells[0].cell.folder / "record.json").write_text(json.dumps(record))
    print_plan(plan(), 1)
    assert f"trained with torch 1.0.0; this is {versions()['torch']}" in capsys.readouterr().out


SETTINGS = """
name: tiny
base: simulated.yaml
settings:
  batch_size: {quick: 4, full: 16}
  embed_dim: 24
  lr: 0.005
arms: {one: {}, two: {lr: 0.003}, other: {model: {type: stid}}}
baseline: one
"""


@pytest.fixture
def configs(traffic, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)

    def make(profile="quick", **settings):
        plan = make_plan(
            load_matrix(path),
            traffic,
            Machine("cpu", 1, 1),
            dataset=None,
            profile=profile,
            settings=settings,
            seeds=1,
            out=tmp_path / "runs",
        )
        return {at.arm: at.cell.config for at in plan.cells}

    return make


def test_settings_are_of_every_arm_that_says_nothing_else(configs):
    quick, full = configs(), configs("full")
    assert [quick[arm].training.lr for arm in ("one", "two", "other")] == [0.005, 0.003, 0.005]
    assert {config.training.batch_size for config in quick.values()} == {4}
    assert {config.training.batch_size for config in full.values()} == {16}


def test_settings_win_over_the_profile_which_still_sets_the_rest(configs):
    quick = configs()["one"]
    assert quick.model.embed_dim == 24 and quick.model.patch_len == 3 and quick.training.epochs == 5


@pytest.mark.parametrize(
    ("own", "profile", "settings", "notes"),
    [
        ("lr: 0.01\n  epochs: 5\n", "quick", {}, "Profile quick takes lr 0.002 instead of 0.01 (mine.yaml:3)."),
        ("lr: 0.01\n", "quick", {"lr": 0.01}, None),  # said on the command line, it stands
        ("lr: 0.002\n", "quick", {}, None),
        ("lr: 0.01\n", "full", {}, None),
    ],
)
def test_what_a_profile_takes_instead_of_the_users_own_values_is_noted(
    own, profile, settings, notes, traffic, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"base: simulated\ntraining:\n  {own}")
    Path("m.yaml").write_text("name: m\nbase: mine\narms: {a: {}, b: {dropout: 0.3}}\nbaseline: a\n")
    arguments = {"dataset": None, "profile": profile, "settings": settings, "seeds": 1}
    plan = make_plan(load_matrix(Path("m.yaml")), traffic, Machine(), out=tmp_path / "runs", **arguments)
    assert plan.notes == ((notes,) if notes else ())


def test_set_wins_over_settings_but_not_over_arms(configs):
    found = configs(batch_size=2, embed_dim=16)
    assert {config.training.batch_size for config in found.values()} == {2}
    assert found["one"].model.embed_dim == 16
    with pytest.raises(UserError, match="--set lr: arm 'two' sets this field itself"):
        configs(lr=0.1)


def test_another_type_of_model_drops_the_model_fields_of_settings(configs):
    other = configs()["other"]
    assert other.model.type == "stid" and not hasattr(other.model, "embed_dim")


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_an_unknown_field_of_settings_is_named_with_its_line(profile, traffic, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS.replace("  embed_dim: 24", "  embed_dm: 24"))
    with pytest.raises(UserError, match=r"settings\.yaml:6: .*did you mean 'embed_dim'"):
        make_plan(
            load_matrix(path),
            traffic,
            Machine("cpu", 1, 1),
            dataset=None,
            profile=profile,
            settings={},
            seeds=1,
            out=tmp_path,
        )


def test_a_bad_value_of_settings_is_named_with_its_line_and_one_of_set_is_not(traffic, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    matrix = load_matrix(path)
    with pytest.raises(UserError, match=r"^--set embed_dim: model\.embed_dim: "):
        compose_with(matrix.of("quick"), {"embed_dim": "wide"}, profile="quick")
    path.write_text(SETTINGS.replace("embed_dim: 24", "embed_dim: wide"))
    with pytest.raises(UserError, match=rf"^{path}:6: model\.embed_dim: .*got 'wide'"):
        compose_with(load_matrix(path).of("quick"), {}, profile="quick")


def test_an_arm_that_is_another_data_set_is_refused(traffic, tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("name: d\nbase: simulated\narms: {a: {}, b: {dataset: {name: PEMS08}}}\nbaseline: a\n")
    arguments = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 1, "out": tmp_path}
    with pytest.raises(UserError, match=r"d\.yaml:3: arm 'b' sets dataset\.name: an arm cannot be another data set"):
        make_plan(load_matrix(path), traffic, Machine("cpu", 1, 1), **arguments)


def test_an_arm_that_needs_a_graph_is_left_out_with_a_note_where_there_is_none(traffic, tmp_path, capsys):
    text = "name: g\nbase: simulated\narms: {a: {}, b: {graph_bias: true}}\nbaseline: a\nneeds_graph: [b]\n"
    path = tmp_path / "g.yaml"
    path.write_text(text)
    arguments = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 1, "out": tmp_path / "runs"}
    without = make_plan(load_matrix(path), traffic, Machine("cpu", 1, 1), **arguments)
    assert [at.arm for at in without.cells] == ["a"]
    print_plan(without, 1)
    assert "Note: Arm b is left out: it needs a road graph, and wave has none here." in capsys.readouterr().out
    known = replace(traffic, adjacency=np.eye(traffic.values.shape[1], dtype=np.float32))
    assert [at.arm for at in make_plan(load_matrix(path), known, Machine("cpu", 1, 1), **arguments).cells] == ["a", "b"]
    path.write_text(text.replace("[b]", "[c]"))
    with pytest.raises(UserError, match=r"g\.yaml:5: unknown arm 'c'"):
        make_plan(load_matrix(path), traffic, Machine("cpu", 1, 1), **arguments)


def test_what_distinguishes_a_folder_stays_the_same_from_version_to_version():
    assert short_id(["depth-wave-1", "fusion-wave-2"]) == "fe4b3d"
    assert short_id({"matrix": "tiny", "data": "00"}) == short_id({"data": "00", "matrix": "tiny"}) == "e2d39d"
