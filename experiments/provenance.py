"""Where a number comes from: commit, package versions, machine and command."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import altformer
from cluster.redaction import redact, redact_arguments

ROOT = Path(altformer.__file__).parent
_given: ContextVar[str | None] = ContextVar("command", default=None)
PACKAGES = ("torch", "numpy", "pandas", "ray", "mlflow", "safetensors", "altformer")


# In a job's environment: the commit of the sources that were sent with it, which arrive as no checkout any more.
SUBMITTED_COMMIT = "ALTFORMER_SUBMITTED_COMMIT"
_CHANGED = " with changes"


def git_state() -> dict[str, Any]:
    """Commit of the sources in use and whether they differ from it; None where they are no git checkout.

    In a job on a cluster it is what it was where the job was submitted. A checkout that is only around the sources, as
    that of a project with its environment in it, is not theirs.
    """
    if _git("ls-files", "--error-unmatch", f"{ROOT.name}/__init__.py") is None:
        commit, changed, _ = os.environ.get(SUBMITTED_COMMIT, "").partition(_CHANGED)
        return {"git_commit": commit or None, "git_dirty": bool(changed) if commit else None}
    found = _git("rev-parse", "HEAD")
    return {"git_commit": found, "git_dirty": bool(_git("status", "--porcelain")) if found else None}


def commit_text(state: Mapping[str, Any]) -> str | None:
    """The commit of a ``git_state`` in words, as ``0a1b2c`` or ``0a1b2c with changes``; None where there is none."""
    return f"{state['git_commit']}{_CHANGED if state['git_dirty'] else ''}" if state["git_commit"] else None


def installed_text(versions: Mapping[str, str] | None) -> str:
    """What is said in place of a commit where none is known; nothing where the versions lack ours too."""
    own = (versions or {}).get("altformer")
    return f"none, altformer {own} as installed" if own else ""


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT.parent), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit_tags(state: Mapping[str, Any]) -> dict[str, str]:
    """The ``git_state`` among what a run was started by, as tags; none where no commit is known."""
    return {key: str(state[key]) for key in ("git_commit", "git_dirty") if state.get(key) is not None}


@cache
def sources_hash() -> str:
    """sha256 over the sources of altformer: what a cell computes changes with them, so its identity does too."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Python and the packages that decide numbers, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def environment() -> str:
    """Every installed distribution as name==version, one a line; what this process began with, whatever comes later."""
    found = {f"{item.name}=={item.version}" for item in distributions()}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def hardware(device: str) -> dict[str, Any]:
    """The machine a run trains on."""
    info: dict[str, Any] = {"host": platform.node(), "cpu": _cpu_model(), "cores": os.cpu_count()}
    if device == "cuda":
        import torch

        info |= {"gpu": torch.cuda.get_device_name(), "gpus": torch.cuda.device_count()}
    return info


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@contextmanager
def as_command(text: str) -> Iterator[None]:
    """Within it, what runs counts as started by this command: what a call from Python does has no command line."""
    before = _given.set(text)
    try:
        yield
    finally:
        _given.reset(before)


def command() -> str:
    """The command line as the user would type it, but for secrets; also where it was run as a module."""
    if (given := _given.get()) is not None:
        return redact(given)
    name = Path(sys.argv[0]).name
    return shlex.join(["altformer" if name == "cli.py" else name, *redact_arguments(sys.argv[1:])])


def started_by() -> dict[str, Any]:
    """What only the driver knows of a run: commit, command line, and the folder it was given in."""
    return {**git_state(), "command": command(), "started_in": str(Path.cwd())}


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
