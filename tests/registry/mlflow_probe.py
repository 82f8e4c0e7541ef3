"""Runs in MLflow's own environment, which has no Envol: loads a package and reports what came of it.

Arguments: the package, a Parquet file with its inputs (JSON beside it), and a package whose lock is broken.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import infer_and_parse_data

PACKAGE, ROWS, BROKEN = sys.argv[1:4]


def refusal(call: Callable[[], Any]) -> str:
    """The type and the text of the error that the call raises."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def answers(predicted: pd.DataFrame) -> dict[str, Any]:
    return {name: predicted[name].tolist() for name in predicted.columns}


def main() -> None:
    logging.disable(logging.WARNING)
    assert importlib.util.find_spec("envol") is None
    model = mlflow.pyfunc.load_model(PACKAGE)
    floats = pd.read_parquet(ROWS)
    nullable = pd.read_parquet(ROWS, dtype_backend="numpy_nullable")
    objects = floats.astype({"stops": object, "remark": object, "night": object})
    complete = floats[floats["stops"].notna()].astype({"stops": "int64"})
    records = json.loads(Path(ROWS).with_suffix(".json").read_text())
    split = {"columns": list(records[0]), "data": [list(record.values()) for record in records]}
    schema = model.metadata.get_input_schema()
    example = Model.load(PACKAGE).load_input_example(PACKAGE)
    accepted = {
        "floats": floats,
        "nullable": nullable.astype({"night": "bool", "wind": "float64", "seats": "int64"}),
        "objects": objects,
        "reordered": floats[sorted(floats.columns)],
        "records": infer_and_parse_data({"dataframe_records": records}, schema),
        "split": infer_and_parse_data({"dataframe_split": split}, schema),
    }
    shifted = floats.set_axis(range(100, 100 + len(floats)))
    refused = {
        "missing column": floats.drop(columns="seats"),
        "fraction": floats.assign(stops=2.5),
        "text": floats.assign(stops="2"),
        "category": floats.assign(carrier="ZZ"),
        "missing value": floats.assign(carrier=None),
        "too large": floats.assign(seats=2**40),
    }
    print(
        json.dumps(
            {
                "inputs": json.loads(schema.to_json()),
                "outputs": json.loads(model.metadata.get_output_schema().to_json()),
                "identity": model.metadata.model_uuid,
                "answers": {name: answers(model.predict(frame)) for name, frame in accepted.items()},
                "complete": answers(model.predict(complete)),
                "without optional": answers(model.predict(floats.drop(columns=["stops", "remark"]))),
                "example": answers(model.predict(example)),
                "index kept": model.predict(shifted).index.tolist() == shifted.index.tolist(),
                "refused": {
                    name: refusal(lambda frame=frame: model.predict(frame)) for name, frame in refused.items()
                },
                "broken lock": refusal(lambda: mlflow.pyfunc.load_model(BROKEN)),
            }
        )
    )


if __name__ == "__main__":
    main()
