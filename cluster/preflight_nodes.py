"""Whether the nodes of a cluster can run a matrix together, asked of each of them before anything is trained.

A node must see the folder of the run, have the driver's code and versions of what decides numbers, and GPUs that torch
can use where trials take GPUs. It need not have the data: they come through Ray's object store.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.nodes import Nodes, node_name
from cluster.resources import Resources

ANSWER_SECONDS = 120.0  # a node's first process imports from a disk that may be slow
SEEN_SECONDS = 5.0  # what the driver has written may reach a node's view of a shared folder only a little later
_NAMED = 5  # nodes of many that a sentence names

#: What must be the same on all nodes, and what of its version: all but Python's patch and torch's build.
_DECISIVE: Mapping[str, Callable[[str], str]] = {
    "python": lambda version: version.rpartition(".")[0],
    "torch": lambda version: version.partition("+")[0],
    "ray": str,
}


@dataclass(frozen=True)
class Software:
    """What decides numbers in a process: the versions of packages and of `python`, and the hashes of sources."""

    versions: Mapping[str, str]
    sources: Mapping[str, str]


#: Gives the Software of the process it is called in, from texts that are the same everywhere. A function of a module.
Look = Callable[..., Software]


@dataclass(frozen=True)
class Question:
    """What every node is asked: what the file at `marker` holds, how Software looks there, and how many GPUs it has.

    `function` is the Look as `module:name`, and `arguments` what it is called with.
    """

    marker: str
    function: str
    arguments: tuple[str, ...]
    gpus: bool


@dataclass(frozen=True)
class Answer:
    """What a node has said: `silent`, if set, is why it has not, and the rest is nothing then.

    `closed` is why it cannot read or write in the marker's folder, `unknown` why it has no Software.
    """

    name: str
    silent: str | None = None
    marker: str | None = None
    closed: str | None = None
    software: Software | None = None
    unknown: str | None = None
    gpus: int = 0
    gpus_of_ray: int = 0


def check_nodes(
    out: Path, resources: Resources, look: Look, arguments: Sequence[str] = (), seconds: float = ANSWER_SECONDS
) -> list[str]:
    """Ask all nodes at once that can hold a worker; ClusterError with all that is wrong, and on which of them.

    Returns what is only worth a notice. `look(*arguments)` must give on every node what it gives here; see `judged`. A
    node that does not answer within `seconds` is one of the things that are wrong. Nothing is left below `out`.
    """
    nodes = Nodes().staying
    need = resources.resolved([node["Resources"] for node in nodes.values()])
    asked = {identity: node for identity, node in nodes.items() if need.workers_on(node["Resources"])}
    needs_gpus = bool(need.gpus_per_worker)
    with marker_file(out) as (marker, content):
        question = Question(str(marker), f"{look.__module__}:{look.__qualname__}", tuple(arguments), needs_gpus)
        answers = _answers(asked, question, seconds)
    staying = Nodes().staying  # one that was lost meanwhile, and so is silent, is no part of the cluster
    there = [answer for identity, answer in answers.items() if answer.silent is None or identity in staying]
    wrong, notices = judged(there, look(*arguments), content, out.absolute(), needs_gpus)
    if wrong:
        raise ClusterError(wrong[0] if len(wrong) == 1 else "\n  ".join(["the nodes are not ready:", *wrong]))
    return notices


def judged(
    answers: Sequence[Answer], here: Software, content: str, out: Path, needs_gpus: bool
) -> tuple[list[str], list[str]]:
    """What is wrong with the nodes, and what is only worth a notice: a sentence for each, with the nodes' names.

    Ray, torch without its build (2.13.0 of 2.13.0+cpu), Python's 3.11 of 3.11.9, and sources must be those of the
    driver; other differences of versions are noticed.
    """
    there = [one for one in answers if one.silent is None]
    wrong = [*_silent(answers), *_apart(there, content, out)]
    known = [one for one in there if one.software is not None]
    for why, names in _grouped((one.unknown or "", one.name) for one in there if one.software is None):
        wrong.append(f"{names} cannot import what is to run ({why}); install the same package on every node")
    differing, notices = _differing(known, here)
    wrong += differing
    if needs_gpus:
        short = ((f"{one.gpus} of the {one.gpus_of_ray}", one.name) for one in known if one.gpus < one.gpus_of_ray)
        for count, names in _grouped(short):
            wrong.append(
                f"torch can use {count} GPU that Ray counts on {names}; install its CUDA build and the driver there, "
                "or train on CPUs with --gpus-per-worker 0"
            )
    return wrong, notices


def _silent(answers: Sequence[Answer]) -> Iterator[str]:
    for why, names in _grouped((one.silent, one.name) for one in answers if one.silent is not None):
        yield f"{names} {why}; mend it, or take it out of the cluster"


def _apart(there: Sequence[Answer], content: str, out: Path) -> Iterator[str]:
    """On the folder: not the same one, or not to be written to."""
    blind = [one.name for one in there if one.marker != content and one.closed is None]
    if blind:
        yield (
            f"{out} is not the same folder on {_listed(blind)}; choose one with --out that all nodes share, as NFS does"
        )
    for why, names in _grouped((one.closed, one.name) for one in there if one.closed is not None):
        yield f"{out} cannot be written to on {names} ({why}); give the user that Ray runs as there the right to"


def _differing(known: Sequence[Answer], here: Software) -> tuple[list[str], list[str]]:
    """Sources and versions that are not the driver's: those that forbid a run, and the others."""
    wrong, notices = [], []
    for name, own in here.sources.items():
        other = [one.name for one in known if one.software and one.software.sources.get(name) != own]
        if other:
            wrong.append(f"the sources of {name} on {_listed(other)} are not those here; install the same everywhere")
    for name, own in here.versions.items():
        found = ((one.software.versions.get(name, "missing"), one.name) for one in known if one.software)
        for version, names in _grouped((version, node) for version, node in found if version != own):
            said = f"{name} is {version} on {names}, {own} here"
            if name in _DECISIVE and _DECISIVE[name](version) != _DECISIVE[name](own):
                wrong.append(f"{said}; install the same version everywhere")
            else:
                notices.append(f"{said}: numbers may depend on the node in their last digits.")
    return wrong, notices


def _answers(nodes: Mapping[str, Mapping[str, Any]], question: Question, seconds: float) -> dict[str, Answer]:
    """One task for each node, which takes nothing of it, so that a busy node answers too."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = ray.remote(answering())

    def task(identity: str) -> Any:
        there = NodeAffinitySchedulingStrategy(identity, soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
        if question.gpus:  # which Ray hides from a task that takes none, unless it is told not to
            options["runtime_env"] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
        return asked.options(**options).remote(*vars(question).values(), SEEN_SECONDS)

    tasks = {identity: task(identity) for identity in nodes}
    ready, late = ray.wait(list(tasks.values()), num_returns=max(len(tasks), 1), timeout=seconds) if tasks else ([], [])
    for one in late:
        ray.cancel(one, force=True)
    answers = {}
    for identity, node in nodes.items():
        said: dict[str, Any] = {"silent": f"does not answer within {seconds:g} s"}
        if tasks[identity] in ready:
            try:
                said = ray.get(tasks[identity])
            except ray.exceptions.RayError as error:
                said = {"silent": f"does not answer ({str(error).strip().splitlines()[0]})"}
        found = said.pop("found", None)
        software = Software(*found) if found else None
        gpus = int(node["Resources"].get("GPU", 0))
        answers[identity] = Answer(node_name(dict(node)), **said, software=software, gpus_of_ray=gpus)
    return answers


def answering() -> Callable[..., dict[str, Any]]:
    """What a node runs, as a function of its own: it goes there whole, so that the node need not have this package."""

    def answer(marker: str, function: str, arguments: Iterable[str], gpus: bool, seconds: float) -> dict[str, Any]:
        said: dict[str, Any] = {}
        until = time.monotonic() + seconds
        try:
            while not Path(marker).is_file() and time.monotonic() < until:
                time.sleep(0.1)
            if Path(marker).is_file():
                said["marker"] = Path(marker).read_text()
                with tempfile.TemporaryFile(dir=Path(marker).parent) as file:
                    file.write(b"x")
        except OSError as error:
            said["closed"] = error.strerror
        try:
            module, _, name = function.partition(":")
            found = getattr(importlib.import_module(module), name)(*arguments)
            said["found"] = (dict(found.versions), dict(found.sources))
            if gpus:
                import torch

                said["gpus"] = torch.cuda.device_count()
        except Exception as error:
            said["unknown"] = f"{type(error).__name__}: {error}".splitlines()[0]
        return said

    return answer


@contextlib.contextmanager
def marker_file(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file with something in it that nobody can guess, and that; the folder is made, and both are gone afterwards."""
    folder = folder.resolve()  # as cells' folders are
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file, content = folder / f".seen-{secrets.token_hex(8)}", secrets.token_hex(16)
    try:
        file.write_text(content)
        yield file, content
    finally:
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another run has put something there
            for one in new:
                one.rmdir()


def _grouped(said: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(what, node) pairs as (what, nodes)."""
    by: dict[str, list[str]] = {}
    for what, name in said:
        by.setdefault(what, []).append(name)
    for what, names in by.items():
        yield what, _listed(names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
