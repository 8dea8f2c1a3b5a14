"""The packages this project stands on, their ages and licences, as a page: ``python -m benchmarks.dependencies``.

Versions are those of constraints.txt, licences what the installed packages say of themselves, and dates those at which
the package index took the version and its newest one; so it needs the network and the project's own environment.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import requests

from ablations.reports.markdown_text import table
from altformer.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
_JSON = "application/vnd.pypi.simple.v1+json"  # PEP 691; upload times are those of PEP 700
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SHORT = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF",
    "3-Clause BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
}
UNSAID = "not said"
_NOT_ONE = {"DFSG approved", "OSI Approved"}  # classifiers that name no licence
_WHERE = {
    "": "always",
    "optuna": "for searches",
    "server": "for MLflow behind a password",
    "dev": "for tests and checks",
}


@dataclass(frozen=True)
class Direct:
    """A package that pyproject.toml names, and in which of its groups."""

    name: str
    group: str


def main() -> None:
    """Write docs/dependencies.md."""
    pinned = pins()
    rows = [row(direct, pinned) for direct in direct_dependencies()]
    found = {name: licence(name) for name in pinned}
    licences = table(
        ("licence", "packages"), [(said, str(count)) for said, count in Counter(found.values()).most_common()]
    )
    silent = [name for name, said in found.items() if said == UNSAID]
    parts = [
        "# Dependencies",
        "Written by `python -m benchmarks.dependencies`. Versions are those of constraints.txt, which `make` installs; "
        "the lower bounds are in pyproject.toml. A licence is what the package says of itself.",
        table(("package", "needed", "version", "released", "newest", "its release", "licence"), rows),
        f"With what these need there are {len(pinned)} packages:",
        licences,
        f"Not said in the package's metadata: {', '.join(silent) or 'none'}.",
        "Known holes in these versions: `make audit`.",
    ]
    write_text(PAGE, "\n\n".join(parts) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)}")


def direct_dependencies() -> list[Direct]:
    """What pyproject.toml asks for, each package once, by its first group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, Direct] = {}
    for group, wanted in groups.items():
        for requirement in wanted:
            name = normal(_NAME.match(requirement)[0])  # type: ignore[index]
            if name != project["name"]:
                found.setdefault(name, Direct(name, group))
    return list(found.values())


def pins() -> dict[str, str]:
    """The versions of constraints.txt by normal name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def row(direct: Direct, pinned: dict[str, str]) -> tuple[str, ...]:
    """What is to be said of a package."""
    released = dict(releases(direct.name))
    version = pinned.get(direct.name, "-")
    newest = max(released, key=_numbers, default="-")
    dates = [released.get(one, "-") for one in (version, newest)]
    return (direct.name, _WHERE[direct.group], version, dates[0], newest, dates[1], licence(direct.name))


def releases(name: str) -> Iterator[tuple[str, str]]:
    """Each final version that the package index has, and the day it took it."""
    from pip._internal.models.index import PyPI

    address = f"{PyPI.simple_url.rstrip('/')}/{name}/"
    answer = requests.get(address, headers={"Accept": _JSON}, timeout=60)
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    for file in content["files"]:
        version = _version(file["filename"], name)
        if re.fullmatch(r"[0-9.]+(?:\.post[0-9]+)?", version) and not file.get("yanked"):
            yield version, file["upload-time"][:10]


def licence(name: str) -> str:
    """What the installed package says: its expression, else its classifier, else its first words."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    if expression := found["License-Expression"]:
        return str(expression)
    classifiers = [one for one in found.get_all("Classifier") or () if one.startswith("License ::")]
    classified = [one.rpartition(" :: ")[2] for one in classifiers if not one.endswith(tuple(_NOT_ONE))]
    said = classified[0] if classified else (found["License"] or UNSAID).splitlines()[0]
    return _SHORT.get(said, said)


def normal(name: str) -> str:
    """A package's name as indexes have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(file: str, name: str) -> str:
    """The version in the name of a wheel or a source distribution."""
    rest = file[len(name) + 1 :]
    return rest.partition("-")[0].removesuffix(".tar.gz").removesuffix(".zip")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


if __name__ == "__main__":
    main()
