"""``altformer completion``: a script by which a shell completes the commands; it starts no Python while one types.

Its words are commands, options, their choices, and the names of what is shipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.accuracy.plan import PACKAGE as CAMPAIGNS
from ablations.matrix import ALL
from ablations.matrix import PACKAGE as MATRICES
from ablations.schema_command import SCHEMAS
from ablations.tuning.plan import SAMPLERS
from altformer.data.specs import SIMULATED, SPECS
from altformer.errors import unknown_name
from cluster.launch.render import RENDERERS
from experiments.cli import COMMANDS, load_command
from experiments.compose import HERE, PROFILES
from experiments.dataset_choice import AT_HAND
from experiments.evaluate_command import NAIVE
from experiments.fields import leaf_paths
from experiments.json_schema import field_schemas

BASH = """\
_altformer_words() {
    case "$1" in
@WORDS@
    *) return 1 ;;
    esac
}

_altformer() {
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" command="" words
    if [[ $current == "=" ]]; then
        current=""
    elif [[ $before == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD - 2]}"
    fi
    if ((COMP_CWORD > 2)) && _altformer_words "${COMP_WORDS[1]} ${COMP_WORDS[2]}|" >/dev/null; then
        command="${COMP_WORDS[1]} ${COMP_WORDS[2]}"
    elif ((COMP_CWORD > 1)); then
        command="${COMP_WORDS[1]}"
    fi
    if ! words="$(_altformer_words "$command|$before")"; then
        if [[ $current == -* ]]; then
            words="$(_altformer_words "$command|-")"
        else
            words="$(_altformer_words "$command|")"
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}

complete -o default -F _altformer altformer
"""
ZSH = """\
((${+functions[compdef]})) || { autoload -U +X compinit && compinit; }
autoload -U +X bashcompinit && bashcompinit

"""
FISH = """\
function __altformer_words
    switch $argv[1]
@WORDS@
        case '*'
            return 1
    end
end

function __altformer
    set -l given (commandline -opc)
    set -l current (commandline -ct)
    set -l before $given[-1]
    set -l command ""
    if set -q given[3]; and __altformer_words "$given[2] $given[3]|" >/dev/null
        set command "$given[2] $given[3]"
    else if set -q given[2]
        set command $given[2]
    end
    set -l words (__altformer_words "$command|$before")
    or if string match -q -- '-*' $current
        set words (__altformer_words "$command|-")
    else
        set words (__altformer_words "$command|")
    end
    set -l fitting (string match -- "$current*" (string split -n ' ' -- $words))
    if set -q fitting[1]
        printf '%s\\n' $fitting
    else
        __fish_complete_path $current
    end
end

complete -c altformer -f -a '(__altformer)'
"""
SHELLS = ("bash", "zsh", "fish")

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
    "schema kind": tuple(SCHEMAS),
    "completion shell": SHELLS,
    "baseline": tuple(NAIVE),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", metavar="|".join(SHELLS), help="the shell that the script is for")
    parser.epilog = (
        "Put it into ~/.local/share/bash-completion/completions/altformer, ~/.config/fish/completions/altformer.fish, "
        "or for zsh a file that ~/.zshrc sources, and write it anew after an update of AltFormer."
    )


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    if args.shell not in SHELLS:
        raise unknown_name("shell", args.shell, SHELLS)
    print(script(args.shell, completions()), end="")
    return 0


def script(shell: str, words: Mapping[tuple[str, str], tuple[str, ...]]) -> str:
    """The script for a shell; ``words`` are those that may follow, by command and option."""
    cases: dict[tuple[str, ...], list[str]] = {}
    for (command, option), following in words.items():
        cases.setdefault(following, []).append(f"{command}|{option}")
    if shell == "fish":
        lines = [
            f"        case {' '.join(map(_quoted, keys))}\n            echo '{' '.join(following)}'"
            for following, keys in cases.items()
        ]
        return FISH.replace("@WORDS@", "\n".join(lines))
    lines = [
        f"    {' | '.join(map(_quoted, keys))}) echo '{' '.join(following)}' ;;" for following, keys in cases.items()
    ]
    return (ZSH if shell == "zsh" else "") + BASH.replace("@WORDS@", "\n".join(lines))


def _quoted(key: str) -> str:
    return f"'{key}'"


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
