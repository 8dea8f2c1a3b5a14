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
    "Linear maps and attention": "benchmarks.bench_kernels",
    "Seeds at once": "benchmarks.bench_seeds",
    "Beside STAEformer": "benchmarks.bench_staeformer",
    "Epoch, validation, checkpoint": "benchmarks.bench_epoch",
    "Windows": "benchmarks.bench_windows",
    "Trial overhead": "benchmarks.bench_trial",
    "Matrix": "benchmarks.bench_matrix",
}


def main() -> int:
    """Write bench.md with the Markdown of each benchmark, and bench-<name>.json with its numbers.

    Of one that fails, the page and the exit code 1 say so; the others still run. A goal that is not met is a result.
    """
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
        "What is compared takes turns in one run; a ratio is the median of those of its pairs, with the least and the "
        "greatest. Other work on the machine weighs on both sides; *load* is its average over the last minute.",
    ]
    code = 0
    for title, module in BENCHMARKS.items():
        print(f"{title} ({module})", flush=True)
        numbers = folder / f"{module.rpartition('.')[2].replace('_', '-')}.json"
        numbers.unlink(missing_ok=True)  # of an earlier run
        done = subprocess.run(
            [sys.executable, "-m", module, "--out", str(numbers)], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        page += ["", f"## {title}", "", done.stdout.strip()]
        if done.returncode:
            page += ["", f"**Failed, exit code {done.returncode}.**"]
            code = 1
    write_text(folder / "bench.md", "\n".join(page) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
