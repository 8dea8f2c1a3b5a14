"""``altformer dashboard``: where the Ray dashboard of a running matrix is."""

from __future__ import annotations

import argparse
import sys

from experiments.programs import program

NONE = (
    "no Ray dashboard found: it is there only while Ray runs, for instance during `altformer ablate ...` in another "
    "terminal (whose first lines print it too); for a cluster elsewhere give --address HOST:PORT or set RAY_ADDRESS"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the cluster (default: $RAY_ADDRESS, else all that run on this machine)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the addresses, one a line; 2 when there is none."""
    from cluster.dashboards import running_dashboards

    found = running_dashboards(args.address)
    if not found:
        print(f"altformer: {NONE}", file=sys.stderr)
        return 2
    for cluster, url in found.items():
        print(f"Ray dashboard: {url} (cluster {cluster})")
    print(f"The page asks for a token: `{program('ray')} get-auth-token` prints it.")
    return 0
