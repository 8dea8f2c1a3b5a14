"""Names, values and numbers as MLflow accepts them, and lists cut to what one call may carry."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cluster.redaction import redact

KEY_LENGTH = 250
NAME_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
METRICS_PER_CALL = 800  # with 100 params and 100 tags they are the 1000 that MLflow takes
PAIRS_PER_CALL = 100
BYTES_PER_CALL = 500_000  # the server refuses a request of 1,000,000


def clean_key(name: object) -> str:
    """`name` as a key of a param, tag or metric: letters, digits and `_ - . : /` and blanks, at most 250 long.

    A changed name ends in a hash of the original, so that two different names never become one.
    """
    original = str(name)
    cleaned = re.sub(r"[^/\w.\- :]", "_", original, flags=re.ASCII)
    cleaned = _inside("/".join(part for part in cleaned.split("/") if part.strip(". ")))
    if cleaned == original and len(cleaned) <= KEY_LENGTH and posixpath.normpath(cleaned) == cleaned:
        return cleaned
    mark = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned[: KEY_LENGTH - 9]}_{mark}"


def clean_text(value: object, limit: int) -> str:
    """`value` as text of at most `limit` characters that every database stores; a cut is marked."""
    text = value if isinstance(value, str) else _plain(value)
    text = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 14] + " ... (cut off)"


def why(error: Exception) -> str:
    """An error in one line; of one that happened on the way to a server only what happened, not all layers of it."""
    text = redact(str(error)).strip()  # MLflow says the whole address, with its password
    cause = re.search(r"Caused by \w+\((['\"])(?:\w+\(.*?\): )?(.*?)\1\)\)", text, re.DOTALL)
    if cause:
        return cause[2]
    lines = text.splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _plain(value: object) -> str:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=str)
    return str(value)


def clean_name(value: object) -> str:
    """`value` as a run's name: one line, never empty."""
    return " ".join(clean_text(value, NAME_LENGTH).split()) or "unnamed"


def clean_folder(path: str) -> str | None:
    """`path` as a folder inside a run's artifacts: nothing above, nothing absolute; None for the top."""
    parts = [re.sub(r"[^\w.\- ]", "_", part, flags=re.ASCII) for part in path.split("/") if part.strip(". ")]
    return _inside("/".join(parts)) or None


def _inside(path: str) -> str:
    """MLflow takes whatever starts with two dots for a way out."""
    return path.lstrip(".") if path.startswith("..") else path


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The entries of `values` that are numbers, NumPy scalars and NaN among them; everything else is left out."""
    found = {}
    for key, value in values.items():
        if value is None or isinstance(value, str | bytes | Mapping | list | tuple):
            continue
        try:
            found[key] = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return found


def pairs(values: Mapping[str, Any], limit: int) -> dict[str, str]:
    """`values` as clean keys and texts of at most `limit` characters; None is left out."""
    return {clean_key(key): clean_text(value, limit) for key, value in values.items() if value is not None}


def chunks(items: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Pairs in lists that fit one call: by number, and by size as it is on the wire."""
    chunk: list[tuple[str, str]] = []
    size = 0
    for item in items:
        cost = len(json.dumps(item))
        if chunk and (len(chunk) == PAIRS_PER_CALL or size + cost > BYTES_PER_CALL):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += cost
    if chunk:
        yield chunk


def milliseconds(seconds: float) -> int:
    """A point in time as MLflow counts it; 0 for what is no time."""
    return int(seconds * 1000) if math.isfinite(seconds) and seconds > 0 else 0
