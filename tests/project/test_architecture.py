"""docs/architecture.md says what the sources say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import architecture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("altformer", "cluster", "experiments", "ablations")
AGAIN = "`python -m benchmarks.architecture` writes it anew"


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def sources() -> dict[Path, str]:
    return {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def test_the_figure_and_the_modules_are_those_of_the_sources() -> None:
    assert architecture.FIGURE.read_text() == architecture.figure(), AGAIN
    assert architecture.filled(PAGE, architecture.modules_table()) == PAGE, AGAIN


def test_every_module_of_the_list_is_in_one_row() -> None:
    placed = [name for names in architecture.NOUNS.values() for name in names]
    package = ROOT / "ablations"
    modules = {path for folder in (package, package / "reports") for path in folder.glob("[!_]*.py")}
    assert len(placed) == len(set(placed))
    rows = section("The modules of ablations").partition(architecture.BEGINS)[2].partition(architecture.ENDS)[0]
    links = re.findall(r"\[(\w+)\]\(\.\./ablations/([\w/]+)\.py\)", rows)
    assert {(path.stem, path.relative_to(package).with_suffix("").as_posix()) for path in modules} == set(links)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four packages without a module in them."""
    monkeypatch.setattr(architecture, "ROOT", tmp_path)
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""What {name} is."""\n')
    return tmp_path


def test_arrows_are_drawn_as_the_imports_are(packages: Path) -> None:
    (packages / "experiments" / "one.py").write_text(
        "def f():\n    from altformer.model import x\n    import torch, os\n"
    )
    drawn = architecture.figure()
    assert drawn.count("marker-end") == 1 and "by name" not in drawn
    assert "needs torch<" in drawn and "What experiments is" in drawn
    (packages / "experiments" / "two.py").write_text('COMMANDS = {"ablate": "ablations.command"}\n')
    assert architecture.figure().count("marker-end") == 2 and "by name" in architecture.figure()
    (packages / "altformer" / "one.py").write_text("import cluster.work\n")
    with pytest.raises(ValueError, match="altformer -> cluster"):
        architecture.figure()


def test_the_steps_from_yaml_to_row_name_what_is_there() -> None:
    steps = section("From a line of YAML to a row of the report")
    named = {match for match in re.findall(r"`(?:\w+\.)?(\w+)\.(\w+)`", steps) if match[1] not in ("json", "csv")}
    assert len(named) > 15
    found = sources()
    for module, name in sorted(named):
        texts = [text for path, text in found.items() if path.stem == module]
        assert any(re.search(rf"^(?:def|class) {name}\b", text, re.MULTILINE) for text in texts), f"{module}.{name}"
    shapes = re.findall(r"^\| `(\w+)` \| \[(\S+)\]", steps, re.MULTILINE)
    assert len(shapes) == 4
    for name, file in shapes:
        assert f"\nclass {name}:\n" in (ROOT / file).read_text()


def test_every_file_of_the_table_is_written_by_the_sources() -> None:
    rows = [line for line in section("What lies where").splitlines() if line.startswith("| `")]
    files = {
        name
        for row in rows
        for name in re.findall(r"(?<![*.\w-])([a-z_]+\.(?:jsonl?|csv|md|yaml|txt|npz|db|pt|safetensors))", row)
    }
    everything = "\n".join(sources().values())
    assert len(files) > 20
    assert {name for name in files if f'"{name}"' not in everything} == set()
