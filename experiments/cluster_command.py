"""``altformer cluster``: a local cluster of several nodes, and files that start one elsewhere."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from pydantic import ValidationError

from altformer.errors import UserError, unknown_name
from altformer.files import write_text
from cluster.launch.config import ClusterConfig
from cluster.launch.render import RENDERERS
from experiments.mistakes import explain
from experiments.programs import program
from experiments.yaml_file import read_yaml

NEXT = """\
Run a matrix on it:  make ablation-depth ADDRESS=auto   (or: altformer ablate depth --address auto)
Submit one as a job: altformer submit depth --address {dashboard} --out "$PWD/runs"
Its dashboard:       {dashboard}   (it asks for a token: `{ray} get-auth-token` prints it)
End it:              make cluster-down   (or: altformer cluster down)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `up`, `down`, `wait` and `render KIND`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="up|down|wait|render")
    start = actions.add_parser("up", help="start a cluster of several nodes on this machine", allow_abbrev=False)
    start.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes beside the head (default: 2)")
    start.add_argument("--cpus", type=int, metavar="N", help="CPUs of each (default: this machine's, shared out)")
    start.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of each (default: 0)")
    actions.add_parser("down", help="end it, and remove its files")
    wait = actions.add_parser("wait", help="wait until a cluster has its nodes", allow_abbrev=False)
    wait.add_argument("--address", required=True, metavar="HOST:PORT", help="the cluster's head")
    wait.add_argument("--nodes", type=int, required=True, metavar="N", help="how many there must be, with the head")
    wait.add_argument("--seconds", type=float, default=300.0, metavar="S", help="how long at most (default: 300)")
    render = actions.add_parser("render", help="print or write the files that start a cluster", allow_abbrev=False)
    render.add_argument("kind", metavar="|".join(RENDERERS), help="where the cluster is to be")
    render.add_argument("--config", type=Path, metavar="FILE", help="what it is to be, as YAML (default: all defaults)")
    render.add_argument("--out", type=Path, metavar="FOLDER", help="write the files there (default: print them)")
    render.add_argument("--force", action="store_true", help="also over files that are there")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 when it is done (UserError and ClusterError are the command line's to print)."""
    return {"up": _up, "down": _down, "wait": _wait, "render": _render}[args.action](args)


def load_config(path: Path | None) -> ClusterConfig:
    """The configuration in a YAML file; UserError with place, key, rule and value for the first mistake in it."""
    if path is None:
        return ClusterConfig()
    values, lines = read_yaml(path)
    try:
        return ClusterConfig.model_validate(values)
    except ValidationError as error:
        raise explain(error, ClusterConfig, path, lines, str(path)) from None


def _up(args: argparse.Namespace) -> int:
    from cluster.launch.local import up

    started = up(args.nodes, args.cpus, args.gpus)
    gpus = f" and {started.gpus} GPUs" if started.gpus else ""
    print(f"Ray at {started.address}: a head, and {started.nodes} nodes with {started.cpus} CPUs{gpus} each")
    if started.logical_gpus:
        print("Attention: this machine has no GPU; the nodes' are for the scheduler only, nothing can train on them.")
    print(NEXT.format(dashboard=started.dashboard, ray=program("ray")))
    return 0


def _down(_args: argparse.Namespace) -> int:
    from cluster.launch.local import down

    ended = down()
    print("No local cluster runs." if ended is None else f"Ended: Ray at {ended}")
    return 0


def _wait(args: argparse.Namespace) -> int:
    from cluster.launch.waiting import wait_for_nodes

    if args.nodes < 1:
        raise UserError(f"--nodes must be 1 or more, got {args.nodes}")
    if not 0 <= args.seconds < math.inf:
        raise UserError(f"--seconds must be 0 or more, got {args.seconds:g}")
    taken = wait_for_nodes(args.address, args.nodes, args.seconds)
    print(f"Ray at {args.address}: {args.nodes} nodes after {taken:.0f} s", flush=True)
    return 0


def _render(args: argparse.Namespace) -> int:
    if args.kind not in RENDERERS:
        raise unknown_name("kind of cluster", args.kind, RENDERERS)
    files = RENDERERS[args.kind](load_config(args.config))
    if args.out is None:
        for number, (name, text) in enumerate(files.items()):
            if len(files) > 1:
                print(f"{'' if number == 0 else chr(10)}# ---- {name}")
            print(text, end="")
        return 0
    there = [args.out / name for name in files if (args.out / name).exists()]
    if there and not args.force:
        raise UserError(f"{', '.join(map(str, there))}: there already; --force writes over it")
    for name, text in files.items():
        try:
            write_text(args.out / name, text)
        except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise UserError(f"{args.out / name}: cannot be written: {error.strerror}") from None
        print(args.out / name)
    return 0
