"""From a YAML file and overrides to a validated configuration.

Precedence, later wins: base experiment < data set < profile < ``--set`` < arm. A profile never sets a field that a
matrix varies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from altformer.config import Config
from altformer.errors import UserError, unknown_name
from experiments.fields import SECTIONS, WINDOWS, leaf, leaf_paths, locate, overlap
from experiments.mistakes import rule_of, shortened
from experiments.yaml_file import parse_yaml, read_yaml

HERE = Path(__file__).parent
PROFILES = ("quick", "full")
MAX_BASES = 5
_FILES = ("dataset.path", "dataset.graph")  # fields that name a file of the user's


@dataclass
class Layer:
    """Values by dotted path, each with the place it was written at."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    file: str = ""  # of the experiment, where these are its values

    def set(self, path: str, value: Any, place: str) -> None:
        """Set a field; a whole section or choice replaces what was set below it."""
        for below in [known for known in self.values if known.startswith(f"{path}.")]:
            del self.values[below]
        self.values[path], self.places[path] = value, place

    @property
    def model_type(self) -> str:
        """Which model the values so far describe."""
        return str(self.values.get("model.type", "altformer"))

    def section(self, path: str) -> dict[str, Any]:
        """What stands at a path and right below it; a plain name is a type."""
        whole = self.values.get(path)
        found = dict(whole) if isinstance(whole, Mapping) else {} if whole is None else {"type": whole}
        below = {at.removeprefix(f"{path}."): value for at, value in self.values.items() if at.startswith(f"{path}.")}
        return found | {name.partition(".")[0]: value for name, value in below.items()}

    def update(self, other: Layer, skip: Collection[str] = ()) -> None:
        """Lay another layer on top, leaving out fields at, above or below the skipped ones.

        Another type of model drops the fields of the one below it, since they were chosen for that one.
        """
        if other.values.get("model.type", self.model_type) != self.model_type:
            for path in [path for path in self.values if path.startswith("model.")]:
                del self.values[path]
        for path, value in other.values.items():
            if not any(overlap(path, skipped) for skipped in skip):
                self.set(path, value, other.places[path])


def compose(  # one argument per layer of the precedence
    base: Path,
    *,
    dataset: str | None = None,
    profile: str | None = None,
    settings: Mapping[str, Any] | Layer | None = None,
    arm: Mapping[str, Any] | None = None,
    varied: Collection[str] = (),
) -> Config:
    """The configuration of one run; ``settings`` and ``arm`` map leaf names or dotted paths to values.

    ``settings`` are those of ``--set``, or with them those of a matrix or plan (``settings_over``). ``varied`` names
    the fields that any arm of the matrix sets. Raises UserError with the place of the mistake.
    """
    config = experiment_layer(base)
    if dataset is not None:
        _replace_dataset(config, dataset)
    if profile is not None:
        skip = [locate(name) for name in varied]
        ours = config.model_type == "altformer"  # whose sizes the profile knows
        config.update(profile_layer(profile), skip=skip if ours else [*skip, "model"])
    given = settings if isinstance(settings, Layer) else settings_layer(settings or {}, "--set")
    for layer in (given, settings_layer(arm or {}, "arm")):
        _refuse_idle_rate(config, layer)
        config.update(layer)
    return validate(config)


def experiment_layer(path: Path) -> Layer:
    """The values of an experiment file on top of those of the files its ``base`` names."""
    chain: list[Layer] = []
    following: Path | None = path
    while following is not None:
        if len(chain) == MAX_BASES:
            raise UserError(f"{path}: more than {MAX_BASES} files through 'base'; does one name itself?")
        content, lines = read_yaml(following)
        base = content.pop("base", None)
        place_of = partial(_line_in, following, lines)
        chain.append(_layer(content, place_of, following.parent))
        following = find_experiment(str(base), beside=following.parent) if base is not None else None
    merged = Layer(file=str(path))
    for layer in reversed(chain):
        merged.update(layer)
    return merged


def find_experiment(name: str, beside: Path = Path()) -> Path:
    """An experiment file: a path, a file beside another one, or one that is shipped, by name."""
    stem = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for candidate in (beside / name, beside / stem, HERE / Path(stem).name):
        if candidate.is_file():
            return candidate
    raise unknown_name(
        "experiment file", name, {path.name for folder in (HERE, beside) for path in folder.glob("*.yaml")}
    )


def base_experiment(name: str, of: Path | None, place: str) -> Path:
    """The experiment that the file ``of`` starts from, maybe beside it; UserError with the place where none is."""
    try:
        return find_experiment(name, beside=of.parent if of else Path())
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def profile_layer(name: str) -> Layer:
    """The overlay of a profile."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    path = HERE / "profiles" / f"{name}.yaml"
    content, lines = read_yaml(path)
    return _layer(content, partial(_line_in, path, lines))


def settings_layer(settings: Mapping[str, Any], place: str) -> Layer:
    """Overrides by leaf name or dotted path."""
    return _layer(settings, lambda key: f"{place} {key}")


def settings_over(
    written: Mapping[str, Any], place_of: Callable[[str], str], folder: Path, settings: Mapping[str, Any]
) -> Layer:
    """The ``settings`` of ``--set`` over those written in a file in ``folder``, whose keys stand at ``place_of``."""
    layer = _layer(written, place_of, folder)
    layer.update(settings_layer(settings, "--set"))
    return layer


def fields_of(settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Overrides by dotted path, whole sections (``model: {...}``) taken apart; UserError naming ``place``."""
    return _layer(settings, lambda key: place).values


def parse_setting(text: str) -> tuple[str, Any]:
    """``path=value`` as given to ``--set``, the value read as YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"--set takes path=value, got '{text}'")
    return name.strip(), parse_yaml(value, f"--set {name}")


def validate(layer: Layer) -> Config:
    """The configuration of the values, or one UserError that lists every mistake with its place."""
    nested: dict[str, Any] = {}
    for path in sorted(layer.values, key=lambda path: path.count(".")):
        *above, leaf = path.split(".")
        target = nested
        for key in above:
            deeper = target.setdefault(key, {})
            if deeper is None:  # what was off until now
                deeper = target[key] = {}
            if not isinstance(deeper, dict):  # a short form such as `scheduler: OneCycleLR`
                deeper = target[key] = {"type" if key in ("scheduler", "optimizer") else "name": deeper}
            target = deeper
        value = layer.values[path]
        target[leaf] = dict(value) if isinstance(value, dict) else value
    try:
        return Config.model_validate(nested)
    except ValidationError as error:
        raise UserError("\n".join(_explain(problem, layer) for problem in error.errors())) from error


def _line_in(path: Path, lines: Mapping[str, int], key: str) -> str:
    return f"{path}:{lines.get(key, 1)}"


def _layer(content: Mapping[str, Any], place_of: Callable[[str], str], folder: Path = Path()) -> Layer:
    """Flatten a mapping whose keys are sections, leaf names or dotted paths, refusing unknown ones.

    The user's own files are named from ``folder``, that of the file they stand in, and from then on absolutely.
    """
    layer = Layer()
    for key, given in content.items():
        value = _model_section(given) if key == "model" else given
        if key in SECTIONS and isinstance(value, Mapping):
            for name, item in value.items():
                place = place_of(f"{key}.{name}")
                layer.set(locate(f"{key}.{name}", place), item, place)
        else:
            place = place_of(str(key))
            layer.set(locate(str(key), place), value, place)
    for path in _FILES:
        if isinstance(given := layer.values.get(path), str):
            layer.values[path] = str((folder / given).absolute())
    return layer


def _refuse_idle_rate(below: Layer, layer: Layer) -> None:
    """UserError where a layer sets ``lr`` and what is below it leaves that without effect: equal runs, other cells."""
    if "training.lr" not in layer.values:
        return
    place = layer.places["training.lr"]
    scheduler, optimizer = (below.section(f"training.{name}") for name in ("scheduler", "optimizer"))
    sets = {".".join(path.split(".")[:2]) for path in layer.values}
    if scheduler.get("type") == "OneCycleLR" and "training.scheduler" not in sets:
        raise UserError(f"{place}: lr has no effect under OneCycleLR, whose peak is max_lr; set that, or the scheduler")
    if optimizer.get("lr_groups") is not None and "training.optimizer" not in sets:
        raise UserError(f"{place}: lr has no effect under lr_groups; set encoder, decoder and head, or the optimizer")


def _model_section(value: Any) -> Any:
    """A model's name alone as its type, and a user's own class with its options, in the fields they stand for."""
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, Mapping) and "class" in value:
        options = {name: item for name, item in value.items() if name not in ("class", "type")}
        return {"type": "own", "class_path": value["class"], "options": options}
    return value


def _replace_dataset(layer: Layer, name: str) -> None:
    """Name another data set, or the experiment file of one's own; what described the old one's file goes.

    The windows stay, except those that such a file sets itself.
    """
    kept = {f"dataset.{field}" for field in WINDOWS}
    own = _described_in(name) if name.endswith((".yaml", ".yml")) else {}
    if layer.values.get("dataset") == name or layer.values.get("dataset.name") == name:
        return
    for path in [path for path in layer.values if path.split(".")[0] == "dataset" and path not in kept]:
        del layer.values[path]
    for path, value in (own or {"dataset.name": name}).items():
        layer.set(path, value, "--dataset")


def _described_in(file: str) -> dict[str, Any]:
    """What an experiment file itself says of its data set, by dotted path; UserError where it says nothing."""
    path = Path(file)
    content, lines = read_yaml(path)
    content.pop("base", None)
    values = _layer(content, partial(_line_in, path, lines), path.parent).values
    found = {at: value for at, value in values.items() if at.split(".")[0] == "dataset"}
    if isinstance(plain := found.pop("dataset", None), str):
        found["dataset.name"] = plain
    if not found.keys() & {"dataset.name", "dataset.path"}:
        raise UserError(f"--dataset {file}: names no data set; it takes a line such as `dataset: {{path: my.csv}}`")
    return found


def _explain(problem: Any, layer: Layer) -> str:
    """One pydantic error as: place, field, rule, value."""
    known = set(leaf_paths().values()) | set(SECTIONS)
    parts: list[str] = []
    location = list(map(str, problem["loc"]))
    for part, before in zip(location, ["", *location], strict=False):  # leaves out the tags of unions
        tag = before in ("model", "scheduler")
        if not tag and (not parts or ".".join([*parts, part]) in known or part == location[-1]):
            parts.append(part)
    path = ".".join(parts)
    place = next((layer.places[at] for at in [f"{path}.type", *_upwards(path)] if at in layer.places), "")
    if problem["type"] == "extra_forbidden":
        section = path.rpartition(".")[0]
        if path in known:
            chosen = layer.values.get(f"{section}.type", layer.values.get(section))
            chosen = chosen.get("type") if isinstance(chosen, dict) else chosen
            chosen = layer.model_type if section == "model" else chosen
            return f"{place}: {path} does not apply to {section} '{chosen}'"
        valid = [leaf(at) for at in known if at.rpartition(".")[0] == section]
        return str(unknown_name("field", parts[-1], valid, place))
    if problem["type"] == "union_tag_invalid":
        valid = re.findall(r"'([^']+)'", problem["ctx"]["expected_tags"])
        return str(unknown_name(f"type of {path}", problem["ctx"]["tag"], valid, place))
    if problem["type"] == "missing":
        return f"{layer.file}: '{path}' is missing"
    message, value = rule_of(problem), problem["input"]
    place = place or _place_of_named(message, path, layer)
    shown = "" if isinstance(value, dict) else f", got {shortened(value)}"
    return f"{place}: {path}: {message}{shown}" if place else f"{path}: {message}{shown}"


def _place_of_named(message: str, section: str, layer: Layer) -> str:
    """Where the first field of a section stands that a rule over several of its fields names."""
    named = re.findall(r"\w+", message)
    below = {leaf(at): place for at, place in layer.places.items() if at.startswith(f"{section}.")}
    return next((below[name] for name in named if name in below), "")


def _upwards(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
