"""The table of `make test-faults`: the issue's faults, what must happen, and what was measured when it did."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ablations.reports.markdown_text import table
from experiments import provenance

TITLE = "Faults: nothing is lost"

#: key -> fault, what must happen; in the order of the table. Tests say with `@pytest.mark.fault(key)` which they show.
ROWS: Mapping[str, tuple[str, str]] = {
    "kill": (
        "kill -9 of a trial's process, of one DDP rank",
        "cell resumes from its last checkpoint within 15 s of detection; final metrics bit-equal to an undisturbed run "
        "on CPU",
    ),
    "node": (
        "a node lost (raylet killed), 2 trials on it",
        "both resume elsewhere within 30 s; not counted as the user's failure",
    ),
    "driver": (
        "kill -9 of the driver at 20 random moments",
        "each time altformer ablate again finishes the matrix: no finished cell re-run, at most one checkpoint "
        "interval lost per running cell, no orphan processes or held GPUs",
    ),
    "head": (
        "head / GCS killed",
        "the driver ends with a clear message and exit 1 within 70 s; on a new cluster the same command goes on",
    ),
    "signals": (
        "SIGINT, SIGTERM, twice",
        "state flushed, runs marked KILLED, exit 130 / 143, nothing orphaned; a second signal ends at once",
    ),
    "mlflow": (
        "MLflow server down at the start, in the middle, at the end; slow (10 s a call)",
        "training neither fails nor slows by more than 2 %; what could not be logged is spooled and replayed later "
        "(altformer sync), no metric twice, no run twice or left RUNNING",
    ),
    "sqlite": ("8 cells logging at once to SQLite", "no lost metric"),
    "checkpoint": (
        "last checkpoint truncated or a bit flipped",
        "checksum notices, the one before is used, said in the log",
    ),
    "disk": (
        "disk full (small tmpfs)",
        'that cell fails with "disk full", records stay whole, the others go on if they can, the report still comes',
    ),
    "nan": (
        "NaN / inf at step k",
        "cell diverged within the epoch, shown, never averaged, others unaffected",
    ),
    "memory": (
        "out of memory (host; CUDA simulated by raising torch's error)",
        "classified; one retry with fewer trials per device, then failed with advice",
    ),
    "hang": (
        "a trial hangs (sleep for ever; SIGSTOP)",
        "found after a multiple of the usual epoch time, ended, retried elsewhere once",
    ),
    "alike": (
        "an error in the user's config or code that every cell shares",
        "stops after 3 identical failures instead of burning the matrix; one clear message",
    ),
    "twice": (
        "the same matrix started twice at once",
        "the second attaches or refuses; never two writers",
    ),
    "changed": (
        "config, code or data changed between start and resume",
        "cells hash differently: the plan shows what is reused and what runs again; --strict refuses",
    ),
    "input": (
        "data file truncated, wrong shape, NaN, other sensor order; YAML broken, wrong type, unknown key, 10 MB YAML, "
        "YAML tags that construct objects; pickle that would run code",
        "exit 2, one message with the place, nothing executed, nothing written",
    ),
    "surroundings": (
        "a full /tmp, read-only run directory, no permission, no GPU although asked, fewer GPUs than asked",
        "clear message before any training",
    ),
    "many": (
        "300 cells of one second on the simulated data",
        "all recorded once, driver memory growth at most 1 MB per cell, slots idle at most 35 % of the time",
    ),
}


@dataclass
class Shown:
    """What one test has shown of a row: `fault` is what it did exactly, `must` what it held it to beyond the row."""

    key: str
    test: str
    verdict: Literal["held", "FAILED", "not run"] = "not run"
    why: str = ""
    lines: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)  # fault, must, figures


def markdown(shown: Sequence[Shown], command: str) -> str:
    """The page: where it comes from, and a line for each fault, whether it was run or not."""
    verdicts = [verdict_of(key, shown) for key in ROWS]
    counts = f"{verdicts.count('held')} of {len(ROWS)} hold, {verdicts.count('FAILED')} failed, "
    counts += f"{verdicts.count('not run')} were not run."
    rows = [[fault, must, verdict_of(key, shown)] for key, (fault, must) in ROWS.items()]
    details = [row for key in ROWS for one in shown if one.key == key for row in _details(one)]
    return (
        "\n\n".join(
            [
                f"# {TITLE}",
                origin(command),
                counts,
                table(["fault", "must happen", "verdict"], rows),
                "## What was done and measured",
                table(["fault", "what the test holds it to", "verdict", "figures", "test"], details),
            ]
        )
        + "\n"
    )


def origin(command: str) -> str:
    """What wrote a page: command, commit, time, machine, versions."""
    state, machine = provenance.git_state(), provenance.hardware("cpu")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return (
        f"Written by `{command}` at commit {state['git_commit']}{' with changes' if state['git_dirty'] else ''}, "
        f"{provenance.now()}, on {machine['cpu']}, {machine['cores']} cores, {memory:.0f} GiB of memory, without GPU; "
        f"{versions}."
    )


def verdict_of(key: str, shown: Sequence[Shown]) -> str:
    """FAILED if one of the row's tests has, held if one has shown it and none failed, else `not run`."""
    verdicts = {one.verdict for one in shown if one.key == key}
    if "FAILED" in verdicts:
        return "FAILED"
    if "held" not in verdicts:
        return "not run"
    return "held" if verdicts == {"held"} else "held, in part not run"


def figure(name: str, value: Any) -> str:
    """One figure in words: `seconds_to_resume=3.21` is `seconds to resume 3.2`."""
    number = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{name.replace('_', ' ')} {number}"


def _details(one: Shown) -> list[list[str]]:
    why = "" if one.verdict == "held" else one.why
    figures = [
        [fault, must, one.verdict, "; ".join([*(figure(*item) for item in measured.items()), *filter(None, [why])])]
        for fault, must, measured in one.lines
    ]
    return [[*line, one.test] for line in figures or [[ROWS[one.key][0], "", one.verdict, why]]]
