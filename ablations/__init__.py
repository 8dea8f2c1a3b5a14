"""Ablation matrices: YAML files, their expansion into cells, statistics, plots and the report.

From Python: ``from ablations import load_matrix, run, report`` (docs/python.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.notebook import load_matrix, report, run

__all__ = ["load_matrix", "report", "run"]


def __getattr__(name: str) -> Any:
    """The names of the Python interface, imported when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'ablations' has no attribute '{name}'")
    from ablations import notebook

    return getattr(notebook, name)
