"""YAML files read safely, with the line of every key, so that a mistake can be shown where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from altformer.errors import UserError

MAX_BYTES = 1_000_000


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file and the 1-based line of each key by its dotted path.

    Raises UserError for a missing, huge or broken file, a key given twice, a tag that would construct an object, and
    anything but a mapping at the top.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB; this is no configuration file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(root, "", path))
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: broken YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: broken YAML: {error}") from error
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold 'key: value' lines, got a {type(value).__name__}")
    return value, lines


def _lines(node: yaml.Node | None, prefix: str, path: Path) -> Iterator[tuple[str, int]]:
    """Dotted path and line of every key below a mapping node; refuses a key given twice and a key that is no text."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{path}:{line}: a key must be plain text")
        if key.value in seen:
            raise UserError(f"{path}:{line}: key '{key.value}' is given twice")
        seen.add(key.value)
        dotted = f"{prefix}{key.value}"
        yield dotted, line
        yield from _lines(value, f"{dotted}.", path)
