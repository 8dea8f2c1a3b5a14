"""Seeds as a command line names them."""

from __future__ import annotations

from altformer.errors import UserError


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``0,1,2``, in that order; UserError where they are none, or one is named twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--seeds takes whole numbers with commas between, such as 0,1,2, got '{text}'")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds takes each seed once, got '{text}'")
    return seeds
