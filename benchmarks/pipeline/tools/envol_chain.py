"""The chain as an Envol project. `envol run` is the first run, the run with nothing to do and the restart."""

from __future__ import annotations

import polars as pl
import steps

from envol import Window, source, table


@source(every="1d")
def t0(window: Window) -> pl.DataFrame:
    return steps.first(window.key)


@table()
def t1(t0: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t0, 1, window.key)


@table()
def t2(t1: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t1, 2, window.key)


@table()
def t3(t2: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t2, 3, window.key)


@table()
def t4(t3: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t3, 4, window.key)


@table()
def t5(t4: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t4, 5, window.key)


@table()
def t6(t5: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t5, 6, window.key)


@table()
def t7(t6: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t6, 7, window.key)


@table()
def t8(t7: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t7, 8, window.key)


@table()
def t9(t8: pl.DataFrame, window: Window) -> pl.DataFrame:
    return steps.following(t8, 9, window.key)
