"""What a shell may complete after ``altformer``: commands, options, their choices, and the names of what is shipped."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.accuracy.plan import PACKAGE as CAMPAIGNS
from ablations.completion_command import SHELLS
from ablations.matrix import ALL
from ablations.matrix import PACKAGE as MATRICES
from ablations.schema_command import KINDS
from ablations.tuning.plan import SAMPLERS
from altformer.data.specs import SIMULATED, SPECS
from cluster.launch.render import RENDERERS
from experiments.cli import COMMANDS, load_command
from experiments.compose import HERE, PROFILES
from experiments.dataset_choice import AT_HAND
from experiments.evaluate_command import NAIVE
from experiments.fields import leaf_paths
from experiments.json_schema import field_schemas

Words = tuple[str, ...]
OPTIONS = "-"  # in place of an option: the options themselves


def _stems(folder: Path) -> Words:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


TUNING = "tuning"
KNOWN: Words = (*SPECS, SIMULATED)
#: Words for an argument without choices of its own, by command and argument, or by argument alone.
ARGUMENTS: dict[str, Words] = {
    "ablate dataset": (*KNOWN, "auto", AT_HAND),
    "submit dataset": (*KNOWN, "auto", AT_HAND),
    "dataset": (*KNOWN, "auto"),
    "data source": KNOWN,
    "data name": tuple(SPECS),
    "profile": (*PROFILES, "auto"),
    "device": ("auto", "cpu", "cuda"),
    "sampler": SAMPLERS,
    "cfg": tuple(name for name in _stems(HERE) if name != TUNING),
    "ablate files": (*_stems(MATRICES), ALL),
    "submit files": (*_stems(MATRICES), ALL),
    "file": (TUNING,),
    "campaign names": _stems(CAMPAIGNS),
    "cluster kind": tuple(RENDERERS),
    "schema kind": KINDS,
    "completion shell": SHELLS,
    "baseline": tuple(NAIVE),
}


def completions() -> dict[tuple[str, str], Words]:
    """The words that may follow, by command and option: its values where it takes any (no words: a file or number).

    Without an option they are what else the command takes, and under ``-`` its options. The command is empty for what
    comes first, and of two words where the second chooses.
    """
    found: dict[tuple[str, str], Words] = {("", ""): tuple(name for name in COMMANDS if " " not in name)}
    for name in COMMANDS:
        command, parser = load_command(name)
        found |= _of(name, parser)
        if getattr(command, "ACCEPTS_FIELDS", False):
            fields = _fields()
            found[name, OPTIONS] += tuple(option for option in fields if (name, option) not in found)
            found = {(name, option): words for option, words in fields.items()} | found
    for above, _, below in (name.partition(" ") for name in COMMANDS):
        if below:
            found[above, ""] += (below,)
    return found


def _of(name: str, parser: argparse.ArgumentParser) -> dict[tuple[str, str], Words]:
    options: list[str] = []
    found: dict[tuple[str, str], Words] = {(name, ""): ()}
    for action in parser._actions:
        words = _words(name, action)
        if isinstance(action, argparse._SubParsersAction):
            for below, further in action.choices.items():
                found |= _of(f"{name} {below}", further)
        if not action.option_strings:
            found[name, ""] += words
            continue
        options += [option for option in action.option_strings if option.startswith("--")]
        if action.nargs != 0:
            found |= {(name, option): words for option in action.option_strings}
    return {**found, (name, OPTIONS): tuple(options)}


def _words(name: str, action: argparse.Action) -> Words:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    return ARGUMENTS.get(f"{name.partition(' ')[0]} {action.dest}", ARGUMENTS.get(action.dest, ()))


def _fields() -> dict[str, Words]:
    """The fields of a configuration as options, with the values of those that have names for them."""
    schemas = field_schemas()[0]
    return {f"--{leaf}": tuple(dict.fromkeys(_named(schemas[path]))) for leaf, path in leaf_paths().items()}


def _named(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("type") == "boolean":
        yield from ("true", "false")
    yield from schema.get("enum", ())
    for member in schema.get("anyOf", ()):
        yield from _named(member)
