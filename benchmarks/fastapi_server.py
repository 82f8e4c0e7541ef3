"""The peer of serving.py: what one writes by hand with FastAPI, pandas and scikit-learn.

    python fastapi_server.py MODEL.pkl PORT

It validates with pydantic, and neither checks categories nor logs its predictions.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = pickle.loads(Path(sys.argv[1]).read_bytes())


class Row(BaseModel):
    distance: int
    hour: int
    wind: float | None
    temperature: float | None
    visibility: float
    delay_before: float
    carrier: str
    origin: str
    destination: str


class Body(BaseModel):
    rows: list[Row]


@app.post("/predict")
def predict(body: Body) -> dict[str, list[dict[str, float | bool]]]:
    frame = pd.DataFrame([row.model_dump() for row in body.rows])
    answers = zip(model.predict(frame), model.predict_proba(frame)[:, 1], strict=True)
    return {
        "predictions": [{"prediction": bool(one), "probability": float(chance)} for one, chance in answers]
    }


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "alive"}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
