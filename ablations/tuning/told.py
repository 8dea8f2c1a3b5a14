"""What a search was told of each of its proposals, so that told again it asks the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from ablations.tuning.log import JsonLines
from ablations.tuning.search import Proposal, Result


class ToldLog:
    """``told.jsonl``: the result of every proposal as the search heard it first.

    The records alone do not say it for ever: a cell that a search saw stopped early, a later stage may have finished.
    """

    def __init__(self, log: JsonLines) -> None:
        self._log = log

    def result(self, stage: str, proposal: Proposal, cells: Sequence[str], now: Callable[[], Result]) -> Result:
        """What was told of a proposal run as these cells; else what it has come to now, which is noted."""
        key = {"stage": stage, "proposal": proposal.name, "settings": proposal.settings, "cells": list(cells)}
        for entry in self._log.read():
            if {name: entry.get(name) for name in key} == key:
                return Result(entry["status"], entry["value"], entry["epoch"])
        found = now()
        if found.value is not None and not math.isfinite(found.value):
            found = replace(found, value=None)  # which the search takes alike
        self._log.append({**key, **asdict(found)})
        return found
