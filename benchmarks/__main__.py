"""Run every benchmark, each in a process of its own, and write one page: ``make bench``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from altformer.files import write_text
from experiments import provenance

BENCHMARKS = {
    "Training step": "benchmarks.bench_step",
    "Trial overhead": "benchmarks.bench_trial",
}


def main() -> int:
    """Write bench.md with the Markdown of each benchmark, and bench-<name>.json with its numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("experiments/results"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    state, machine = provenance.git_state(), provenance.hardware("cpu")
    page = [
        "# Benchmarks",
        "",
        f"Written by `make bench` at commit {state['git_commit']}{' with changes' if state['git_dirty'] else ''}, "
        f"{provenance.now()}, on {machine['cpu']}, {machine['cores']} cores, without GPU. "
        "Ratios are taken within one run; other work on the machine weighs on both sides of them.",
    ]
    for title, module in BENCHMARKS.items():
        print(f"{title} ({module})", flush=True)
        numbers = folder / f"{module.rpartition('.')[2].replace('_', '-')}.json"
        done = subprocess.run(
            [sys.executable, "-m", module, "--out", str(numbers)], stdout=subprocess.PIPE, text=True, check=True
        )
        print(done.stdout, flush=True)
        page += ["", f"## {title}", "", done.stdout.strip()]
    write_text(folder / "bench.md", "\n".join(page) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
