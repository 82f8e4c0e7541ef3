"""The chain as a Kedro pipeline: ten nodes, used again for each day by a namespace.

kedro run                            # first run
kedro run --only-missing-outputs     # run with nothing to do, and restart
"""

from __future__ import annotations

from functools import partial

import polars as pl
from kedro.pipeline import Node, Pipeline

from chain import steps


def of_day(day: str) -> Pipeline:
    def first() -> pl.DataFrame:
        return steps.first(day)

    nodes = [Node(first, inputs=None, outputs="t0", name="make_t0")]
    for number in range(1, steps.TABLES):
        make = partial(steps.following, number=number, day=day)
        nodes.append(Node(make, inputs=f"t{number - 1}", outputs=f"t{number}", name=f"make_t{number}"))
    return Pipeline(nodes, namespace=day)


def register_pipelines() -> dict[str, Pipeline]:
    return {"__default__": sum((of_day(day) for day in steps.days()), Pipeline([]))}
