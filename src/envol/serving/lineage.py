"""The lineage of an online prediction: what was asked and answered, and the version that answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from envol.errors import NotFoundError
from envol.pipeline.lineage import model_origin
from envol.serving.predictions import PredictionLog

if TYPE_CHECKING:
    from envol.pipeline.lineage import ModelOrigin
    from envol.project import Project
    from envol.storage import Store


@dataclass(frozen=True)
class PredictionLineage:
    """One online prediction and the model version that made it; `at` in UTC."""

    id: str
    at: datetime
    input: dict[str, Any]
    output: dict[str, Any]
    model: ModelOrigin


def prediction_lineage(
    project: Project, store: Store, identity: str, *, depth: int | None = None, every_window: bool = False
) -> PredictionLineage:
    """The lineage of a prediction in the log, by the id that the service answered.

    Args:
        depth, every_window: as of `envol.pipeline.lineage`.

    Raises:
        NotFoundError: the log has no such prediction, or its version is not registered any more.
    """
    found = PredictionLog.in_store(store.path).find(identity)
    if found is None:
        raise NotFoundError(
            f"the prediction log has no prediction {identity!r}",
            remedy="take the id from the service's answer",
        )
    return PredictionLineage(
        id=found.id,
        at=datetime.fromtimestamp(found.at / 1_000_000, UTC),
        input=json.loads(found.input),
        output=json.loads(found.output),
        model=model_origin(
            project, store, found.model, found.version, depth=depth, every_window=every_window
        ),
    )
