"""One file from a public address, whole or not at all, with patience that ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ProtocolError, ReadTimeoutError

_CHUNK = 1 << 16


class DownloadError(Exception):
    """An address that gave no whole file; the message says in a few words why."""


class NoConnectionError(DownloadError):
    """The server could not be reached at all."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: for a connection, for the next bytes, and the least bytes/s after the grace."""

    connect: float = 4
    read: float = 20
    grace: float = 30
    rate: float = 2_000
    most_bytes: int = 2_000_000_000


class Advance(Protocol):
    """Told how many bytes arrived and how many there are in all, where the server says so."""

    def __call__(self, done: int, total: int | None) -> None:
        """Show it."""


def host(url: str) -> str:
    """The server of an address, for messages."""
    return urlsplit(url).netloc


def download(url: str, target: Path, patience: Patience, advance: Advance) -> None:
    """Write what the address holds to the file `target`; raises DownloadError, and the file is then not whole."""
    try:
        with requests.get(url, stream=True, timeout=(patience.connect, patience.read)) as answer:
            if not answer.ok:
                raise DownloadError(f"answered {answer.status_code} {answer.reason}")
            _save(answer, target, patience, advance)
    except requests.exceptions.ConnectTimeout:
        raise NoConnectionError(f"no connection within {patience.connect:g} s") from None
    except (requests.exceptions.Timeout, ReadTimeoutError):
        raise DownloadError(f"no data for {patience.read:g} s") from None
    except ProtocolError:
        raise DownloadError("the connection broke off") from None
    except requests.exceptions.ConnectionError as error:
        if error.args and isinstance(error.args[0], ReadTimeoutError):  # while it read the answer that redirected
            raise DownloadError(f"no data for {patience.read:g} s") from None
        raise NoConnectionError("no connection") from None
    except requests.exceptions.RequestException as error:
        raise DownloadError(type(error).__name__) from None


def _save(answer: requests.Response, target: Path, patience: Patience, advance: Advance) -> None:
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() and "Content-Encoding" not in answer.headers else None
    began, done = time.monotonic(), 0
    with target.open("wb") as file:
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):  # what has come, so that a trickle is noticed
            file.write(chunk)
            done += len(chunk)
            advance(done, total)
            elapsed = time.monotonic() - began
            if done > patience.most_bytes:
                raise DownloadError(f"sends more than {patience.most_bytes} bytes")
            if elapsed > patience.grace and done < patience.rate * elapsed:
                raise DownloadError(f"too slow: {done} bytes in {elapsed:.0f} s")
    if total is not None and done != total:
        raise DownloadError(f"the connection broke off after {done} of {total} bytes")


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """A progress bar on standard error where that is a terminal, else one line."""
    if not sys.stderr.isatty():
        print(f"fetching {label}", file=sys.stderr, flush=True)
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
