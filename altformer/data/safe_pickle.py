"""DCRNN's pickled graph `[sensor ids, id to index, matrix]`, read so that nothing the pickle names is ever called.

A pickle is a program: it names any function and calls it. Here the few names that numpy's pickles use stand for
harmless stand-ins of ours, which collect the parts of an array and check them; every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from altformer.errors import UserError

_PLAIN_TYPE = re.compile(r"[biuf][1248]|[SU][0-9]{1,4}")  # numbers and text; never objects


def read_pickled_graph(path: Path) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """(sensor ids, matrix) of a pickled graph; no ids where the file holds the matrix alone. Raises UserError."""
    try:
        program = io.BytesIO(path.read_bytes())
        content = _ArraysOnly(program, encoding="latin1").load()  # DCRNN's file was written by Python 2
        ids: Any = ()
        if isinstance(content, (list, tuple)) and len(content) == 3:
            ids, _, content = content
        matrix = content.array() if isinstance(content, _Array) else None
        names = ids.array().tolist() if isinstance(ids, _Array) else list(ids)
    except Exception as error:  # a broken or hostile pickle can raise nearly anything
        reason = str(error) or "truncated"
        raise UserError(f"{path}: not a pickled graph ([sensor ids, id to index, matrix]): {reason}") from None
    if matrix is None or matrix.dtype.kind not in "fiub":
        found = type(content).__name__ if matrix is None else f"an array of {matrix.dtype}"
        raise UserError(f"{path}: expected [sensor ids, id to index, matrix of numbers], found {found}")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names), matrix


# Python's own rather than the one in C, which makes room for as many objects as a pickle says it will name.
class _ArraysOnly(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name numpy's pickles use; raises UnpicklingError for any other."""
        known = f"{module.replace('numpy._core', 'numpy.core')}.{name}"  # numpy 2 renamed the module
        if known not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array; nothing was run")
        return _STAND_INS[known]


class _Type:
    """Stands for numpy.dtype: a plain number or text type and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not _PLAIN_TYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"array of type {code!r}, expected numbers or text")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for a numpy array: shape, type and bytes, put together only after their sizes were found to agree."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> npt.NDArray[Any]:
        _, shape, kind, column_order, content = self.state
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        dtype = kind.dtype()
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(raw)} bytes do not fill an array of shape {shape} and type {dtype}")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if column_order else "C")


def _array_from_buffer(buffer: Any, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, kind, order == "F", buffer)
    return array


def _bytes_from_text(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}, expected latin1")
    return text.encode("latin1")


_STAND_INS: dict[str, Any] = {
    "numpy.ndarray": "numpy.ndarray",  # only ever an argument; text cannot be called
    "numpy.dtype": _Type,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": lambda kind, content: (kind, content),  # an index of id_to_index, not used
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "_codecs.encode": _bytes_from_text,
}
