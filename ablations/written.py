"""A YAML file over a base experiment (matrix, tuning plan, accuracy campaign) that knows the lines of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import PrivateAttr

from altformer.schema import Strict
from experiments.compose import Layer, base_experiment, settings_over
from experiments.mistakes import place_of


class Written(Strict):
    """The content of a file that knows the line of each of its keys.

    ``KIND`` is what it is called in messages, ``SHIPPED`` the folder of the files that come with the package.
    """

    KIND: ClassVar[str]
    SHIPPED: ClassVar[Path]

    if TYPE_CHECKING:  # each kind has these fields, at places of its own among the others
        name: str
        base: str
        settings: dict[str, Any]

    _path: Path | None = PrivateAttr(None)
    _lines: Mapping[str, int] = PrivateAttr(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The file it was read from, if any."""
        return self._path

    @property
    def called(self) -> str:
        """What its command takes for it: the name of a shipped file, else the path; without a file its own name."""
        if self._path is None:
            return self.name
        return self._path.stem if self._path.parent == self.SHIPPED else str(self._path)

    @property
    def base_file(self) -> Path:
        """The base experiment's YAML: beside the file, else among the experiments; UserError when in neither."""
        return base_experiment(self.base, self._path, self.where("base"))

    def settings_over(self, settings: Mapping[str, Any]) -> Layer:
        """The ``settings`` of ``--set`` over the file's own, each with its place."""
        folder = self._path.parent if self._path else Path()
        return settings_over(self.settings, lambda key: self.where("settings", key), folder, settings)

    def where(self, *keys: str) -> str:
        """``file:line`` of a key (or of the nearest one around it); kind and name where it comes from no file."""
        return place_of(self._path, self._lines, keys, f"{self.KIND} '{self.name}'")

    def lines_of(self, *keys: str) -> dict[str, int]:
        """The line of every key below some keys, by its dotted path from there."""
        prefix = ".".join(keys) + "."
        return {key.removeprefix(prefix): line for key, line in self._lines.items() if key.startswith(prefix)}

    def read_from(self, path: Path | None, lines: Mapping[str, int] | None = None) -> Self:
        """The same, known to be read from a file, whose keys (by dotted path) stand in these lines."""
        self._path, self._lines = path, lines or {}
        return self
