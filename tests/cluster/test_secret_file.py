"""Secrets are readable by their owner only, also those that others have made."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from cluster.secret_file import close_to_others, make_secret, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_secret_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    before = os.umask(0)
    try:
        make_secret(path)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert len(path.read_text()) == 64


def test_secrets_differ_and_stay(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_secret(tmp_path / name)
    first, second = ((tmp_path / name).read_text() for name in ("one", "two"))
    assert first != second
    make_secret(tmp_path / "one")
    write_private(tmp_path / "one", "another")
    assert (tmp_path / "one").read_text() == first


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o604, 0o666])
def test_a_file_that_is_too_open_is_closed_and_it_is_said(
    wide: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "auth_token"
    path.write_text("s3cret-t0ken")
    path.chmod(wide)
    close_to_others(path)
    assert mode(path) == 0o600
    assert f"{path} could be read by other users of this machine (mode {wide:o})" in caplog.text
    assert "s3cret-t0ken" not in caplog.text


def test_what_is_closed_or_not_there_is_not_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make_secret(tmp_path / "closed")
    close_to_others(tmp_path / "closed")
    close_to_others(tmp_path / "nothing")
    assert caplog.text == ""


def test_the_file_of_another_is_only_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mounted"
    path.write_text("x")
    path.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    close_to_others(path)
    assert mode(path) == 0o644
    assert f"chmod 600 {path}" in caplog.text
