"""The chain as a Metaflow flow: a foreach over the days, a task (a process) for each table and day.

    python metaflow_chain.py run --max-workers 2         # first run
    python metaflow_chain.py resume --max-workers 2      # run with nothing to do, and restart

The path of the file that a task wrote is an artifact, which a resumed run takes over.
"""

from __future__ import annotations

import polars as pl
import steps
from metaflow import FlowSpec, step


def following(before: str, number: int, day: str) -> str:
    return steps.write(steps.following(pl.read_parquet(before), number, day), number, day)


class Chain(FlowSpec):
    @step
    def start(self):
        self.days = steps.days()
        self.next(self.t0, foreach="days")

    @step
    def t0(self):
        self.day = self.input
        self.path = steps.write(steps.first(self.day), 0, self.day)
        self.next(self.t1)

    @step
    def t1(self):
        self.path = following(self.path, 1, self.day)
        self.next(self.t2)

    @step
    def t2(self):
        self.path = following(self.path, 2, self.day)
        self.next(self.t3)

    @step
    def t3(self):
        self.path = following(self.path, 3, self.day)
        self.next(self.t4)

    @step
    def t4(self):
        self.path = following(self.path, 4, self.day)
        self.next(self.t5)

    @step
    def t5(self):
        self.path = following(self.path, 5, self.day)
        self.next(self.t6)

    @step
    def t6(self):
        self.path = following(self.path, 6, self.day)
        self.next(self.t7)

    @step
    def t7(self):
        self.path = following(self.path, 7, self.day)
        self.next(self.t8)

    @step
    def t8(self):
        self.path = following(self.path, 8, self.day)
        self.next(self.t9)

    @step
    def t9(self):
        self.path = following(self.path, 9, self.day)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.paths = [window.path for window in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Chain()
