"""Errors that are the user's to mend: one message, no traceback, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the message states the rule, the value received and the place."""


MOST_NAMES = 40  # as many fit on a screen


def unknown_name(kind: str, name: str, valid: Iterable[str], where: str = "") -> UserError:
    """The error for a name that does not exist: names the nearest valid one, then all of them.

    Where these are too many for a screen, only the near ones.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    place = f"{where}: " if where else ""
    listed = f"valid: {', '.join(names)}"
    if len(names) > MOST_NAMES:
        some = difflib.get_close_matches(name, names, n=8, cutoff=0.3)
        listed = f"{len(names)} names are valid" + (f", near are: {', '.join(some)}" if some else "")
    return UserError(f"{place}unknown {kind} '{name}'{hint} ({listed})")
