"""YAML files and classes of a user's own that must be refused: the text, and what the message must say."""

from __future__ import annotations

from tests.faults.bad_readings import CANARY

MODEL = "model: {embed_dim: 8, num_heads: 2, adaptive_dim: 4}\n"
TRAINING = "training: {batch_size: 16, epochs: 1, steps_per_epoch: 2}\n"
EXPERIMENT = "dataset: {{path: {file}{more}}}\n" + MODEL.replace("{", "{{").replace("}", "}}")
EXPERIMENT += TRAINING.replace("{", "{{").replace("}", "}}")
MATRIX = "name: m\nbase: exp.yaml\narms: {a: {}, b: {lr: 0.01}}\nbaseline: a\n"
PLAN = "base: exp.yaml\nstages:\n  s: {type: arms, arms: {a: {}, b: {lr: 0.01}}}\n"

#: Text of a YAML file -> words; `{file}` is the name of the file that it is tried as.
YAMLS: dict[str, tuple[str, list[str]]] = {
    "broken": ("a: [1, 2\n", ["{file}:2: broken YAML"]),
    "a tab": ("a:\n\t- 1\n", ["{file}:2: broken YAML"]),
    "a list": ("- a\n- b\n", ["{file}: must hold 'key: value' lines, got a list"]),
    "empty": ("", ["{file}: '", "' is missing"]),
    "a word": ("hello\n", ["{file}: must hold 'key: value' lines, got a str"]),
    "binary": ("name: x\nbase: \x00\n", ["{file}:2: broken YAML: the character 0x0"]),
    "a key twice": ("base: exp.yaml\nbase: b\n", ["{file}:2: key 'base' is given twice"]),
    "a key that is a list": ("? [1, 2]\n: 3\n", ["{file}:1: a key must be plain text"]),
    "two documents": ("base: x\n---\nbase: y\n", ["{file}:2: broken YAML"]),
    "an impossible date": ("base: 2020-13-45\n", ["{file}:1: broken YAML: month must be"]),
    "a number without end": ("base: 1" + "0" * 9000 + "\n", ["{file}:1: broken YAML"]),
    "a call": (f"base: !!python/object/apply:os.system ['touch {CANARY}']\n", ["{file}:1: broken YAML", "os.system"]),
    "a new object": (f"base: !!python/object/new:os.system ['touch {CANARY}']\n", ["{file}:1: broken YAML"]),
    "a module": ("base: !!python/module:this\n", ["{file}:1: broken YAML"]),
    "a name": ("base: !!python/name:os.system\n", ["{file}:1: broken YAML"]),
    "a tag of nobody's": ("base: !secret x\n", ["{file}:1: broken YAML"]),
    "an endless alias": ("base: &a {b: *a}\n", ["{file}:1: broken YAML: an anchor holds an alias for itself"]),
    "a bomb of lists": (
        "a0: &a0 [x, x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(12)),
        ["{file}:7: its aliases (*name) unfold to more"],
    ),
    "a bomb of mappings": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{k + 1}: &a{k + 1} {{{', '.join(f'k{j}: *a{k}' for j in range(9))}}}\n" for k in range(12)),
        ["{file}:7: its aliases (*name) unfold to more"],
    ),
    "deep lists": ("base: " + "[" * 5000 + "]" * 5000 + "\n", ["{file}: broken YAML: nested more than 40 deep"]),
    "deep mappings": ("base: " + "{a: " * 99 + "1" + "}" * 99 + "\n", ["{file}:1: broken YAML: nested more than 40"]),
    "10 MB": ("base: exp.yaml\n" + "# nothing\n" * 1_000_000, ["{file}: larger than 1 MB"]),
    "an unknown key": ("base: exp.yaml\nnmae: x\n", ["{file}:2: unknown ", "'nmae'", "did you mean 'name'?"]),
}

EXPERIMENTS: dict[str, tuple[str, list[str]]] = {
    "a wrong type": ("dataset: {path: ok.csv}\nepochs: many\n", ["exp.yaml:2: training.epochs: takes a whole number"]),
    "a type deep in it": (
        "dataset: {path: ok.csv}\ntraining:\n  scheduler:\n    type: OneCycleLR\n    max_lr: high\n",
        ["exp.yaml:3: training.scheduler.max_lr: takes a number, got 'high'"],
    ),
    "an unknown type": ("dataset: {path: ok.csv}\nscheduler: sometimes\n", ["exp.yaml:2: unknown type", "constant"]),
    "a section that is a list": ("dataset: [a]\n", ["exp.yaml:1: dataset: takes a mapping", "['a']"]),
    "NaN as a rate": ("dataset: {path: ok.csv}\nlr: .nan\n", ["exp.yaml:2: training.lr: must be", "got nan"]),
    "no data set": ("lr: 0.1\n", ["exp.yaml: 'dataset' is missing"]),
    "two data sets": ("dataset: {path: ok.csv, name: METR-LA}\n", ["give exactly one of name"]),
    "an unknown data set": ("dataset: METRLA\n", ["unknown data set 'METRLA'; did you mean 'METR-LA'"]),
    "a data set without its file": ("dataset: METR-LA\n", ["METR-LA: no file", "ALTFORMER_DATA"]),
    "parts of nothing": (
        "dataset: {path: ok.csv, split: [1, 0, 1]}\n",
        ["exp.yaml:1: dataset: split needs"],
    ),
    "no time step": ("dataset: {path: ok.csv, freq: often}\n", ["freq: 'often' is not a time step"]),
    "another time step": ("dataset: {path: ok.csv, freq: 15min}\n", ["ok.csv", "gap: 1 x 15 minutes", "row 1"]),
    "a base that is not there": ("base: nothing\n", ["unknown experiment file 'nothing'"]),
    "a base of itself": ("base: exp.yaml\n", ["exp.yaml: more than 5 files through 'base'"]),
}

MATRICES: dict[str, tuple[str, list[str]]] = {
    "a wrong type": (f"{MATRIX}seeds: none\n", ["m.yaml:5: seeds: takes a whole number, or {quick", "'none'"]),
    "an unknown key": (f"{MATRIX}baselin: a\n", ["m.yaml:5: unknown key 'baselin'; did you mean 'baseline'?"]),
    "an unknown field of an arm": (MATRIX.replace("lr", "lrr"), ["m.yaml:3", "'lrr'"]),
    "a wrong value in an arm": (MATRIX.replace("0.01", "fast"), ["m.yaml:3: arm 'b': ", "training.lr: takes a number"]),
    "an unknown baseline": (MATRIX.replace("baseline: a", "baseline: z"), ["m.yaml:4", "'z'"]),
    "the second claim": (
        f"{MATRIX}claims:\n  - {{text: t, arm: a, is: best}}\n  - {{text: t, arm: b, is: god}}\n",
        ["m.yaml:7: claims.1.is: takes 'better', 'worse', 'best' or 'slower', got 'god'"],
    ),
    "a wrong value in its settings": (
        f"{MATRIX}settings:\n  dropout: 0.1\n  epochs: many\n",
        ["m.yaml:7: training.epochs: takes a whole number, got 'many'"],
    ),
    "an unknown field in its settings": (f"{MATRIX}settings:\n  epoch: 1\n", ["m.yaml:6: unknown field 'epoch'"]),
    "a base that is not there": (MATRIX.replace("exp.yaml", "nothing"), ["m.yaml:2: unknown experiment file"]),
    "a baseline that is code": (f"{MATRIX}note: !!python/name:os.system\n", ["m.yaml:5: broken YAML"]),
}

PLANS: dict[str, tuple[str, list[str]]] = {
    "a wrong type": (f"{PLAN}settings: 3\n", ["plan.yaml:4: settings: takes a mapping (key: value), got 3"]),
    "an unknown key": (f"{PLAN}stagse: {{}}\n", ["plan.yaml:4: unknown key 'stagse'; did you mean 'stages'?"]),
    "an unknown key of a stage": (PLAN.replace("arms,", "arms, sedes: 1,"), ["plan.yaml:3: unknown key 'sedes'"]),
    "an unknown kind of stage": (PLAN.replace("type: arms", "type: harms"), ["plan.yaml:3: unknown type of stages.s"]),
    "a wrong value in its settings": (
        f"{PLAN}settings:\n  dropout: 0.1\n  epochs: many\n",
        ["plan.yaml:6: training.epochs: takes a whole number, got 'many'"],
    ),
    "a wrong value in an arm": (PLAN.replace("0.01", "fast"), ["plan.yaml:3", "training.lr: takes a number"]),
    "a base that is not there": (PLAN.replace("exp.yaml", "nothing"), ["plan.yaml:1: unknown experiment file"]),
}

MODELS = """
import torch
from torch import nn

class NotAModel: pass

class WantsMore(nn.Module):
    def __init__(self, shape, width): super().__init__()

class Fails(nn.Module):
    def __init__(self, shape): raise ZeroDivisionError("no width")

class TakesOne(nn.Module):
    def __init__(self, shape): super().__init__()
    def forward(self, reading): return reading

class Narrow(nn.Module):
    def __init__(self, shape): super().__init__()
    def forward(self, reading, observed, time_of_day, day_of_week): return reading[:, :, :1]

class Raises(Narrow):
    def forward(self, reading, observed, time_of_day, day_of_week): return reading @ reading
"""
SOURCES = {
    "own_models.py": MODELS,
    "own_broken.py": "def f(:\n",
    "own_raising.py": "raise ValueError('not today')\n",
    "own_leaving.py": "import sys\nsys.exit(3)\n",
    "own_needing.py": "import a_package_that_is_not_there\n",
}
OWN_MODELS: dict[str, tuple[str, list[str]]] = {
    "no such module": ("nowhere.at:All", ["cannot import 'nowhere.at'", "PYTHONPATH"]),
    "what it imports is not there": ("own_needing:M", ["cannot import 'own_needing'", "a_package_that_is_not_there"]),
    "another name": ("own_models:WantMore", ["unknown class 'WantMore'; did you mean 'WantsMore'?"]),
    "no model": ("own_models:NotAModel", ["is no torch.nn.Module class"]),
    "no path of a class": ("own_models.Narrow", ["model.class_path: takes the class as package.module:Name"]),
    "broken source": ("own_broken:M", ["'own_broken' raised SyntaxError", "when it was imported"]),
    "raises when imported": (
        "own_raising:M",
        ["raised ValueError: not today (", "own_raising.py:1) when"],
    ),
    "leaves when imported": ("own_leaving:M", ["'own_leaving' raised SystemExit: 3"]),
    "an option that is missing": ("own_models:WantsMore", ["refused its options", "'width'"]),
    "fails when built": ("own_models:Fails", ["raised ZeroDivisionError: no width", "own_models.py:11)"]),
    "takes other inputs": (
        "own_models:TakesOne",
        ["cannot forecast: model(reading, observed, time_of_day,"],
    ),
    "gives another form": ("own_models:Narrow", ["returned (2, 12, 1), expected (b,h,n) = (2, 12, 4)"]),
    "raises when called": ("own_models:Raises", ["cannot forecast", "RuntimeError"]),
}
