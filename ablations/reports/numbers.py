"""Numbers as tables show them."""

from __future__ import annotations

from ablations.cells import MISSING
from ablations.statistics import Comparison, Summary

DECIMALS = {"mape": 2}


def spread(summary: Summary, decimals: int = 3) -> str:
    """Mean ± standard deviation, as far as there are seeds for it."""
    if summary.mean is None:
        return MISSING
    mean = f"{summary.mean:.{decimals}f}"
    return mean if summary.std is None else f"{mean} ± {summary.std:.{decimals}f}"


def number(value: float | None, decimals: int = 3) -> str:
    """A number to some decimals."""
    return MISSING if value is None else f"{value:.{decimals}f}"


def signed(value: float | None, low: float | None = None, high: float | None = None, decimals: int = 3) -> str:
    """A difference with its sign, and in brackets its interval where there is one."""
    if value is None:
        return MISSING
    bounds = "" if low is None or high is None else f" [{_plus(low, decimals)}, {_plus(high, decimals)}]"
    return f"{_plus(value, decimals)}{bounds}"


def _plus(value: float, decimals: int) -> str:
    """The number with its sign; what is rounded to zero is not below it."""
    text = f"{value:+.{decimals}f}"
    return text if text.strip("+-0.") else f"+{text[1:]}"


def interval(low: float | None, high: float | None) -> str:
    """An interval in brackets."""
    return MISSING if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def p_value(p: float | None) -> str:
    """A p value to three decimals, the smallest as a bound."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def whole(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return MISSING if value is None else f"{value:,}"


def difference(found: Comparison | None) -> str:
    """A mean difference with its sign and paired interval."""
    return MISSING if found is None else signed(found.difference, found.low, found.high)
