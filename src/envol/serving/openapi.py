"""The service's description for programs: OpenAPI 3.1, made from the signatures of the champions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed_version
from typing import Any

from envol.registry import Field, Package
from envol.serving.models import Served
from envol.training import PREDICTION, prediction_columns

_INTEGER = re.compile(r"(U?)Int(8|16|32|64)")
_REASONS = {
    "400": "The body is not JSON, or has another shape.",
    "404": "No such model.",
    "413": "The body is too large.",
    "415": "The body is not JSON in UTF-8.",
    "422": "Rows break the model's signature; each problem names row and field.",
    "500": "The model failed; the service's log says why.",
    "503": "No champion, too many requests, or the prediction log cannot be written.",
}


def openapi(title: str, models: Iterable[Served], body_limit: int) -> dict[str, Any]:
    """The OpenAPI document of the service, with a path for each model that can answer."""
    paths: dict[str, Any] = {
        "/health": _get("health", "Whether the process is alive.", "Health"),
        "/ready": _get(
            "ready", "Whether every champion is loaded and predictions can be logged.", "Readiness"
        ),
        "/models": _get("models", "Every model, with its signature, metrics and aliases.", "Models"),
    }
    schemas: dict[str, Any] = dict(_SCHEMAS)
    for served in models:
        name, package = served.name, served.package
        if package is None:
            continue
        schemas[f"{name}.row"] = row_schema(package, served.example)
        schemas[f"{name}.prediction"] = prediction_schema(package)
        schemas[f"{name}.answer"] = _answer_schema(name)
        paths[f"/models/{name}"] = _get(f"{name}.describe", f"What {name} is and how good it is.", "Model")
        paths[f"/models/{name}/predict"] = {"post": _predict_operation(package, served.example)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": installed_version("envol"),
            "description": f"Predictions of the champion of each model. Bodies up to {body_limit} bytes.",
        },
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def row_schema(package: Package, example: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of one row of a model's input."""
    fields = package.signature.fields
    return {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in fields},
        "required": [field.name for field in fields if not field.nullable],
        "additionalProperties": False,
        "examples": [example],
    }


def field_schema(field: Field) -> dict[str, Any]:
    """JSON schema of one field: its type, its range for integers, its values for a closed list of texts."""
    kind = field.dtype
    integer = _INTEGER.fullmatch(kind)
    schema: dict[str, Any]
    if integer:
        bits = int(integer[2])
        low, high = (0, 2**bits - 1) if integer[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        schema = {"type": "integer", "minimum": low, "maximum": high}
    elif kind.startswith("Float"):
        schema = {"type": "number"}
    elif kind == "Boolean":
        schema = {"type": "boolean"}
    else:
        schema = {"type": "string"}
        if kind == "Date":
            schema["format"] = "date"
        elif kind.startswith("Datetime"):
            # RFC 3339, which the format means, has no times without an offset.
            aware = "," in kind
            schema |= {"format": "date-time"} if aware else {"description": "ISO 8601, without an offset"}
        elif field.categories is not None:
            schema["enum"] = list(field.categories)
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"].append(None)
    return schema


def prediction_schema(package: Package) -> dict[str, Any]:
    """JSON schema of one prediction: its id, the prediction, and probabilities for classes."""
    if package.task == "regression":
        return _object({"id": _ID, PREDICTION: {"type": "number"}})
    classes = list(package.classes or [])
    properties: dict[str, Any] = {"id": _ID, PREDICTION: {"enum": classes}}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    for name in prediction_columns(package.task, classes):
        properties.setdefault(name, probability)
    return _object(properties)


def _predict_operation(package: Package, example: Mapping[str, Any]) -> dict[str, Any]:
    name = package.model
    row = {"$ref": f"#/components/schemas/{name}.row"}
    rows = {"type": "array", "items": row}
    errors = {status: _content(reason, "Error") for status, reason in _REASONS.items()}
    return {
        "operationId": f"{name}.predict",
        "summary": f"Predictions of {name} (version {package.version}), each logged before it is answered.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [_object({"rows": rows}), rows, _object({"row": row})]},
                    "examples": {
                        "rows": {"value": {"rows": [example]}},
                        "one row": {"value": {"row": example}},
                    },
                }
            },
        },
        "responses": {
            "200": _content("One prediction a row, in the same order.", f"{name}.answer"),
            **errors,
        },
    }


def _answer_schema(name: str) -> dict[str, Any]:
    predictions = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}.prediction"}}
    return _object({"model": {"const": name}, "version": {"type": "integer"}, "predictions": predictions})


def _get(operation: str, summary: str, schema: str) -> dict[str, Any]:
    responses = {"200": _content(summary, schema)}
    if schema == "Readiness":
        responses["503"] = _content("The reasons why not.", schema)
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


def _content(description: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}


def _object(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


_TEXT = {"type": "string"}
_ID = {"type": "string", "format": "uuid"}
_TEXTS = {"type": "array", "items": _TEXT}
_PROBLEM = _object({"row": {"type": "integer"}, "field": _TEXT, "problem": _TEXT})
_SCHEMAS: dict[str, Any] = {
    "Health": _object({"status": {"const": "alive"}}),
    "Readiness": _object({"ready": {"type": "boolean"}, "reasons": _TEXTS, "warnings": _TEXTS}),
    "Model": _object({"name": _TEXT, "version": {"type": ["integer", "null"]}}),
    "Models": _object({"models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}),
    "Error": _object(
        {
            "error": _object(
                {
                    "code": _TEXT,
                    "message": _TEXT,
                    "problems": {"type": "array", "items": _PROBLEM},
                    "request_id": _TEXT,
                },
                optional=("request_id",),
            )
        }
    ),
}
