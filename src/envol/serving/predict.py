"""From the body of a request to logged predictions: what a worker thread does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

import msgspec

from envol.registry import Package
from envol.serving.http import PROBLEMS_SHOWN, HttpError, decode_json
from envol.serving.ids import Ids
from envol.serving.predictions import Prediction, PredictionLog

_SHAPE = 'send {"rows": [{...}, ...]}, a list of rows, or {"row": {...}}'
_JSON_KINDS = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}


class Predictor:
    """Decodes, checks, predicts and queues for the log. Its calls may run in several threads at once."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log
        self._ids = Ids()
        self._encoder = msgspec.json.Encoder()

    def __call__(self, package: Package, body: bytes) -> tuple[bytes, Future[None]]:
        """The answer as JSON, and a future that is done once its predictions are durable.

        Raises:
            HttpError: 400 for a body of another shape, 422 for rows that break the signature.
            StorageError: the log is closed.
        """
        rows = rows_of(decode_json(body))
        predictions = self._predict(package, rows) if rows else []
        ids = self._ids.take(len(rows))
        now = time.time_ns() // 1000
        encode = self._encoder.encode
        durable = self._log.append(
            [
                Prediction(
                    made, now, package.model, package.version, encode(row).decode(), encode(output).decode()
                )
                for made, row, output in zip(ids, rows, predictions, strict=True)
            ]
        )
        answer = {
            "model": package.model,
            "version": package.version,
            "predictions": [{"id": made, **output} for made, output in zip(ids, predictions, strict=True)],
        }
        return encode(answer), durable

    def _predict(self, package: Package, rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        frame, problems = package.signature.from_rows(rows)
        if problems:
            count = len(problems)
            listed = "" if count <= PROBLEMS_SHOWN else f"; the first {PROBLEMS_SHOWN} are listed"
            raise HttpError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "invalid_rows",
                f"{count} problem{'s' * (count > 1)} in {len(rows)} row{'s' * (len(rows) > 1)}{listed}",
                [
                    {"row": problem.row, "field": problem.field, "problem": problem.problem}
                    for problem in problems[:PROBLEMS_SHOWN]
                ],
            )
        return package.predict(frame, checked=True).to_dicts()


def rows_of(value: Any) -> list[Mapping[str, Any]]:
    """The rows of a decoded body.

    Raises:
        HttpError: 400, when it has another shape.
    """
    if isinstance(value, dict):
        if len(value) != 1 or not value.keys() <= {"rows", "row"}:
            keys = ", ".join(repr(key[:50]) for key in list(value)[:5]) or "no keys"
            raise _wrong_shape(f"the body is an object with {keys}")
        (key, value), *_ = value.items()
        if key == "row":
            value = [value]
        elif not isinstance(value, list):
            raise _wrong_shape(f"'rows' is {_kind(value)}, not a list")
    if not isinstance(value, list):
        raise _wrong_shape(f"the body is {_kind(value)}")
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise _wrong_shape(f"row {number} is {_kind(row)}, not an object")
    return value


def _kind(value: Any) -> str:
    return _JSON_KINDS.get(type(value), "a number")


def _wrong_shape(found: str) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, "wrong_shape", f"{found}; {_SHAPE}")
