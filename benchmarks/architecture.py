"""Draws the packages from their imports, and lists the modules of ablations: ``python -m benchmarks.architecture``.

Both are read from the sources, so that what docs/architecture.md shows is what the code is. A test holds that it is.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path

from altformer.files import write_text
from benchmarks.simulation_page import ENDS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
FIGURE = ROOT / "docs" / "images" / "architecture.svg"
BEGINS = "<!-- written by python -m benchmarks.architecture -->"

# Where each package stands, as left, top, width, height, and where an arrow leaves one for another downwards.
BOXES = {
    "ablations": (20, 20, 920, 72),
    "experiments": (250, 148, 460, 104),
    "altformer": (20, 308, 450, 104),
    "cluster": (490, 308, 450, 104),
}
ARROWS = {
    ("ablations", "experiments"): 480,
    ("ablations", "altformer"): 135,
    ("ablations", "cluster"): 825,
    ("experiments", "altformer"): 360,
    ("experiments", "cluster"): 600,
}
WIDTH, HEIGHT = 960, 432
LETTER = 6.2  # width of one of the small ones

# The modules of ablations by what they are about; one that is in no row is among the others.
NOUNS: dict[str, tuple[str, ...]] = {
    "the matrix, as it is written": (
        "matrix", "written", "arms", "per_profile", "early_stopping", "claims",
    ),
    "the plan: cells, and which run": (
        "planning", "plan", "union", "changed", "candidates", "drafts", "further_seeds", "looks",
    ),
    "the estimate and the budget": ("estimate", "estimate_text", "power"),
    "the run": (
        "running", "groups", "trials", "contests", "events", "tracking", "tracked_report", "matrix_lock",
        "surroundings", "terminal",
    ),
    "cells and their numbers": (
        "cells", "arm_results", "statistics", "effects", "stopped_arms", "error_profiles",
    ),
    "verdicts on claims": ("claim_verdicts", "evidence", "thresholds"),
    "the report": (
        "reports/data", "reports/facts", "reports/summary", "reports/document", "reports/sections", "reports/blocks",
        "reports/files", "reports/markdown", "reports/html", "reports/latex", "reports/statistics_table",
        "reports/plots", "reports/plots_arms", "reports/plots_profiles", "reports/overview", "reports/paper_table",
        "reports/candidates",
        "reports/published", "reports/numbers", "reports/markdown_text", "reports/latex_text",
    ),
    "what is on disk afterwards": (
        "folders", "reported", "rebuilding", "status", "leftovers", "comparison",
    ),
    "commands, and Python": (
        "command", "run_options", "report_command", "compare_command", "promote_command", "status_command",
        "gc_command", "notebook",
    ),
    "a project of one's own: its files, and what an editor and a shell know of them": (
        "init_command", "schema_command", "completion_command",
    ),
    "jobs on a cluster that is elsewhere": (
        "submit_command", "job_project", "job_status",
    ),
}  # fmt: skip


def main() -> int:
    """Write the figure and the list of modules."""
    write_text(FIGURE, figure())
    write_text(PAGE, filled(PAGE.read_text(), modules_table()))
    print(f"wrote {FIGURE.relative_to(ROOT)} and the modules of {PAGE.relative_to(ROOT)}")
    return 0


def imported(package: str) -> set[str]:
    """The packages, without Python's own, that a package of ours imports anywhere in its sources."""
    found: set[str] = set()
    for tree in _trees(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - {package, *sys.stdlib_module_names}


def named(package: str, other: str) -> bool:
    """Whether a package names modules of another one as text, to import them when they are asked for."""
    module = re.compile(rf"{other}(\.\w+)+")
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and module.fullmatch(node.value)
        for tree in _trees(package)
        for node in ast.walk(tree)
    )


def figure() -> str:
    """The packages and their arrows as SVG; ValueError for an import that it has no place for."""
    imports = {package: imported(package) for package in BOXES}
    arrows = [(one, other) for one in BOXES for other in BOXES if other in imports[one]]
    if unplaced := [pair for pair in arrows if pair not in ARROWS]:
        raise ValueError(f"no place in the figure for the arrow {' -> '.join(unplaced[0])}")
    lines = [*_head(), *(line for pair in arrows for line in _arrow(*pair))]
    if named("experiments", "ablations"):
        lines += _by_name()
    for package in BOXES:
        lines += _box(package, imports[package] - set(BOXES))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _head() -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    yield "<title>The four packages of AltFormer; an arrow leads from who imports to who is imported</title>"
    yield (
        '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        '<path d="M0,0 L9,4 L0,8 z" fill="#444"/></marker></defs>'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'


def _arrow(one: str, other: str) -> Iterator[str]:
    (_, top, _, height), (_, end, _, _) = BOXES[one], BOXES[other]
    x = ARROWS[one, other]
    yield f'<path d="M{x},{top + height} V{end}" stroke="#444" stroke-width="1.5" marker-end="url(#head)"/>'


def _by_name() -> Iterator[str]:
    """The command line knows the commands of ablations by name alone."""
    (_, start, _, _), (_, top, _, height) = BOXES["experiments"], BOXES["ablations"]
    yield (
        f'<path d="M620,{start} V{top + height}" stroke="#444" stroke-width="1.5" stroke-dasharray="5 4" '
        'marker-end="url(#head)"/>'
    )
    yield f'<text x="630" y="{(start + top + height) // 2 + 4}" fill="#444">commands, by name</text>'


def _box(package: str, needs: set[str]) -> Iterator[str]:
    left, top, width, height = BOXES[package]
    yield (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="#eef3fa" stroke="#3b5b92" '
        'stroke-width="1.5"/>'
    )
    parts = sorted(path.parent.name for path in (ROOT / package).glob("*/__init__.py"))
    named_parts = f": {', '.join(parts)}" if parts else ""
    yield (
        f'<text x="{left + 14}" y="{top + 23}" font-size="15" font-weight="bold">{package}'
        f'<tspan font-size="12" font-weight="normal">{escape(named_parts)}</tspan></text>'
    )
    letters = int((width - 28) / LETTER)
    said = textwrap.wrap(_sentence(ROOT / package / "__init__.py"), letters)
    needed = textwrap.wrap(f"needs {', '.join(sorted(needs, key=str.lower))}", letters)
    for row, (text, colour) in enumerate([(text, "#111") for text in said] + [(text, "#666") for text in needed]):
        yield f'<text x="{left + 14}" y="{top + 43 + 16 * row}" fill="{colour}">{escape(text)}</text>'


def modules_table() -> str:
    """The modules of ablations by noun, as links from the page."""
    package = ROOT / "ablations"
    paths = [path for folder in (package, package / "reports") for path in sorted(folder.glob("[!_]*.py"))]
    found = [path.relative_to(package).with_suffix("").as_posix() for path in paths]
    placed = {name for names in NOUNS.values() for name in names}
    nouns = {noun: [name for name in names if name in found] for noun, names in NOUNS.items()}
    nouns["others"] = [name for name in found if name not in placed]
    rows = [
        f"| {noun} | {', '.join(f'[{Path(name).name}](../ablations/{name}.py)' for name in names)} |"
        for noun, names in nouns.items()
        if names
    ]
    return "\n".join(["| noun | modules |", "|---|---|", *rows])


def _sentence(path: Path) -> str:
    """What a module's docstring says in its first line, without the end of a sentence."""
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    return line.rstrip(".")


def filled(text: str, block: str) -> str:
    """The page with what stands between the markers replaced; ValueError where it lacks them."""
    before, begins, rest = text.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"no place for the modules: lines {BEGINS!r} and {ENDS!r} are needed")
    return f"{before}{begins}\n\n{block}\n\n{ENDS}{after}"


def _trees(package: str) -> Iterator[ast.Module]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ast.parse(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
