"""``altformer completion``: a script by which a shell completes the commands; it starts no Python while one types."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from altformer.errors import unknown_name

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", metavar="|".join(SHELLS), help="the shell that the script is for")
    parser.epilog = (
        "Put it into ~/.local/share/bash-completion/completions/altformer, ~/.config/fish/completions/altformer.fish, "
        "or for zsh a file that ~/.zshrc sources, and write it anew after an update of AltFormer."
    )


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from ablations.completion import completions

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
