"""``altformer init``: a folder to start from, with one experiment and one matrix."""

from __future__ import annotations

import argparse
from pathlib import Path

from altformer.errors import UserError
from altformer.files import write_text

TEMPLATES = Path(__file__).parent / "starting_project"
SCHEMAS = ("experiment", "matrix")  # kinds of the files that are written
NEXT = """\
Next:
{cd}  altformer ablate matrix.yaml --dry-run          # what it would run, and how long that takes
  altformer ablate matrix.yaml --profile quick    # run it, and report
README.md names what else there is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="where (default: the current folder)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and say what to do next; UserError, and nothing written, where one of them is there."""
    from ablations.schema_command import schema_text

    files = {
        path.name.replace("gitignore", ".gitignore"): path.read_text(encoding="utf-8")
        for path in sorted(TEMPLATES.iterdir())
    }
    files |= {f"schemas/{kind}.json": schema_text(kind) for kind in SCHEMAS}
    if there := [str(args.folder / name) for name in files if (args.folder / name).exists()]:
        raise UserError(f"there already: {', '.join(there)}; nothing is written: name another folder, or move them")
    try:
        for name, text in files.items():
            write_text(args.folder / name, text)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{args.folder}: cannot be written to: {error.strerror}") from None
    print(f"Written to {args.folder.absolute()}: {', '.join(files)}")
    print(NEXT.format(cd="" if args.folder == Path() else f"  cd {args.folder}\n"))
    return 0
