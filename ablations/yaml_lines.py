"""YAML files as dictionaries, with the line of every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from altformer.errors import UserError

Lines = dict[tuple[str, ...], int]


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """The content of a YAML file and the line (from 1) of each key's path; UserError when it is not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: a mapping of keys is needed")
    lines: Lines = {}
    _collect(path, root, (), lines)
    return values, lines


def _collect(path: Path, node: yaml.Node, parents: tuple[str, ...], lines: Lines) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            keys = (*parents, str(key.value))
            line = key.start_mark.line + 1
            if keys in lines:
                raise UserError(f"{path}:{line}: '{key.value}' is given twice (first in line {lines[keys]})")
            lines[keys] = line
            _collect(path, value, keys, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            keys = (*parents, str(index))
            lines[keys] = item.start_mark.line + 1
            _collect(path, item, keys, lines)
