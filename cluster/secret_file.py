"""Files with a secret in them: made readable by their owner only, and closed where they are not."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
from pathlib import Path

log = logging.getLogger(__name__)


def make_secret(path: Path) -> None:
    """A new secret of 64 hex digits in a file of its own; one that is there stays. OSError where it cannot be made."""
    write_private(path, secrets.token_hex(32))


def write_private(path: Path, text: str) -> None:
    """A new file, readable by its owner only from the first moment on; one that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):  # another run was faster
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def close_to_others(path: Path) -> None:
    """Take the file from everybody but its owner, and say so: whoever has read it meanwhile still knows what it says.

    ``ray get-auth-token --generate`` makes files that all users of the machine can read. Nothing happens where there is
    no file. One that belongs to somebody else, as where it is mounted into a container, is only warned of.
    """
    try:
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if not mode & 0o077:
            return
        if found.st_uid == os.geteuid():
            path.chmod(0o600)
            now = "it is closed to them now; if somebody may have read it, delete it, and a new one is made"
        else:
            now = f"close it to them: chmod 600 {path}"
    except OSError:
        return
    log.warning("%s could be read by other users of this machine (mode %o): %s", path, mode, now)
