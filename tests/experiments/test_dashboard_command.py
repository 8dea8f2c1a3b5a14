"""`altformer dashboard`: the addresses, or how there comes to be one."""

from __future__ import annotations

import pytest

from experiments.cli import main


def test_addresses_one_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def found(address: str | None) -> dict[str, str]:
        asked.append(address)
        return {"10.0.0.1:6379": "http://10.0.0.1:8265", "10.0.0.2:6379": "http://10.0.0.2:8265"}

    monkeypatch.setattr("cluster.dashboards.running_dashboards", found)
    assert main(["dashboard", "--address", "10.0.0.1:6379"]) == 0
    assert asked == ["10.0.0.1:6379"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:2]] == ["http://10.0.0.1:8265", "http://10.0.0.2:8265"]


def test_without_one_it_says_how_there_comes_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--address", "127.0.0.1:1"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "altformer ablate" in printed.err
    assert "--address" in printed.err
