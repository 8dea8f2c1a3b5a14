"""YAML files read safely, with the line of every key, so that a mistake can be shown where it stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from altformer.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40  # far more than any file of ours needs, far less than Python's stack holds
_DEEP = f"nested more than {MAX_DEPTH} deep"


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file and the 1-based line of each key and list entry by its dotted path (`claims.0.arm`).

    Raises UserError for a missing, huge or broken file, a key given twice, a tag that would construct an object,
    aliases that would unfold to a huge file, and anything but a mapping at the top.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB; this is no configuration file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from error
    try:
        value, lines = _parse(text, str(path))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: broken YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        raise UserError(f"{path}:{at}: broken YAML: the character {error.character:#x} is not allowed") from error
    except RecursionError:
        raise UserError(f"{path}: broken YAML: {_DEEP}") from None
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold 'key: value' lines, got a {type(value).__name__}")
    return value, lines


def parse_yaml(text: str, place: str) -> Any:
    """A value from the command line, read as YAML; UserError naming `place` where it cannot be."""
    if len(text) > MAX_BYTES:
        raise UserError(f"{place}: a value of {len(text)} characters; put it into a file")
    try:
        return _parse(text, place)[0]
    except (yaml.YAMLError, RecursionError) as error:
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise UserError(f"{place}: cannot read the value '{shown}'") from error


def as_written(lines: Mapping[str, int], keys: Sequence[str]) -> tuple[list[str], int | None]:
    """Keys as they stand in a file, and the line of the last one, or of the nearest one around it (None: of none).

    A number among the keys may be of an entry that is written without a list around it (one grid instead of several);
    it is left out where no such entry is known.
    """
    written: list[str] = []
    line, known = None, True
    for key in keys:
        deeper = ".".join([*written, key])
        if known and deeper in lines:
            line = lines[deeper]
        elif known and key.isdigit() and line is not None:
            continue
        else:
            known = False
        written.append(key)
    return written, line


def _parse(text: str, place: str) -> tuple[Any, dict[str, int]]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        _measure(root, {}, place)
        lines = dict(_lines(root, "", place))
        return loader.construct_document(root), lines
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Says of a value that is no date or too long a number where it stands."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build plain values only, as the safe loader does."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            reason = str(error).partition(";")[0]
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], place: str) -> tuple[int, int]:
    """Characters and depth of what a node unfolds to; UserError where aliases make it huge or endless, or it is deep.

    `known` has what was found of every node seen, (0, 0) while it is measured: then an alias is for what is around it.
    """
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise UserError(f"{place}:{node.start_mark.line + 1}: broken YAML: an anchor holds an alias for itself")
        return known[id(node)]
    size, depth = (len(node.value) if isinstance(node, yaml.ScalarNode) else 0) + 1, 1
    if not isinstance(node, yaml.ScalarNode):
        known[id(node)] = (0, 0)
        entries = (entry if isinstance(entry, tuple) else (entry,) for entry in node.value)
        for part in itertools.chain.from_iterable(entries):
            inner = _measure(part, known, place)
            size, depth = size + inner[0], max(depth, inner[1] + 1)
    line = node.start_mark.line + 1
    if depth > MAX_DEPTH:
        raise UserError(f"{place}:{line}: broken YAML: {_DEEP}")
    if size > MAX_BYTES:
        raise UserError(f"{place}:{line}: its aliases (*name) unfold to more than a whole file may hold")
    known[id(node)] = (size, depth)
    return size, depth


def _lines(node: yaml.Node, prefix: str, place: str) -> Iterator[tuple[str, int]]:
    """Dotted path and line of every key and list entry below a node; refuses a key given twice or one that is no text.

    What an alias stands for has the lines of its anchor.
    """
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield f"{prefix}{number}", item.start_mark.line + 1
            yield from _lines(item, f"{prefix}{number}.", place)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{place}:{line}: a key must be plain text")
        if key.value in seen:
            raise UserError(f"{place}:{line}: key '{key.value}' is given twice")
        seen.add(key.value)
        dotted = f"{prefix}{key.value}"
        yield dotted, line
        yield from _lines(value, f"{dotted}.", place)
