"""Errors that are the user's to mend: one message, no traceback, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the message states the rule, the value received and the place."""


def unknown_name(kind: str, name: str, valid: Iterable[str], where: str = "") -> UserError:
    """The error for a name that does not exist: names the nearest valid one, then all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    place = f"{where}: " if where else ""
    return UserError(f"{place}unknown {kind} '{name}'{hint} (valid: {', '.join(names)})")
