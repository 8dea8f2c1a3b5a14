"""Texts of files: YAML, and shell words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml


def documents(comment: str, *contents: Mapping[str, Any]) -> str:
    """YAML documents below a comment, their keys in the order given."""
    lines = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return lines + yaml.safe_dump_all(contents, sort_keys=False, width=120, explicit_start=len(contents) > 1)


def exports(variables: Mapping[str, str]) -> str:
    """A shell command that sets environment variables."""
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
