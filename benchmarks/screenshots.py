"""Pictures for the documents: Ray's dashboard and Prometheus while a real matrix runs.

    python -m benchmarks.screenshots            # rewrites docs/images/ray-*.png and prometheus.png; some minutes

Runs the depth matrix in the quick profile, with `altformer monitoring` beside it, until a few cells are done, takes the
pictures, and ends both. Needs Debian's packages prometheus and chromium-driver.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from benchmarks.browser import Browser
from cluster.dashboards import running_dashboards
from cluster.launch.local import free_port
from tests.faults.process import Process

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COOKIE = "ray-authentication-token"  # as Ray's dashboard keeps it once the token was typed in
GRAPH = "avg by (metric, arm) (ray_altformer_objective)"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--minutes", type=float, default=6.0, help="how long the matrix runs before the pictures")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        command = ["ablate", "depth", "--dataset", args.dataset, "--profile", "quick", "--seeds", "2", "--no-mlflow"]
        run = Process([*command, "--out", "runs"], Path(folder), {})
        try:
            _take(run, Path(folder), token.read_text(), args.minutes, args.out)
        finally:
            _end(run, signal.SIGTERM)
    return 0


def _take(run: Process, folder: Path, token: str, minutes: float, out: Path) -> None:
    url = run.wait_for(r"Ray dashboard: (http\S+)", 300)[1]
    run.wait_for(r"start ", 300)
    [cluster] = [address for address, there in running_dashboards().items() if there == url]
    monitor = Process(["monitoring", "--address", cluster, "--port", str(free_port())], folder, {})
    try:
        prometheus = monitor.wait_for(r"Prometheus: (http\S+)")[1]
        time.sleep(60 * minutes)
        with Browser(1400, 1060) as browser:
            browser.open(url)
            browser.set_cookie(COOKIE, token)
            browser.open("about:blank")  # else Ray's page would go on without having seen the cookie
            browser.open(f"{url}/#/actors")
            browser.wait_for("seed 0")
            _picture(browser, out / "ray-actors.png")
            browser.open(f"{url}/#/jobs/01000000")
            browser.wait_for("Hide finished")
            browser.unfold(r"^\d+ / \d+$")
            browser.wait_for("Mailbox")
            browser.unfold("^Mailbox$")
            browser.wait_for("Mailbox.post")
            browser.scroll_to("Ray Core Overview")
            _picture(browser, out / "ray-job.png")
            browser.open(f"{prometheus}/graph?g0.expr={quote(GRAPH)}&g0.tab=0&g0.range_input={minutes + 1:.0f}m")
            browser.wait_for("val_mae")
            _picture(browser, out / "prometheus.png")
    finally:
        _end(monitor, signal.SIGINT)


def _end(process: Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.kill(number=number)
    process.wait()
    process.close()


def _picture(browser: Browser, path: Path) -> None:
    time.sleep(3)  # what is drawn after the text is there
    browser.picture(path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
