"""What a run needs of this machine, looked at before anything is trained: room and permission to write, Ray's folder.

Each check raises ClusterError with one sentence on what is missing and the way out; what a run can do without, only
more slowly, is returned as a sentence to be shown. Nothing is left behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster.errors import ClusterError

OUT_BYTES = 50_000_000  # for a matrix's records, checkpoints and report to begin with
RAY_BYTES = 100_000_000  # what a Ray of our own writes into its folder at the start: logs, sockets, sessions
STORE_BYTES = 80_000_000  # the smallest object store that Ray takes
OPEN_FILES = 1024
SHARED_MEMORY = Path("/dev/shm")

# Ray's sockets lie in <folder>/ray/session_<time>_<pid>/sockets; a path to one may not be longer than the system's 107.
_SOCKET = "ray/session_2026-01-31_00-00-00_000000_4194304/sockets/plasma_store"
_LONGEST_SOCKET = 107


def check_machine(out: Path, local: bool, data_bytes: int = 0) -> list[str]:
    """All checks of a run that writes below `out`; those of Ray's folder only where a Ray of our own is to start here.

    `data_bytes` is the size of the readings, which the object store holds once. Returns what is worth a notice.
    """
    check_out(out)
    if not local:
        return []
    check_ray_folder(ray_folder(), data_bytes)
    return [*shared_memory_notices(ray_folder(), data_bytes), *open_files_notices()]


def check_out(out: Path) -> None:
    """Whether records, checkpoints and reports can be written: below `out`, and where its cells are."""
    for folder in (out, out / "cells"):
        check_writable(folder)
    check_space(out, OUT_BYTES)


def check_writable(folder: Path) -> None:
    """ClusterError unless files can be made in the folder, or where it would be made in the nearest one above it."""
    there = _nearest(folder)
    if not there.is_dir():
        raise ClusterError(f"{folder}: cannot be written to: {there} is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        at = "" if there == folder.absolute() else f" (the nearest folder that is there is {there})"
        raise ClusterError(
            f"{folder}: cannot be written to: {error.strerror}{at}; choose another folder with --out"
        ) from None


def check_space(folder: Path, need: int, way_out: str = "free some, or choose another folder with --out") -> None:
    """ClusterError where the disk of a folder has less room than `need` bytes, or can hold no further file."""
    there = _nearest(folder)
    free, status = shutil.disk_usage(there).free, os.statvfs(there)
    if free < need:
        raise ClusterError(f"{folder}: {_mb(free)} are free on its disk, {_mb(need)} are needed; {way_out}")
    if status.f_files and not status.f_favail:
        raise ClusterError(f"{folder}: its disk can hold no further file (no inodes are free); {way_out}")


def ray_folder() -> Path:
    """Below which a Ray of our own puts its sockets and logs, in a folder `ray`."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")


def check_ray_folder(folder: Path, data_bytes: int = 0) -> None:
    """ClusterError where a Ray of our own could not start in the folder: not writable, full, or of too long a path.

    The readings go there too where shared memory is too small for them.
    """
    longest = len(os.fsencode(folder.absolute() / _SOCKET))
    if longest > _LONGEST_SOCKET:
        raise ClusterError(
            f"{folder}: too long a path for Ray's temporary folder: its sockets would have {longest} characters, the "
            f"system takes {_LONGEST_SOCKET}; set RAY_TMPDIR to a shorter path"
        )
    way_out = "set RAY_TMPDIR to a folder with room, or free some"
    try:
        check_writable(folder / "ray")
    except ClusterError as error:
        raise ClusterError(f"Ray's temporary folder {str(error).partition('; choose')[0]}; {way_out}") from None
    in_memory = _free_shared_memory() >= STORE_BYTES + data_bytes
    try:
        check_space(folder, RAY_BYTES if in_memory else RAY_BYTES + STORE_BYTES + data_bytes, way_out)
    except ClusterError as error:
        raise ClusterError(f"Ray's temporary folder {error}") from None


def shared_memory_notices(folder: Path, data_bytes: int) -> Iterator[str]:
    """A sentence where shared memory is too small for the readings, which then are shared through files."""
    free, need = _free_shared_memory(), STORE_BYTES + data_bytes
    if free < need:
        yield (
            f"{SHARED_MEMORY} has {_mb(free)} free, {_mb(need)} are needed: readings are shared through files in "
            f"{folder}, more slowly (a container gets more with docker run --shm-size)."
        )


def open_files_notices() -> Iterator[str]:
    """A sentence where the system's limit on open files is low: Ray raises it as far as it may, but no further."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        yield (
            f"A process may open {hard} files, which is few for Ray with many trials at once; raise it with "
            f"ulimit -n {OPEN_FILES} or more."
        )


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    whole = folder.absolute()
    return next(one for one in (whole, *whole.parents) if os.path.lexists(one) or one == one.parent)


def _free_shared_memory() -> int:
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
