"""``altformer schema``: the JSON Schema of a kind of YAML file, for editors and checks before a commit."""

from __future__ import annotations

import argparse
import json

from altformer.errors import unknown_name

KINDS = ("experiment", "matrix", "tuning", "campaign", "cluster")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kind."""
    parser.add_argument("kind", metavar="|".join(KINDS), help="which kind of file the schema is of")
    parser.epilog = (
        "An editor with a YAML language server completes and checks a file whose first line is "
        "`# yaml-language-server: $schema=FILE`, with what this prints in FILE."
    )


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.kind not in KINDS:
        raise unknown_name("kind of file", args.kind, KINDS)
    print(schema_text(args.kind), end="")
    return 0


def schema_text(kind: str) -> str:
    """The schema of a kind of file as JSON."""
    from ablations.file_schemas import SCHEMAS

    return json.dumps(SCHEMAS[kind](), indent=1) + "\n"
