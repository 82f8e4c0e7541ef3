"""MLflow's files of a package, written without MLflow."""

from __future__ import annotations

import json
import math
import platform
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from envol.registry.fields import FLOATS, TEXTS, Field
from envol.registry.loader import Scorer
from envol.training import PREDICTION, prediction_columns

EXAMPLE = "input_example.json"
SERVING_EXAMPLE = "serving_input_example.json"
EXAMPLE_ROWS = 5
CODE = "code"
_OUTPUTS = {bool: "boolean", int: "long", float: "double", str: "string"}


def write_mlflow_files(
    folder: Path,
    scorer: Scorer,
    example: pl.DataFrame,
    *,
    loader: str,
    requirements: list[str],
    identity: str,
    created: datetime,
) -> None:
    """Write `MLmodel`, `python_env.yaml`, `requirements.txt` and the input examples.

    Args:
        loader: the module in `code/` that MLflow loads the model with.
        requirements: lines such as "numpy==2.4.6".
        identity: 32 hexadecimal digits that stand for the content.
    """
    import yaml

    python = platform.python_version()
    model = {
        "flavors": {
            "python_function": {
                "code": CODE,
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": loader,
                "python_version": python,
                "streamable": False,
            }
        },
        "model_uuid": identity,
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps([_column(field) for field in scorer.signature.fields]),
            "outputs": json.dumps(_outputs(scorer)),
            "params": None,
        },
        "utc_time_created": f"{created.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}",
    }
    environment = {"python": python, "build_dependencies": [], "dependencies": ["-r requirements.txt"]}
    split = {"columns": example.columns, "data": [list(map(_as_json, row)) for row in example.rows()]}
    files = {
        "MLmodel": yaml.safe_dump(model),
        "python_env.yaml": yaml.safe_dump(environment, sort_keys=False),
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        EXAMPLE: json.dumps(split),
        SERVING_EXAMPLE: json.dumps({"dataframe_split": split}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _column(field: Field) -> dict[str, Any]:
    return {"type": mlflow_type(field), "name": field.name, "required": not field.nullable}


def mlflow_type(field: Field) -> str:
    """The type that MLflow enforces before the package's own, stricter check.

    Its "long" and "boolean" refuse or change missing values, its "double" refuses integers other than 0
    and 1, its "datetime" refuses time zones (measured on MLflow 3.17): those fields are "any".
    """
    if field.dtype in FLOATS:
        return "double"
    if field.dtype in TEXTS:
        return "string"
    if field.dtype == "Boolean":
        return "any" if field.nullable else "boolean"
    if field.dtype == "Date" or (field.dtype.startswith("Datetime") and "," not in field.dtype):
        return "datetime"
    return (
        "any" if field.nullable or field.dtype == "UInt64" or field.dtype.startswith("Datetime") else "long"
    )


def _outputs(scorer: Scorer) -> list[dict[str, Any]]:
    label = "double" if scorer.classes is None else _OUTPUTS[type(scorer.classes[0])]
    return [
        {"type": label if name == PREDICTION else "double", "name": name, "required": True}
        for name in prediction_columns(scorer.task, scorer.classes)
    ]


def _as_json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
