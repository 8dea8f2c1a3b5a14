"""The JSON Schemas of `altformer schema` take what the commands take, and refuse a misspelled key."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from ablations.accuracy.plan import PACKAGE as CAMPAIGNS
from ablations.accuracy.plan import load_plan
from ablations.arms import expand
from ablations.matrix import PACKAGE as MATRICES
from ablations.matrix import load_matrix
from ablations.schema_command import SCHEMAS, schema_text
from ablations.tuning.plan import load_tuning
from altformer.errors import UserError
from experiments.cli import main
from experiments.cluster_command import load_config
from experiments.compose import HERE, compose

ROOT = Path(__file__).parents[2]
SHIPPED = [
    *(("experiment", path) for path in sorted(HERE.glob("*.yaml")) if path.stem != "tuning"),
    *(("experiment", path) for path in sorted((HERE / "profiles").glob("*.yaml"))),
    ("tuning", HERE / "tuning.yaml"),
    *(("matrix", path) for path in sorted(MATRICES.glob("*.yaml"))),
    *(("campaign", path) for path in sorted(CAMPAIGNS.glob("*.yaml"))),
    ("cluster", ROOT / "tests" / "cluster" / "launch" / "full.yaml"),
]
READ = {
    "experiment": compose,
    "matrix": lambda path: [compose(load_matrix(path).base_file, arm=arm.settings) for arm in resolved(path)],
    "tuning": lambda path: load_tuning(path, "quick"),
    "campaign": lambda path: load_plan(str(path)),
    "cluster": load_config,
}
DATA = "dataset: simulated\n"
MATRIX = "name: m\nbase: simulated\n"
ARMS = "arms: {a: , b: {lr: 0.01}}\nbaseline: a\n"
STAGES = "base: simulated\nstages:\n  one: "
STEPS = "name: c\nbase: simulated\nsteps:\n  "

ACCEPTED = [
    ("experiment", DATA + "lr: 0.01\nscheduler: OneCycleLR\noptimizer: Adam\nmodel: stid\n"),
    ("experiment", "dataset: {path: a.csv, null_value: NaN, split: [7, 1, 2], graph: g.csv}\nseed: 3\n"),
    ("experiment", DATA + "model.embed_dim: 32\noptimizer.type: Muon\ntraining: {optimizer.lr_groups: {head: 0.1}}\n"),
    ("experiment", DATA + "model: {class: 'my.module:Model', width: 3}\n"),
    ("experiment", DATA + "training: {scheduler: {type: OneCycleLR, anneal_strategy: cos}, steps_per_epoch: null}\n"),
    ("experiment", DATA + "scheduler: constant\nscheduler.warmup_epochs: 2\ntraining: {optimizer.type: Adam}\n"),
    ("matrix", MATRIX + ARMS + "scheduler: none\nseeds: 2\n"),
    ("matrix", MATRIX + ARMS + "scheduler:\nseeds: {quick: 1, full: 2}\n"),
    ("matrix", MATRIX + ARMS + "scheduler: {type: futility, margin: 0.1}\nretries: {per_cell: 0}\n"),
    ("matrix", MATRIX + "grid: {lr: [0.1, 0.2]}\nkind: search\nscheduler: asha\n"),
    ("matrix", MATRIX + "grid: [{lr: {quick: [0.1], full: [0.2]}}, {dropout: [0.2]}]\nkind: search\n"),
    ("matrix", MATRIX + "zip: {model.embed_dim: [32, 48]}\nlabels: '{embed_dim}'\nbaseline: 48\n"),
    ("matrix", MATRIX + "arms: {16: {embed_dim: 16}, 32: {embed_dim: {quick: 32, full: 64}}}\nbaseline: 16\n"),
    ("matrix", MATRIX + ARMS + "aliases: {c: {of: a, against: b}}\npublished: {METR-LA: {X: {3: 2.5, all: 3}}}\n"),
    ("matrix", MATRIX + ARMS + "claims: [{text: t, arm: b, parameters: [1, 2]}]\ntune_per_arm: {dropout: [0, 0.1]}\n"),
    ("matrix", MATRIX + "arms: {a: {model: stid}, b: {model: {type: stid, dropout: 0.3}}}\nbaseline: a\n"),
    ("tuning", STAGES + "{type: arms, arms: {a: , b: {lr: {quick: 0.1, full: 1}}}, epochs: {quick: null, full: 3}}\n"),
    ("tuning", STAGES + "{type: search, grid: {lr: [1, 2]}, space: {lr: {type: uniform, low: 0, high: 1}}}\n"),
    ("tuning", STAGES + "{type: search, grid: {lr: {quick: [1], full: [1, 2]}}, scheduler: asha, seeds: 2}\n"),
    ("campaign", STEPS + "first: {datasets: [METR-LA], seeds: 1, settings: }\n"),
    ("campaign", STEPS + "tune: {x: {candidates: {y: , z: {lr: 0.1}}}}\n  final: {datasets: {PEMS08: {lr: 0.1}}}\n"),
]
REFUSED = [
    ("experiment", DATA + "lrr: 0.01\n"),
    ("experiment", DATA + "training: {lrr: 0.01}\n"),
    ("experiment", DATA + "scheduler: {type: OneCycleLR, max_rl: 0.01}\n"),
    ("experiment", DATA + "scheduler: OneCycle\n"),
    ("experiment", DATA + "epochs: many\n"),
    ("experiment", DATA + "augmentation: {noise: 0.1}\n"),
    ("experiment", DATA + "model: {embed_dims: 3}\n"),
    ("matrix", MATRIX + ARMS + "baselin: a\n"),
    ("matrix", MATRIX + ARMS.replace("lr", "lrr")),
    ("matrix", MATRIX + ARMS.replace("0.01", "fast")),
    ("matrix", MATRIX + "grid: {lr: 0.1}\nkind: search\n"),
    ("matrix", MATRIX + ARMS + "scheduler: futile\n"),
    ("matrix", MATRIX + ARMS + "objective: val_mea\n"),
    ("matrix", MATRIX + ARMS + "published: {METR-LA: {X: {al: 3}}}\n"),
    ("tuning", "settings: {lrr: 1}\n" + STAGES + "{type: arms, arms: {a: }}\n"),
    ("tuning", STAGES + "{type: search, grid: {lr: [1]}, space: {lrr: {type: uniform, low: 0, high: 1}}}\n"),
    ("tuning", STAGES + "{type: arm, arms: {a: }}\n"),
    ("campaign", STEPS + "frist: {datasets: [METR-LA]}\n"),
    ("cluster", "nodse: 3\n"),
]


def resolved(path):
    """The arms of a matrix, those of a user's own model left out: there is none to import."""
    return expand(load_matrix(path).of("quick"))


@cache
def schema(kind):
    content = json.loads(schema_text(kind))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def mistakes(kind, text):
    """What the schema says of a file; keys are text, as in JSON."""
    return [error.message for error in schema(kind).iter_errors(json.loads(json.dumps(yaml.safe_load(text))))]


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda part: getattr(part, "stem", part))
def test_shipped_files_are_valid_and_with_a_misspelled_key_not(kind, path):
    text = path.read_text()
    assert mistakes(kind, text) == []
    assert mistakes(kind, yaml.safe_dump({**yaml.safe_load(text), "sede": 1}))


@pytest.mark.parametrize(("kind", "text"), ACCEPTED)
def test_what_the_commands_accept_is_valid(kind, text, tmp_path):
    (tmp_path / "my.yaml").write_text(text)
    READ[kind](tmp_path / "my.yaml")
    assert mistakes(kind, text) == []


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_mistakes_are_found_by_both(kind, text, tmp_path):
    (tmp_path / "my.yaml").write_text(text)
    assert mistakes(kind, text)
    with pytest.raises(UserError):
        READ[kind](tmp_path / "my.yaml")


def test_the_command_prints_one_and_names_the_kinds(capsys):
    for kind in SCHEMAS:
        assert main(["schema", kind]) == 0
        assert json.loads(capsys.readouterr().out) == schema(kind).schema
    assert main(["schema", "matrx"]) == 2
    assert "unknown kind of file 'matrx'; did you mean 'matrix'?" in capsys.readouterr().err
