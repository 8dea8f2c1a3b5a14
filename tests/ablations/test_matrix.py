"""Matrices from YAML: what is read, and how every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.arms import expand, resolve_arms, varied_fields
from ablations.early_stopping import Asha
from ablations.matrix import Matrix, load_matrices, load_matrix, matrix_file
from altformer.errors import UserError
from experiments.compose import compose

BASE = "name: m\nbase: METR-LA_alternating\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "m.yaml"
    path.write_text(text)
    return path


SHIPPED = {
    "depth": (["1-1-1-1", "2-2-2-2", "3-3-3-3", "1-1-3-3", "1-1-2-2"], "2-2-2-2", "comparison", "futility"),
    "embed_dim": (["48", "64", "96", "128"], "96", "comparison", "futility"),
    "fusion": (
        ["gated", "concat", "cross_attn", "gated_residual", "gated_residual_tanh", "adaptive", "adaptive_fixed"],
        "gated",
        "comparison",
        "futility",
    ),
    "lr": (["lr=0.0001", "lr=0.0003", "lr=0.0005", "lr=0.001", "lr=0.002"], "lr=0.0005", "search", "asha"),
}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("profile", ["quick", "full"])
def test_shipped_matrices_resolve_to_valid_distinct_configurations(name: str, profile: str) -> None:
    names, baseline, kind, scheduler = SHIPPED[name]
    matrix = load_matrix(matrix_file(name))
    arms = expand(matrix)
    varied = varied_fields(arms)
    configs = resolve_arms(
        arms, lambda arm: compose(matrix.base_file, profile=profile, arm=arm.settings, varied=varied)
    )
    assert list(configs) == names
    assert [arm.name for arm in arms if arm.is_baseline] == [baseline]
    assert (matrix.kind, matrix.scheduler.type) == (kind, scheduler)
    assert (matrix.seeds.of("quick"), matrix.seeds.of("full"), matrix.reported) == (3, 5, "test_mae")


def test_shipped_baselines_are_the_guides_baseline_in_full() -> None:
    for name in SHIPPED:
        matrix = load_matrix(matrix_file(name))
        (baseline,) = [arm for arm in expand(matrix) if arm.is_baseline]
        assert compose(matrix.base_file, arm=baseline.settings) == compose(matrix.base_file), name


def test_a_profile_never_sets_what_the_matrix_varies() -> None:
    matrix = load_matrix(matrix_file("embed_dim"))
    arms = expand(matrix)
    varied = varied_fields(arms)
    assert varied == {"model.embed_dim", "model.num_heads"}
    widths = [
        compose(matrix.base_file, profile="quick", arm=arm.settings, varied=varied).model.embed_dim for arm in arms
    ]
    assert widths == [48, 64, 96, 128]


PER_PROFILE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("arms: {a: {lr: {quick: 0.1, full: 0.2}}}", {"a": {"lr": 0.1}}, {"a": {"lr": 0.2}}),
    (
        "arms: {a: {model: {embed_dim: {quick: 24, full: 64}, dropout: 0.1}}}",
        {"a": {"model": {"embed_dim": 24, "dropout": 0.1}}},
        {"a": {"model": {"embed_dim": 64, "dropout": 0.1}}},
    ),
    (
        "arms: {a: {scheduler: {type: MultiStepLR, milestones: {quick: [3, 4], full: [20, 30]}}}}",
        {"a": {"scheduler": {"type": "MultiStepLR", "milestones": [3, 4]}}},
        {"a": {"scheduler": {"type": "MultiStepLR", "milestones": [20, 30]}}},
    ),
    (
        "arms: {a: {scheduler: {quick: constant, full: {type: OneCycleLR}}, steps_per_epoch: {quick: 3, full: null}}}",
        {"a": {"scheduler": "constant", "steps_per_epoch": 3}},
        {"a": {"scheduler": {"type": "OneCycleLR"}, "steps_per_epoch": None}},
    ),
    (
        "grid: {lr: {quick: [0.1], full: [0.2, 0.3]}}",
        {"lr=0.1": {"lr": 0.1}},
        {"lr=0.2": {"lr": 0.2}, "lr=0.3": {"lr": 0.3}},
    ),
    ("grid: {lr: [{quick: 0.1, full: 0.2}]}", {"lr=0.1": {"lr": 0.1}}, {"lr=0.2": {"lr": 0.2}}),
    ("zip: {lr: [{quick: 0.1, full: 0.2}]}", {"lr=0.1": {"lr": 0.1}}, {"lr=0.2": {"lr": 0.2}}),
]


@pytest.mark.parametrize(("text", "quick", "full"), PER_PROFILE)
def test_one_value_for_each_profile(text: str, quick: dict[str, Any], full: dict[str, Any], tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path, f"{BASE}kind: search\n{text}\n"))
    for profile, expected in {"quick": quick, "full": full}.items():
        settled = matrix.of(profile)
        assert {arm.name: arm.settings for arm in expand(settled)} == expected
        assert settled.of("quick") == settled, "settled once and for all"
        assert settled.where("base") == matrix.where("base")


@pytest.mark.parametrize("given", ["depth", "ablations/depth.yaml", "depth.yaml", "ablations/depth"])
def test_a_shipped_matrix_is_found_by_name_from_anywhere(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_matrix(matrix_file(given)).name == "depth"


def test_a_users_file_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "depth.yaml").write_text(f"{BASE}arms: {{a: {{}}}}\nbaseline: a\n")
    assert load_matrix(matrix_file("depth.yaml")).name == "m"


def test_a_mistyped_file_names_the_one_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").touch()
    for given in ("mine.yml", "mien.yaml"):
        with pytest.raises(UserError, match=r"did you mean 'mine\.yaml'\?"):
            matrix_file(given)


@pytest.mark.parametrize(("given", "hint"), [("detph", "'depth'"), ("elsewhere/depth.yaml", "unknown matrix")])
def test_an_unknown_matrix_names_the_nearest(given: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        matrix_file(given)


ERRORS: dict[str, tuple[str, list[str]]] = {
    "unknown key": (f"{BASE}baselin: a\n", ["m.yaml:3", "'baselin'", "did you mean 'baseline'"]),
    "a typo in a key that must be there": ("name: m\nbse: x\n", ["m.yaml:2", "'bse'", "did you mean 'base'"]),
    "unknown key of seeds": (f"{BASE}seeds: {{quick: 1, ful: 2}}\n", ["m.yaml:3", "did you mean 'full'"]),
    "unknown key of the scheduler": (
        f"{BASE}arms: {{a: {{}}}}\nscheduler:\n  type: asha\n  grace_perod: 3\n",
        ["m.yaml:6", "did you mean 'grace_period'"],
    ),
    "unknown key of resources": (f"{BASE}resources:\n  worker: 2\n", ["m.yaml:4", "did you mean 'workers'"]),
    "unknown scheduler": (f"{BASE}scheduler: hyperband\n", ["m.yaml:3: unknown type of scheduler 'hyperband'", "asha"]),
    "no base": ("name: m\narms: {a: {}}\n", ["m.yaml", "'base' is missing"]),
    "unknown objective": (f"{BASE}objective: val_mea\n", ["m.yaml:3", "did you mean 'val_mae'"]),
    "no look": (f"{BASE}looks: 0\n", ["m.yaml:3: looks: ", "greater than or equal to 1, got 0"]),
    "no margin": (f"{BASE}margin: 0\n", ["m.yaml:3: margin: ", "greater than 0, got 0"]),
    "a margin below zero": (f"{BASE}margin: -0.1\n", ["m.yaml:3: margin: ", "greater than 0, got -0.1"]),
    "rungs that do not rise": (
        f"{BASE}scheduler:\n  type: futility\n  rungs: [0.5, 0.25]\n",
        ["m.yaml:5: scheduler.rungs: takes rising shares of the epochs", "got [0.5, 0.25]"],
    ),
    "a rung at the end": (f"{BASE}scheduler: {{type: futility, rungs: [1]}}\n", ["m.yaml:3", "between 0 and 1"]),
    "nothing to tune over": (f"{BASE}tune_per_arm:\n  lr: []\n", ["m.yaml:4: tune_per_arm.lr: takes at least 1"]),
    "a typo in a profile of what is tuned": (
        f"{BASE}tune_per_arm:\n  lr: [{{quik: 0.1, full: 0.2}}]\n",
        ["m.yaml:4: tune_per_arm.lr.0: ", "exactly the keys quick and full"],
    ),
    "seeds in words": (
        f"{BASE}seeds: none\n",
        ["m.yaml:3: seeds: takes a whole number, or {quick: 1, full: 3}", "'none'"],
    ),
    "a mistake in the second claim": (
        f"{BASE}claims:\n  - {{text: t, arm: a, is: best}}\n  - text: u\n    arm: b\n    is: god\n",
        ["m.yaml:7: claims.1.is: takes 'better', 'worse', 'best' or 'slower', got 'god'"],
    ),
    "a typo in the second claim": (
        f"{BASE}claims:\n  - {{text: t, arm: a, is: best}}\n  - {{text: u, amr: b, is: best}}\n",
        ["m.yaml:5: unknown key 'amr'", "did you mean 'arm'"],
    ),
    "a value in the second of two grids": (
        f"{BASE}grid:\n  - {{lr: [0.1]}}\n  - lr: [0.2]\n    dropout: 0.1\n",
        ["m.yaml:6: grid.1.dropout: takes a list of values, got 0.1"],
    ),
    "a share that is no number": (f"{BASE}margin: small\n", ["m.yaml:3: margin: takes a number, got 'small'"]),
    "no seeds": (f"{BASE}seeds: 0\n", ["m.yaml:3", "greater than or equal to 1", "0"]),
    "seeds as a switch": (f"{BASE}seeds: true\n", ["m.yaml:3", "seeds"]),
    "a value that is no list": (f"{BASE}grid:\n  lr: 0.001\n", ["m.yaml:4", "list", "0.001"]),
    "no values": (f"{BASE}grid:\n  lr: []\n", ["m.yaml:4", "at least 1"]),
    "arms as a list": (f"{BASE}arms: [a, b]\n", ["m.yaml:3: arms: takes a mapping"]),
    "a share of a GPU for a group": (
        f"{BASE}resources: {{workers: 2, gpus_per_worker: 0.5}}\n",
        ["m.yaml:3", "a fraction of a GPU needs workers: 1"],
    ),
    "a value for one profile only": (
        f"{BASE}arms:\n  a: {{}}\n  b:\n    embed_dim: {{quick: 32}}\n",
        ["m.yaml:6: arms.b.embed_dim: ", "exactly the keys quick and full, got {'quick': 32}"],
    ),
    "a typo in a profile": (
        f"{BASE}arms:\n  b: {{embed_dim: {{quick: 32, ful: 96}}}}\n",
        ["m.yaml:4: arms.b.embed_dim: ", "exactly the keys quick and full"],
    ),
    "a typo in a profile, deep in a list": (
        f"{BASE}grid:\n  lr: [0.1, {{quik: 0.1, full: 0.2}}]\n",
        ["m.yaml:4: grid.lr.1: ", "exactly the keys quick and full"],
    ),
    "a typo in a profile of the settings": (
        f"{BASE}settings:\n  scheduler: {{type: MultiStepLR, milestones: {{quick: [1], fulll: [2]}}}}\n",
        ["m.yaml:4: settings.scheduler.milestones: "],
    ),
    "an empty list for a profile": (
        f"{BASE}grid:\n  lr: {{quick: [], full: [1]}}\n",
        ["m.yaml:4", "at least 1"],
    ),
    "one value for a profile where a list must be": (
        f"{BASE}grid:\n  lr: {{quick: 0.1, full: [1]}}\n",
        ["m.yaml:4", "list"],
    ),
    "arm written twice": (f"{BASE}arms:\n  a: {{}}\n  a: {{lr: 0.1}}\n", ["m.yaml:5", "'a' is given twice"]),
    "an object in YAML": (f"{BASE}title: !!python/object/apply:os.getcwd []\n", ["m.yaml", "python/object"]),
    "no mapping": ("- a\n- b\n", ["m.yaml", "list"]),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_mistake_in_a_file_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    text, expected = ERRORS[case]
    with pytest.raises(UserError) as caught:
        load_matrix(write(tmp_path, text))
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: 4", {"seeds.quick": 4, "seeds.full": 4}),
        ("seeds: {quick: 1, full: 10}", {"seeds.quick": 1, "seeds.full": 10}),
        ("scheduler: none", {"scheduler.type": "none"}),
        ("scheduler:", {"scheduler.type": "none"}),
        ("scheduler: asha", {"scheduler.type": "asha", "scheduler.reduction_factor": 3}),
        ("scheduler: {type: asha, grace_period: 7}", {"scheduler.grace_period.full": 7}),
        ("objective: val_rmse", {"reported": "test_rmse"}),
        ("baseline: 48", {"baseline": "48"}),
        ("resources: {workers: 2, cpus_per_worker: 3}", {"resources.workers": 2, "resources.cpus_per_worker": 3}),
    ],
)
def test_short_forms(text: str, expected: dict[str, Any], tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path, f"{BASE}arms: {{48: }}\n{text}\n"))
    for path, value in expected.items():
        found: Any = matrix
        for part in path.split("."):
            found = getattr(found, part)
        assert found == value


def test_the_base_is_looked_for_beside_the_matrix_first(tmp_path: Path) -> None:
    own = tmp_path / "METR-LA_alternating.yaml"
    own.write_text("dataset: simulated\n")
    assert load_matrix(write(tmp_path, BASE)).base_file.resolve() == own.resolve()
    own.unlink()
    assert load_matrix(write(tmp_path, BASE)).base_file.parent.name == "experiments"


def test_an_unknown_base_is_named_with_its_line(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path, "name: m\nbase: METR-LA_alternatin\n"))
    with pytest.raises(UserError, match=r"m\.yaml:2: .*did you mean 'METR-LA_alternating"):
        _ = matrix.base_file


def test_changed_keeps_the_file_and_refuses_what_is_not_valid(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path, BASE))
    changed = matrix.changed({"scheduler": "asha", "resources": {"workers": 2}})
    assert isinstance(changed.scheduler, Asha)
    assert (changed.resources.workers, changed.where("base")) == (2, matrix.where("base"))
    assert matrix.resources.workers == 1
    with pytest.raises(UserError, match=r"command line: resources\.workers: .*got 0"):
        matrix.changed({"resources": {"workers": 0}})


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\nb", "=x", "..", "<&>", "x" * 300, "   ", "ab-c_1"])
def test_the_slug_is_safe_in_a_path(name: str, tmp_path: Path) -> None:
    slug = Matrix(name=name, base="b").slug
    folder = tmp_path / slug
    assert folder.parent == tmp_path and slug.strip(".") == slug
    folder.mkdir()  # also a name that the file system takes
    assert name != "ab-c_1" or slug == name


def test_options_of_a_users_own_model_may_be_called_full(tmp_path: Path) -> None:
    text = f"{BASE}arms: {{a: {{}}, b: {{model: {{class: 'my.models:Mine', full: true}}}}}}\nbaseline: a\n"
    assert load_matrix(write(tmp_path, text)).arms["b"]["model"]["full"] is True


def test_a_matrix_given_twice_is_refused_by_path_and_by_name(tmp_path: Path) -> None:
    shipped = matrix_file("depth")
    copy = tmp_path / "mine.yaml"
    copy.write_text(shipped.read_text())
    (tmp_path / "link.yaml").symlink_to(copy)
    for names in (
        ["depth", "depth"],
        ["depth", str(shipped)],
        ["all", "depth"],
        [str(copy), f"{tmp_path}/./mine.yaml"],
    ):
        with pytest.raises(UserError, match="is given twice"):
            load_matrices(names)
    with pytest.raises(UserError, match="is given twice"):
        load_matrices([str(copy), str(tmp_path / "link.yaml")])
    with pytest.raises(
        UserError, match=r"mine\.yaml:2: two matrices are named 'depth' \(the other at .*depth\.yaml:2\)"
    ):
        load_matrices(["depth", str(copy)])
    assert [matrix.name for matrix in load_matrices(["fusion", "depth"])] == ["fusion", "depth"]


def test_a_matrix_is_called_as_the_command_takes_it(tmp_path: Path) -> None:
    assert load_matrix(matrix_file("embed_dim")).called == "embed_dim"
    path = write(tmp_path, BASE)
    assert load_matrix(path).called == str(path) and Matrix(name="m", base="b").called == "m"
