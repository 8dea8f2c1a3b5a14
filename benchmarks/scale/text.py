"""Numbers as the page of a scale simulation shows them."""

from __future__ import annotations


def megabytes(megabytes: float) -> str:
    """MB with one digit after the point, from 100 on with none."""
    return f"{megabytes:,.1f} MB" if megabytes < 100 else f"{megabytes:,.0f} MB"


def milliseconds(seconds: float | None) -> str:
    """Seconds in milliseconds, three digits; ``-`` for None."""
    return "-" if seconds is None else f"{1000 * seconds:.3g}"


def hours(seconds: float | None) -> str:
    """Seconds in hours; ``-`` for None."""
    return "-" if seconds is None else f"{seconds / 3600:.2f} h"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else hours(seconds)
