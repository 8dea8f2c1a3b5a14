"""A test's process as a driver on a cluster of several nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from cluster.connection import Connection, connect


@contextmanager
def driver(address: str, environment: Mapping[str, str]) -> Iterator[Connection]:
    """Connect to a cluster from here, as its user would."""
    with its_user(environment), connect(address) as connection:
        yield connection


@contextmanager
def its_user(environment: Mapping[str, str]) -> Iterator[None]:
    """Have a cluster's variables, and its token, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        _forget_token()
        yield
    _forget_token()


def _forget_token() -> None:
    """Let Ray read its token again, which it does once in a process: every cluster of the tests has its own."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
