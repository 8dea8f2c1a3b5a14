"""What the shells complete after `altformer`, asked of their own completion functions."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from ablations.completion_command import SHELLS, completions, script
from experiments.cli import COMMANDS, load_command, main

CASES = [
    ("", {"ablate", "train", "schema", "init", "cluster"}),
    ("tr", {"train"}),
    ("ablate ", {"depth", "fusion", "all"}),
    ("ablate depth fu", {"fusion"}),
    ("ablate depth --dataset ", {"METR-LA", "PEMS08", "simulated", "auto", "at-hand"}),
    ("ablate depth --dataset sim", {"simulated"}),
    ("ablate depth --sched", {"--scheduler"}),
    ("ablate depth --scheduler ", {"none", "futility", "asha"}),
    ("ablate depth --dry-run embed", {"embed_dim", "embedding"}),
    ("ablate --profile q", {"quick"}),
    ("submit ", {"tune", "depth"}),
    ("submit tune ", {"tuning"}),
    ("submit tune --sampler ", {"grid", "tpe"}),
    ("train --cfg PEMS08_alternating_", {"PEMS08_alternating_optimized"}),
    ("train --cfg simulated --fusion_t", {"--fusion_type"}),
    ("train --fusion_type c", {"concat", "cross_attn"}),
    ("train --graph_bias ", {"true", "false"}),
    ("data ", {"list", "info", "fetch", "check"}),
    ("data fetch PEMS-", {"PEMS-BAY"}),
    ("cluster render ", {"slurm", "aws", "docker"}),
    ("cluster up --no", {"--nodes"}),
    ("campaign ", {"gpu", "cpu-hour"}),
    ("evaluate --split ", {"val", "test"}),
    ("schema m", {"matrix"}),
    ("completion ", set(SHELLS)),
    ("ablate --out ", set()),
    ("ablate my_", set()),
]
EXACT = {"tr", "ablate depth fu", "submit tune --sampler ", "cluster up --no", "completion "}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The file of each shell's script."""
    folder, words = tmp_path_factory.mktemp("completion"), completions()
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, words))
    return folder


def bash(folder, typed):
    """What bash offers at the end of a line; no other program is within its reach."""
    words = ["altformer", *typed.split(" ")]
    lines = [f"source {folder / 'bash'}", f"COMP_WORDS=({shlex.join(words)})", f"COMP_CWORD={len(words) - 1}"]
    asked = "\n".join([*lines, "_altformer", 'printf "%s\\n" "${COMPREPLY[@]}"'])
    done = subprocess.run([shutil.which("bash"), "-c", asked], env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def fish(folder, typed):
    asked = f"source {folder / 'fish'}; complete --do-complete {shlex.quote(f'altformer {typed}')}"
    done = subprocess.run(["fish", "--no-config", "-c", asked], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(("typed", "expected"), CASES)
@pytest.mark.parametrize("ask", [bash, fish])
def test_words_are_offered_where_they_fit(scripts, ask, typed, expected):
    if shutil.which(ask.__name__) is None:
        pytest.skip(f"{ask.__name__} is not installed")
    found = ask(scripts, typed)
    assert expected <= found and all(word.startswith(typed.rpartition(" ")[2]) for word in found)
    assert typed not in EXACT or found == expected
    assert expected or found <= set(SHELLS), "files of the current folder"


@pytest.mark.parametrize("typed", ["ablate depth --dataset = sim", "ablate depth --dataset=sim"])
def test_bash_takes_an_equals_sign_apart(scripts, typed):
    words = typed.replace("=sim", " = sim").replace("  ", " ")
    assert bash(scripts, words) == {"simulated"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_its_script(scripts):
    asked = f"source {scripts / 'zsh'} && whence -w _altformer && print $_comps[altformer]"
    done = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "_altformer: function" in done.stdout and "_bash_complete" in done.stdout


def test_every_command_has_its_options():
    words = completions()
    for name in COMMANDS:
        options = {option for option in load_command(name)[1]._option_string_actions if option.startswith("--")}
        assert options <= set(words[name, "-"])
    quotable = {word for key, values in words.items() for word in (*key, *values)}
    assert not any(set(word) & set("'\"$`\\;|") for word in quotable)


def test_the_command_prints_a_script_and_names_the_shells(scripts, capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == (scripts / "bash").read_text()
    assert main(["completion", "tcsh"]) == 2
    assert "unknown shell 'tcsh'" in capsys.readouterr().err
