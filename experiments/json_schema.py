"""The JSON Schema of an experiment file, by which an editor completes its keys and marks mistakes while one types.

It is made from the configuration's own models. What their validators take beyond their types (a name alone for
``{type: name}``, a user's own model) is laid over it here, as is that every field goes by its leaf name too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from altformer.config import Config
from altformer.data.specs import SIMULATED, SPECS
from altformer.errors import UserError
from experiments.fields import SECTIONS, locate

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OWN_OPTION = "model.options.*"  # any option of a user's own model
NOTHING: Schema = {"type": "null"}
_DATASETS: Schema = {"enum": [*SPECS, SIMULATED, "auto"]}
_NULL_VALUE: Schema = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[nN][aA][nN]$"}, NOTHING]}
_OWN_MODEL: Schema = {"type": "object", "required": ["class"], "properties": {"class": {"type": "string"}}}


class _Generator(GenerateJsonSchema):
    """Leaves out titles and defaults: where a key is missing, the layer below decides."""

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        """A number where one is read as text: the arm ``48``."""
        found = super().str_schema(schema)
        return found | {"type": ["string", "number"]} if schema.get("coerce_numbers_to_str") else found

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def tagged_union_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().tagged_union_schema(schema)
        return {key: value for key, value in found.items() if key != "discriminator"}

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """What is chosen by its ``type`` must say it."""
        found = super().model_schema(schema)
        if "const" in found.get("properties", {}).get("type", {}):
            found["required"] = ["type", *(name for name in found.get("required", ()) if name != "type")]
        return found


def experiment_schema() -> Schema:
    """Of an experiment file: a base, and fields over it."""
    fields, models = field_schemas()
    whole = fields_schema(fields)
    whole["properties"] = {"base": {"type": "string"}, **whole["properties"]}
    return {"$schema": DIALECT, "title": "AltFormer experiment", **whole, "$defs": {**fields, **models}}


def model_schema(model: type[BaseModel]) -> Schema:
    """Of a configuration model, whose members are in its ``$defs``."""
    return model.model_json_schema(schema_generator=_Generator)


def reference(definition: str) -> Schema:
    """Whatever is defined under a name in ``$defs``."""
    return {"$ref": f"#/$defs/{definition}"}


def fields_schema(paths: Iterable[str], value: Callable[[str], Schema] = reference) -> Schema:
    """A mapping from fields, by each name that sets them, to ``value`` of their dotted path."""
    named = {name: value(path) for path in paths if path != OWN_OPTION for name in _names(path)}
    return _closed(named, {r"^model\.options\..": value(OWN_OPTION)})


def field_schemas() -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The schemas of all sections and fields by dotted path, and of the models that they refer to by name."""
    config = model_schema(Config)
    models, fields = config["$defs"], _fields(config)
    fields["dataset.name"] = {"anyOf": [_DATASETS, NOTHING]}
    fields["dataset.null_value"] = _NULL_VALUE
    models["OneCycle"]["properties"]["anneal_strategy"] = {"const": "cos"}
    for path in ("training.scheduler", "training.optimizer"):
        fields[path] = named_or(fields[path], models)
    kinds = {"enum": list(_types(config["properties"]["model"], models))}
    sections = {section: _section(section, fields) for section in SECTIONS}
    sections["dataset"] = {"anyOf": [_DATASETS, sections["dataset"]]}
    sections["model"] = {"anyOf": [kinds, _OWN_MODEL, sections["model"]]}
    for section in SECTIONS:
        for model in _members(config["properties"][section]):  # what stands for it is the section
            del models[model]
    return {**sections, **fields, "seed": config["properties"]["seed"], OWN_OPTION: {}}, models


def named_or(schema: Schema, models: Mapping[str, Schema]) -> Schema:
    """A choice by ``type``, or the name of one alone."""
    return {"anyOf": [{"enum": list(_types(schema, models))}, schema]}


def _fields(config: Schema) -> dict[str, Schema]:
    """Every field of every section by dotted path; one that several models have takes what any of them takes."""
    found: dict[str, list[Schema]] = {}
    for section in SECTIONS:
        for path, schema in _below(config["properties"][section], config["$defs"], f"{section}."):
            if schema not in found.setdefault(path, []):
                found[path].append(schema)
    return {path: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for path, schemas in found.items()}


def _below(schema: Schema, models: Mapping[str, Schema], prefix: str) -> Iterator[tuple[str, Schema]]:
    for member in _members(schema):
        for name, field in models[member]["properties"].items():
            yield f"{prefix}{name}", field
            yield from _below(field, models, f"{prefix}{name}.")


def _members(schema: Schema) -> Iterator[str]:
    """The names of the models that a value may be of."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for member in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _members(member)


def _types(schema: Schema, models: Mapping[str, Schema]) -> Iterator[str]:
    for member in _members(schema):
        kind = models[member]["properties"]["type"]
        yield from kind.get("enum", [kind.get("const")])


def _section(section: str, fields: Iterable[str]) -> Schema:
    below = {path.removeprefix(f"{section}."): reference(path) for path in fields if path.startswith(f"{section}.")}
    return _closed(below, {r"^options\..": {}} if section == "model" else {})


def _names(path: str) -> Iterator[str]:
    """The dotted path, and every end of it that stands for this field alone."""
    parts = path.split(".")
    for start in range(len(parts)):
        name = ".".join(parts[start:])
        with suppress(UserError):
            if locate(name) == path:
                yield name


def _closed(properties: Mapping[str, Schema], patterns: Mapping[str, Schema]) -> Schema:
    closed: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return closed | ({"patternProperties": dict(patterns)} if patterns else {})
