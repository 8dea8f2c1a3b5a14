"""The files that tell others what this is: citation, changelog and package say the same version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert str(cited["version"]) == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert all(cited[key] for key in ("message", "title", "type", "abstract"))
    assert [author["name"] for author in cited["authors"]]


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[([^]]+)\] - (\S+)$", text, re.MULTILINE)
    assert versions[0][0] in (PROJECT["version"], "Unreleased")
    assert PROJECT["version"] in [version for version, _ in versions]
    sections = set(re.findall(r"^### (.*)", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    named = set(re.findall(r"`altformer ([a-z-]+)", text))
    from experiments.cli import COMMANDS

    assert named <= {name.split()[0] for name in COMMANDS}
