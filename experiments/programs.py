"""What a user types to run a program of this environment: after `make` it is not known to the shell by its name."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def program(name: str) -> str:
    """The name where the user's shell finds this very program, else its path, from here if it lies below."""
    own = Path(sys.executable).with_name(name)
    if not own.is_file() or shutil.which(name) == str(own):
        return name
    below = Path.cwd() in own.parents
    return shlex.quote(os.path.relpath(own) if below else str(own))
