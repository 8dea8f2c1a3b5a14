"""Locks on files: one process at a time has one, and the system frees it when that process dies."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from cluster.errors import ClusterError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def lock_file(file: IO[bytes], path: Path) -> bool:
    """Lock an open file, whose path is ``path``, until it is closed; False when another process has it.

    ClusterError on a file system that has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise ClusterError(
            f"{path.parent}: its file system does not support file locks ({error.strerror}); choose another --out"
        ) from error
    return True


def open_locked(path: Path) -> IO[bytes] | None:
    """The file at a path, made if it is absent, locked until it is closed; None when another process has it.

    It is the file that is there now: one that was removed while it was being locked is no lock for who comes after.
    FileNotFoundError when its folder is gone; ClusterError as ``lock_file``.
    """
    while True:
        with ExitStack() as opened:
            file = opened.enter_context(path.open("ab", buffering=0))
            if not lock_file(file, path):
                return None
            if _is_at(file, path):
                opened.pop_all()
                return file


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)
