"""The fault suite's own options and fixtures: its table, runs without a fault, processes closed in the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from altformer.errors import unknown_name
from altformer.files import write_text
from tests.faults.bad_readings import CANARY, csv
from tests.faults.harness import Matrix, Records
from tests.faults.table import ROWS, Shown, markdown

SHOWN = pytest.StashKey[dict[str, Shown]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault suite (tests/faults)")
    group.addoption("--faults-report", type=Path, metavar="FILE", help="write the table of faults as Markdown")
    group.addoption("--long", action="store_true", help="the long form of rows that have one: 20 kills, not 3")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(key): shows that row of tests.faults.table.ROWS")
    config.stash[SHOWN] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how each test of a row has ended, also one that failed before it could say anything."""
    report = yield
    for mark in item.iter_markers("fault"):
        [key] = mark.args
        if key not in ROWS:
            raise unknown_name("fault", key, ROWS)
        name = f"{item.path.name}::{item.name}"
        shown = item.config.stash[SHOWN].setdefault(name, Shown(key, name))
        if report.failed:
            shown.verdict, shown.why = "FAILED", str(call.excinfo.value if call.excinfo else "").partition("\n")[0]
        elif report.skipped and shown.verdict != "FAILED":
            shown.why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.when == "call":
            shown.verdict = "held"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("faults_report", None)
    if path is not None:
        command = shlex.join(["python", "-m", "pytest", *map(str, session.config.invocation_params.args)])
        shown = list(session.config.stash[SHOWN].values())
        write_text(path, markdown(shown, command))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    path: Path | None = config.getoption("faults_report", None)
    if path is not None and path.is_file():
        terminalreporter.write_line(path.read_text())


class FaultTable:
    """Where a test says what it has measured."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def row(self, fault: str, must: str = "", **figures: Any) -> None:
        """Called at the end of a test: what exactly it did, what it held that to, and the figures it measured."""
        self._shown.lines.append((fault, must, figures))


@pytest.fixture
def fault_table(request: pytest.FixtureRequest) -> FaultTable:
    """For a test with `@pytest.mark.fault(key)`."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a test that shows a fault is marked with the row's key: @pytest.mark.fault('kill')"
    name = f"{request.node.path.name}::{request.node.name}"
    return FaultTable(request.config.stash[SHOWN].setdefault(name, Shown(mark.args[0], name)))


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether rows are to be shown in their long form."""
    return bool(request.config.getoption("long", False))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Matrix], Records]]:
    """The records of a matrix's cells that nothing happens to, trained once in a session for all matrices with them.

    Cells are the same whatever they sleep, so they sleep not at all, and wherever one process trains them, so this one
    does; those of several workers are run as a matrix.
    """
    found: dict[str, Records] = {}

    def records(matrix: Matrix) -> Records:
        calm = matrix.calm(tmp_path_factory.mktemp("undisturbed"))
        key = yaml.safe_dump([calm.content, calm.experiment])
        if key not in found and "resources" not in calm.content:
            found[key] = calm.train_here()
        elif key not in found:
            process = calm.start()
            try:
                assert process.wait() == 0, process.output
            finally:
                process.close()
            found[key] = calm.records()
        return found[key]

    yield records


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a good file of readings and the data folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    csv(Path("ok.csv"))
    yield tmp_path
    assert not Path(CANARY).exists(), "something was executed"
