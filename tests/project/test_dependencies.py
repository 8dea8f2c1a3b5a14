"""The page of dependencies names every package that is asked for, in the version that is installed."""

from __future__ import annotations

import re

from benchmarks.dependencies import PAGE, direct_dependencies, pins

CELL = re.compile(r"^\| ([a-z0-9-]+) \| [^|]* \| ([^|]+) \| .* \| ([^|]+) \|$", re.MULTILINE)


def test_the_page_is_of_the_pinned_versions() -> None:
    pinned, rows = pins(), CELL.findall(PAGE.read_text())[1:]  # without the head
    assert [name for name, _, _ in rows] == [direct.name for direct in direct_dependencies()], (
        "`python -m benchmarks.dependencies` writes it anew"
    )
    assert {name: version for name, version, _ in rows} == {name: pinned.get(name, "-") for name, _, _ in rows}
    assert all(licence not in ("not said", "not installed here") for _, _, licence in rows)
