"""The configuration: what it refuses, in which words; and that nothing it takes is more than the text it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from altformer.errors import UserError
from cluster.launch.config import ClusterConfig
from cluster.launch.render import RENDERERS
from experiments.cluster_command import load_config

MISTAKES = [
    ("node: 3", "did you mean 'nodes'", "valid: ablate, aws, cpus"),
    ("aws: {regoin: x}", "did you mean 'region'", "unknown key"),
    ("nodes: 0", "nodes", "must be greater than or equal to 1, got 0"),
    ("gpus: -1", "gpus", "got -1"),
    ("cpus: many", "cpus", "takes a whole number, got 'many'"),
    ("name: Traffic", "name", "lower-case letters, digits and '-', a letter first, got 'Traffic'"),
    ("name: 'a;id'", "name", "got 'a;id'"),
    ("image: 'x y'", "image", "an image's name"),
    ("storage: shared", "storage", "an absolute path"),
    ("storage: /a/../etc", "storage", "without '..'"),
    ('storage: "/a\\n#SBATCH --uid=0"', "storage", "an absolute path"),
    ("environment: '/a b'", "environment", "an absolute path"),
    ("ablate: depth", "ablate", "takes a list, got 'depth'"),
    ("ablate: []", "ablate", "at least 1"),
    ("ablate: [depth, --seeds, 5]", "ablate.2", "takes text (in quotes"),
    ('ablate: [depth, "a\\nb"]', "ablate.1", "without line breaks"),
    ("ablate: [depth, --address=auto]", "ablate", "must leave --address out"),
    ("ablate: [depth, --out, x]", "ablate", "must leave --out out"),
    ("aws: {nfs: /x}", "aws.nfs", "server.example:/folder, got '/x'"),
    ("machines: {head: '-oProxyCommand=x'}", "machines.head", "a machine's name"),
    ("machines: {head: a, workers: [b, a]}", "machines", "names the machine a twice"),
    ("machines: {workers: []}", "machines.workers", "at least 1"),
    ("machines: {ssh_key: '-x'}", "machines.ssh_key", "a path"),
    ("kubernetes: {namespace: A}", "kubernetes.namespace", "lower-case"),
    ("slurm: {hours: 24:00:00}", "slurm.hours", "must be less than or equal to 8760, got 86400"),
    ('slurm: {partition: "gpu\\n#SBATCH --uid=0"}', "slurm.partition", "letters, digits"),
    ("image: !!python/object/apply:os.system [id]", "broken YAML", "could not determine a constructor"),
]


@pytest.mark.parametrize(("text", "field", "rule"), MISTAKES, ids=[text for text, *_ in MISTAKES])
def test_a_mistake_is_one_sentence_with_place_field_and_value(tmp_path: Path, text: str, field: str, rule: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"# ours\n{text}\n")
    with pytest.raises(UserError) as error:
        load_config(file)
    message = str(error.value)
    assert message.startswith(f"{file}:2: "), message
    assert field in message and rule in message and "\n" not in message, message


TEXT = st.text(max_size=40)
FIELDS = ["name", "image", "storage", "environment"]


@given(field=st.sampled_from(FIELDS), text=TEXT)
@settings(max_examples=200)
def test_a_text_that_is_taken_means_nothing_to_a_shell(field: str, text: str) -> None:
    try:
        config = ClusterConfig.model_validate({field: text})
    except ValidationError:
        return
    taken = getattr(config, field)
    assert shlex.quote(taken) == taken and re.fullmatch(r"[\w./:@-]+", taken, re.ASCII), taken


@given(words=st.lists(TEXT, min_size=1, max_size=4))
@settings(max_examples=100)
def test_the_words_of_a_matrix_arrive_as_they_are(words: list[str]) -> None:
    """In the shell of SLURM's script and in the command line that Kubernetes runs."""
    try:
        config = ClusterConfig.model_validate({"ablate": words})
    except ValidationError:
        return
    script = RENDERERS["slurm"](config)["altformer.sbatch"]
    [line] = [line for line in script.split("\n") if line.startswith("run altformer ablate")]
    assert shlex.split(line)[3 : 3 + len(words)] == words
    job = yaml.safe_load(RENDERERS["kuberay"](config)["altformer-rayjob.yaml"])
    assert shlex.split(job["spec"]["entrypoint"])[2 : 2 + len(words)] == words
