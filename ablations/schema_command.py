"""``altformer schema``: the JSON Schema of a kind of YAML file, for editors and checks before a commit.

What the validators of a matrix, a plan or a campaign take beyond their types is laid over their models' own schemas.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from ablations.accuracy.plan import AccuracyPlan
from ablations.matrix import Matrix
from ablations.tuning.plan import TuningPlan
from altformer.errors import unknown_name
from cluster.launch.config import ClusterConfig
from experiments.fields import SECTIONS
from experiments.json_schema import (
    DIALECT,
    NOTHING,
    Schema,
    experiment_schema,
    field_schemas,
    fields_schema,
    model_schema,
    named_or,
    reference,
)

_FIELDS = reference("Fields")  # field: value
_LISTS = reference("Lists")  # field: list of values
_NAMED = ("properties", "patternProperties")  # keywords that have a schema for each of some names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kind."""
    parser.add_argument("kind", metavar="|".join(SCHEMAS), help="which kind of file the schema is of")
    parser.epilog = (
        "An editor with a YAML language server completes and checks a file whose first line is "
        "`# yaml-language-server: $schema=FILE`, with what this prints in FILE."
    )


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.kind not in SCHEMAS:
        raise unknown_name("kind of file", args.kind, SCHEMAS)
    print(schema_text(args.kind), end="")
    return 0


def schema_text(kind: str) -> str:
    """The schema of a kind of file as JSON."""
    return json.dumps(SCHEMAS[kind](), indent=1) + "\n"


def _matrix_schema() -> Schema:
    """Of a matrix file; in what it says of fields any value may be one for each profile."""
    whole = model_schema(Matrix)
    definitions = whole.pop("$defs")
    published = definitions["PublishedModel"]
    published["patternProperties"] = {"^[0-9]+$": published["additionalProperties"]}
    published["additionalProperties"] = False
    blocks = {"anyOf": [_LISTS, {"type": "array", "items": _LISTS}]}
    whole["properties"] |= {
        "grid": blocks,
        "zip": blocks,
        "tune_per_arm": _LISTS,
        "scheduler": {"anyOf": [NOTHING, named_or(whole["properties"]["scheduler"], definitions)]},
    }
    definitions["PerProfile"] = _NUMBER
    return _file(whole, {**definitions, **_of_fields(each_profile=True)})


def _tuning_schema() -> Schema:
    """Of a tuning plan; everywhere in it a value may be one for each profile."""
    whole = model_schema(TuningPlan)
    definitions = whole.pop("$defs")
    search = definitions["SearchStage"]["properties"]
    dimension = search["space"]["additionalProperties"]
    search |= {
        "grid": _LISTS,
        "space": reference("Space"),
        "scheduler": {"anyOf": [NOTHING, named_or(search["scheduler"], definitions)]},
    }
    definitions = {name: _per_profile(model) for name, model in definitions.items()}
    definitions["PerProfile"] = _NUMBER
    fields = _of_fields(each_profile=True)
    fields["Dimension"] = _either(_per_profile(dimension))
    fields["Space"] = fields_schema(field_schemas()[0], lambda _: reference("Dimension"))
    return _file(_per_profile(whole), {**definitions, **fields})


def _campaign_schema() -> Schema:
    """Of an accuracy campaign."""
    whole = model_schema(AccuracyPlan)
    definitions = whole.pop("$defs")
    training = definitions["Training"]["properties"]
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    training["datasets"] = {"anyOf": [names, training["datasets"]]}
    return _file(whole, {**definitions, **_of_fields(each_profile=False)})


def _cluster_schema() -> Schema:
    """Of what ``altformer cluster render --config`` reads."""
    whole = model_schema(ClusterConfig)
    return {"$schema": DIALECT, **whole}


def _file(whole: Schema, definitions: dict[str, Schema]) -> Schema:
    return {"$schema": DIALECT, **_with_fields(whole), "$defs": _with_fields(definitions)}


def _with_fields(schema: Any) -> Any:
    """A schema in which every mapping from any text to anything is one of fields."""
    if isinstance(schema, list):
        return [_with_fields(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("additionalProperties") is True:
        return {"anyOf": [_FIELDS, NOTHING]}
    return {key: _with_fields(item) for key, item in schema.items()}


def _of_fields(*, each_profile: bool) -> dict[str, Schema]:
    """Definitions: every field, a list of its values, and the mappings ``Fields`` and ``Lists`` to one or the other."""
    fields, models = field_schemas()
    lists = {path: {"type": "array", "items": reference(path), "minItems": 1} for path in fields}
    mappings = {"Fields": fields_schema(fields), "Lists": fields_schema(fields, lambda path: reference(f"{path}.list"))}
    if each_profile:
        models = {name: _per_profile(model) for name, model in models.items()}
        lists = {path: _either(values) for path, values in lists.items()}
        one = {path: value if path in SECTIONS else _per_profile(value) for path, value in fields.items()}
        fields = {path: _either(reference(f"{path}.one")) for path in fields}
        fields |= {f"{path}.one": value for path, value in one.items()}
    return {**mappings, **fields, **{f"{path}.list": values for path, values in lists.items()}, **models}


def _either(schema: Schema) -> Schema:
    """A value, or one for each profile."""
    both = {
        "type": "object",
        "properties": {"quick": schema, "full": schema},
        "required": ["quick", "full"],
        "additionalProperties": False,
    }
    return {"anyOf": [schema, both]}


def _per_profile(schema: Schema) -> Schema:
    """A schema in which every value, however deep, may be one for each profile, but for the ``type`` chosen by."""
    changed = dict(schema)
    for key, value in schema.items():
        if key in _NAMED:
            changed[key] = {
                name: below if name == "type" else _either(_per_profile(below)) for name, below in value.items()
            }
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            changed[key] = _either(_per_profile(value))
        elif key in ("anyOf", "oneOf"):
            changed[key] = [_per_profile(below) for below in value]
    return changed


_NUMBER = _either({"type": "integer", "minimum": 1})  # a PerProfile

SCHEMAS: dict[str, Callable[[], Schema]] = {  # by kind of file
    "experiment": experiment_schema,
    "matrix": _matrix_schema,
    "tuning": _tuning_schema,
    "campaign": _campaign_schema,
    "cluster": _cluster_schema,
}
