"""Several matrices as one plan: each distinct cell once, every slot filled, and each matrix still its own."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest

from ablations.groups import make_group
from ablations.matrix import load_matrix, matrix_files
from ablations.planning import make_plan
from ablations.terminal import print_group
from ablations.union import make_union, shared_cells
from altformer.errors import UserError
from experiments.cell import Machine, write_failure
from experiments.cli import main
from tests.faults.harness import Matrix
from tests.faults.process import Process
from tests.small import SMALL, as_settings

RATES = "name: rates\nbase: simulated\narms: {low: {lr: 0.001}, high: {lr: 0.003}}\nbaseline: low\nseeds: 2\n"
DROPS = (
    "name: drops\nbase: simulated\nsettings: {lr: 0.001}\narms: {none: {}, some: {dropout: 0.2}}\n"
    "baseline: none\nseeds: 2\n"
)
SEARCH = (
    "name: search\nkind: search\nbase: simulated\ngrid: {lr: [0.001, 0.01]}\nbaseline: lr=0.001\nseeds: 2\n"
    "scheduler: {type: asha, grace_period: 1, reduction_factor: 2}\n"
)
SETTINGS = {**SMALL, "epochs": 2, "steps_per_epoch": 3}


@pytest.fixture
def files(tmp_path):
    found = []
    for name, text in {"rates": RATES, "drops": DROPS, "search": SEARCH}.items():
        found.append(tmp_path / f"{name}.yaml")
        found[-1].write_text(text)
    return found


@pytest.fixture
def plans(files, traffic, tmp_path):
    def make(seeds=2, which=files, **changes):
        arguments = {"dataset": None, "profile": "quick", "settings": {}, "out": tmp_path / "runs"} | changes
        return [make_plan(load_matrix(path), traffic, Machine(), seeds=seeds, **arguments) for path in which]

    return make


def options(out, **changes):
    return ["--out", str(out), "--profile", "quick", *as_settings({**SETTINGS, **changes})]


def test_each_distinct_cell_once_and_whole_seeds_first(plans, tmp_path):
    rates, drops, search = plans()
    union = make_union("several", [rates, drops, search], tmp_path / "runs")
    assert [(at.arm, at.seed) for at in union.cells] == [
        ("rates/low", 0),
        ("rates/high", 0),
        ("drops/some", 0),
        ("rates/low", 1),
        ("rates/high", 1),
        ("drops/some", 1),
    ]
    assert union.params == {"rates/low": rates.params["low"], "rates/high": rates.params["high"]} | {
        "drops/some": drops.params["some"]
    }
    assert set(shared_cells([rates, drops, search])[rates.cells[0].cell.hash]) == {
        "rates/low",
        "drops/none",
        "search/lr=0.001",
    }
    assert union.matrix.baseline is None and union.scheduler["type"] == "none"


def test_a_search_and_other_resources_stay_on_their_own(plans, tmp_path):
    rates, drops, search = plans()
    group = make_group("several", [search, rates, drops], tmp_path)
    assert [group.in_union(plan) for plan in group.plans] == [False, True, True]
    assert make_union("several", [search], tmp_path) is None
    assert make_group("several", [rates], tmp_path).union is None, "one matrix is its own plan"


def test_the_folder_names_the_matrices_and_not_their_seeds(plans, tmp_path):
    folder = make_union("several", plans(), tmp_path).folder
    assert make_union("several", plans(seeds=4), tmp_path).folder == folder
    assert make_union("several", list(reversed(plans())), tmp_path).folder == folder
    assert make_union("several", plans(settings={"weight_decay": 0.1}), tmp_path).folder != folder


def test_what_is_settled_is_not_run_again(plans, tmp_path):
    cell = plans()[0].cells[0].cell
    record = write_failure(cell, "", {}) | {"status": "done", "error": None}
    (cell.folder / "record.json").write_text(json.dumps(record))
    found = plans()
    union = make_union("several", found, tmp_path / "runs")
    assert len(union.to_run) == len(union.cells) - 1
    assert [len(plan.to_run) for plan in found] == [3, 3, 3]


def test_the_printed_plan_has_every_number(plans, tmp_path, capsys):
    print_group(make_group("several", plans(), tmp_path), 2)
    printed = capsys.readouterr().out
    assert "12 cells, 8 distinct, 2 shared, 8 to run, 2 at once" in printed
    assert "is one cell: rates/low, drops/none, search/lr=0.001" in printed
    assert "asha (on its own)" in printed and "not comparable with published ones" in printed


def test_a_matrix_given_twice_is_refused():
    with pytest.raises(UserError, match="matrix depth is given twice"):
        matrix_files(["all", "depth"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["depth", "fusoin"], "did you mean 'fusion'"),
        (["depth", "--dataset", "at-hand"], "--dataset at-hand: none of METR-LA"),
        (["depth", "--dataset", "simulated,simulated"], "different names"),
        (["depth", "--dataset", "simulated,"], "different names"),
        (["depth", "fusion", "--dataset", "simulated", "--set", "fusion_type=gated"], "fusion_type.*arm"),
    ],
)
def test_mistakes_end_with_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    import re

    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path / "empty"))
    assert main(["ablate", *arguments, "--profile", "quick", "--out", str(tmp_path / "runs")]) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed, re.DOTALL) and "Traceback" not in printed, printed
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_all_writes_nothing(tmp_path, capsys):
    out = tmp_path / "runs"
    small = ["--profile", "quick", "--set", "sensors=8", "--set", "days=8"]
    assert (
        main(["ablate", "all", "--dataset", "simulated", *small, "--seeds", "1", "--dry-run", "--out", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    assert "distinct" in printed and "depth/2-2-2-2" in printed and "stages/phase1" in printed
    assert not out.exists()


def rows(out, name):
    [path] = out.glob(f"{name}-simulated-*/cells.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_the_whole_way_of_several_matrices(files, tmp_path, capsys):
    from mlflow import MlflowClient

    out = tmp_path / "runs"
    assert main(["ablate", *map(str, files), *options(out)]) == 0
    [union] = out.glob("several-simulated-*")
    cells = {path.parent.name for path in out.glob("cells/*/record.json")}
    hashes = {name: [row["cell_hash"] for row in rows(out, name)] for name in ("rates", "drops", "search")}
    assert set().union(*hashes.values()) == cells and len(cells) == 8
    assert hashes["rates"][0] == hashes["drops"][0] == hashes["search"][0]
    client = MlflowClient(f"sqlite:///{out.resolve() / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 4 and {run.info.status for run in parents} == {"FINISHED"}
    children = [run for run in runs if run.data.tags.get("matrix") == "drops" and run not in parents]
    assert len(children) == 4
    assert {run.data.tags["reused_from"] for run in children} == {union.name}
    assert not [run for run in runs if run.data.tags.get("matrix") == "several" and "reused_from" in run.data.tags]
    summary = (union / "summary.md").read_text()
    assert "3 matrices with 12 cells, 8 of them distinct" in summary and "not comparable" in summary
    for name in ("rates", "drops", "search"):
        [folder] = out.glob(f"{name}-simulated-*")
        assert f"(../{folder.name}/report.md)" in summary and (folder / "report.md").is_file()
    written = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/record.json")}
    capsys.readouterr()
    assert main(["ablate", *map(str, files), *options(out)]) == 0
    assert "0 to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(client.search_runs([one.experiment_id for one in client.search_experiments()])) == len(runs)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_a_failed_cell_is_tried_once_and_is_the_exit_code(files, tmp_path, capsys):
    out = tmp_path / "runs"
    two = [str(path) for path in files[:2]]
    plan = [make_plan_of(path, out) for path in files[:2]]
    broken = next(at.cell for at in plan[0].cells if at.arm == "low")
    broken.folder.mkdir(parents=True)
    (broken.folder / "checkpoints").write_text("a file where a folder must be")
    assert main(["ablate", *two, *options(out), "--seeds", "1"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("cells to run, ") == 1, "not again in each matrix that has it"
    assert [row["status"] for row in rows(out, "rates")] == ["failed", "done"]
    assert [row["status"] for row in rows(out, "drops")] == ["failed", "done"]
    (broken.folder / "checkpoints").unlink()
    assert main(["ablate", *two, *options(out), "--seeds", "1"]) == 0
    assert [row["status"] for row in rows(out, "drops")] == ["done", "done"]


def make_plan_of(path, out):
    from altformer.data.simulated import simulate

    matrix = load_matrix(path)
    machine = Machine("cpu", matrix.resources.cpus_per_worker, 1)
    return make_plan(
        matrix, simulate(8, 8), machine, dataset=None, profile="quick", settings=SETTINGS, seeds=1, out=out
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_leaves_all_of_it_to_go_on(tmp_path, close):
    low = {"lr": 0.001}
    rates = Matrix(tmp_path, name="rates", arms={"low": low, "high": {"lr": 0.003}}, epochs=6, epoch_seconds=1.0)
    drops = Matrix(tmp_path, name="drops", arms={"none": low, "some": {"clip_norm": 1}}, epochs=6, epoch_seconds=1.0)
    out = tmp_path / "runs"
    given = ["ablate", str(rates.file), str(drops.file), "--out", str(out), "--profile", "full"]
    process = close(Process([*given, "--probe-seconds", "0"], tmp_path, {}))
    process.wait_until("cells train", lambda: len(list(out.glob("cells/*/checkpoints/epoch-*"))) >= 3)
    process.kill(number=signal.SIGINT)
    assert process.wait(60) == 130 and "the same command goes on" in process.output, process.output
    assert not list(out.glob("*/summary.md"))
    rates.hurry()
    done = close(Process([*given, "--probe-seconds", "0"], tmp_path, {}))
    assert done.wait() == 0, done.output
    assert [row["status"] for row in rows(out, "drops")] == ["done"] * 2
    assert list(out.glob("*/summary.md"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_several_data_sets_end_in_one_table(files, tmp_path, metr_la_dir, monkeypatch):
    monkeypatch.setenv("ALTFORMER_DATA", str(metr_la_dir))
    out = tmp_path / "runs"
    tiny = {name: value for name, value in SETTINGS.items() if name not in ("sensors", "days")}
    tiny |= {"epochs": 1, "val_stride": 400, "test_stride": 400, "patch_len": 12}
    arguments = ["--dataset", "METR-LA,simulated", "--profile", "quick", "--seeds", "1", "--out", str(out)]
    assert main(["ablate", str(files[0]), *arguments, *as_settings(tiny)]) == 0
    [folder] = out.glob("rates-2-data-sets-*")
    with (folder / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["dataset"], row["arm"]) for row in table] == [
        ("METR-LA", "low"),
        ("METR-LA", "high"),
        ("simulated", "low"),
        ("simulated", "high"),
    ]
    for row in table:
        [path] = [path for path in out.glob(f"rates-{row['dataset']}-*/cells.csv") if path.is_file()]
        with path.open(newline="") as file:
            [cell] = [cell for cell in csv.DictReader(file) if cell["arm"] == row["arm"]]
        assert float(row["test_mae_12_mean"]) == float(cell["test_mae_12"])
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.tex", "table.csv"}


def test_one_page_over_all_names_every_claim(files, tmp_path):
    """Kept apart from the run: the page needs only plans and reports."""
    from ablations.reports.data import build_report
    from ablations.reports.facts import RunInfo
    from ablations.reports.overview import write_overview
    from ablations.running import Finished

    path = Path(files[0])
    path.write_text(RATES + "claims: [{text: high is worse, arm: high, is: worse}]\n")
    finished = []
    for file in files[:2]:
        plan = make_plan_of(file, tmp_path / "runs")
        finished.append(Finished(plan, build_report(plan.matrix, plan.arms, [], RunInfo("x", "quick", "c")), None))
    union = make_union("several", [one.plan for one in finished], tmp_path / "runs")
    report = build_report(union.matrix, union.arms, [], RunInfo("x", "quick", "c"))
    text = write_overview(union.folder, Finished(union, report, None), finished).read_text()
    assert "| rates | high is worse | high | not testable here (no numbers of both high and low) |" in text
    assert text.count("not comparable with published numbers") == 4
    assert text.count("are judged by the test MAE.") == 1
    assert "embed\\_dim 32, patch\\_len 3, batch\\_size 8, epochs 5" in text, "what quick means, from its file"
    assert text.index("## Claims") < text.index("## rates") < text.index("## drops") < text.index("## Provenance")
