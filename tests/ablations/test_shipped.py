"""Every shipped matrix, resolved for both profiles without training; test_guide.py holds each arm's values."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from ablations.claims import Claim
from ablations.matrix import PACKAGE, load_matrix, matrix_files, shipped_matrices
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.union import make_union, shared_cells, sharing
from altformer.data.simulated import simulate
from experiments.cell import Machine

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in PACKAGE.glob("*.yaml"))
TO_THE_END = ("baselines", "datasets", "identity", "loss", "regularization", "schedule", "stages")
SCHEDULERS = {"lr": "asha"} | dict.fromkeys(TO_THE_END, "none")
NOT_IN_ALL = {"baselines", "datasets", "fair_lr"}

# Arms that are the baseline of everything, so that their cells are one.
QUICK_BASELINES = {
    "baselines/altformer",
    "capacity/baseline",
    "data/baseline",
    "datasets/phase1",
    "depth/2-2-2-2",
    "embedding/all_on",
    "fusion/gated",
    "identity/identity=true,adaptive=true",
    "loss/masked_mae",
    "lr/lr=0.002",
    "patch/3",
    "positional/sincos",
    "regularization/baseline",
    "stages/phase1",
}
FULL_BASELINES = QUICK_BASELINES - {"lr/lr=0.002", "patch/3"} | {
    "embed_dim/96",
    "lr/lr=0.0005",
    "patch/1",
    "schedule/constant",
}


@cache
def data():
    return simulate(sensors=8, days=8, seed=0)


@cache
def plan(name: str, profile: str) -> Plan:
    settings = {"sensors": 8, "days": 8}
    return make_plan(
        load_matrix(PACKAGE / f"{name}.yaml"),
        data(),
        Machine(),
        dataset="simulated",
        profile=profile,
        settings=settings,
        seeds=1,
        out=Path("nowhere"),
    )


@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_it_resolves_and_its_baseline_is_the_one_of_all(name: str, profile: str) -> None:
    found = plan(name, profile)
    assert found.params.keys() == {arm.name for arm in found.arms}
    assert found.matrix.name == name
    assert found.matrix.scheduler.type == SCHEDULERS.get(name, "futility")


@pytest.mark.parametrize(("profile", "names"), [("quick", QUICK_BASELINES), ("full", FULL_BASELINES)])
def test_the_baselines_of_the_matrices_are_one_cell(profile: str, names: set[str]) -> None:
    plans = [plan(name, profile) for name in NAMES]
    plans = [one for one in plans if not one.matrix.tune_per_arm]  # whose cells are known only when they are tuned
    of_depth = next(at.cell.hash for at in plan("depth", profile).cells if at.arm == "2-2-2-2")
    assert set(sharing(plans)[of_depth]) == names
    assert plan("depth", profile).cells[0].cell.hash not in shared_cells(plans)


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_all_is_one_plan_of_the_distinct_cells(profile: str) -> None:
    plans = [plan(path.stem, profile) for path in shipped_matrices()]
    union = make_union("all", plans, Path("nowhere"))
    assert union is not None
    compared = [one for one in plans if one.matrix.name != "lr"]
    hashes = [at.cell.hash for at in union.cells]
    assert len(hashes) == len(set(hashes)) and set(hashes) == set(sharing(compared))


def test_all_is_every_matrix_of_the_guide() -> None:
    assert {path.stem for path in matrix_files(["all"])} == set(NAMES) - NOT_IN_ALL


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("embed_dim", "baselines", "patch")])
def test_quick_cells_stay_small(name: str) -> None:
    for at in plan(name, "quick").cells:
        assert at.cell.config.training.batch_size <= 16 and at.cell.config.training.epochs <= 5
        assert getattr(at.cell.config.model, "embed_dim", 0) <= 48, at.arm


def test_parameter_claims_count_at_the_full_profiles_sizes() -> None:
    quick, full = plan("stages", "quick"), plan("stages", "full")
    claims: tuple[Claim, ...] = quick.matrix.claims
    about = {claim.arm for claim in claims if claim.parameters or claim.parameters_fewer}
    assert about == {"phase2_shared", "phase3"}
    assert quick.claimed_params == {name: full.params[name] for name in (*about, "phase1")}
    assert quick.params["phase1"] != full.params["phase1"]


def test_every_matrix_has_its_make_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"make ([a-z0-9-]+)", listed))
    wanted = {name: f"ablation-{name.replace('_', '-')}" for name in NAMES} | {"baselines": "baselines"}
    assert {*wanted.values(), "ablation-all", "tune", "results"} <= targets
    for name, target in {**wanted, "all": "ablation-all"}.items():
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert re.search(rf" ablate .* {name}$", done.stdout, re.MULTILINE), done.stdout
    datasets = subprocess.run(["make", "-n", "ablation-datasets"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--dataset at-hand" in datasets.stdout
