"""``altformer monitoring``: Prometheus for a running Ray cluster, on this machine only."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from cluster.listening import free_port
from cluster.monitoring import grafana, prometheus
from cluster.monitoring.discovery import discovery_file
from experiments.signals import Terminated, sigterm_raises

FIRST_PORT = 9090


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the cluster (default: $RAY_ADDRESS, else the one on this machine)"
    )
    parser.add_argument("--port", type=int, help=f"default: {FIRST_PORT}, or the next that is free")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="keep the history there (default: it goes when this command ends)"
    )


def run(args: argparse.Namespace) -> int:
    """Run Prometheus until Ctrl-C or SIGTERM (0), or until it ends by itself (1)."""
    prometheus.program()
    discovery = discovery_file(args.address)
    port = free_port(prometheus.HOST, args.port, FIRST_PORT)
    address = f"http://{prometheus.HOST}:{port}"
    try:
        with sigterm_raises(), prometheus.running(discovery, port, args.data) as process:
            print(f"Prometheus: {address} (Ctrl-C ends it)")
            print(f"Grafana, if you have it: {grafana.command(address)}")
            print(f"or import the dashboard: {grafana.DASHBOARD}", flush=True)
            return _until_it_ends(process)
    except (KeyboardInterrupt, Terminated):
        print("\nPrometheus has ended" + (f"; its history is in {args.data}" if args.data else ""))
        return 0


def _until_it_ends(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    print(f"altformer: Prometheus has ended by itself, with exit code {code}", file=sys.stderr)
    return 1
