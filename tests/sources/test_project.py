"""Connectors as they are used: in the sources of a project that runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from small_project import SmallProject
from sources.api import Api, Trouble

PROJECT = """
    from envol import sources

    class Order(dy.Schema):
        id = dy.Int64(primary_key=True)
        amount = dy.Float64(min=0)

    @source(every="1d")
    def orders(window: Window):
        query = "select id, amount from orders where placed >= :start and placed < :end and shop = :shop"
        return sources.sql("sqlite:///data/shop.sqlite", query, window, shop="north")

    @source(every="1d", contract=Order)
    def deliveries(window: Window):
        return sources.files("data/{window}.csv", window, schema=Order, missing="empty", batch=2)

    @source(every="1d", retries=1)
    def weather(window: Window):
        batches = sources.http(
            "{env:WEATHER_URL}/link",
            window,
            params={"from": "{start:utc}"},
            time="at",
            pages=sources.Link(),
            schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC")},
            attempts=1,
        )
        for frame in batches:
            yield frame.with_columns(even=pl.col("id") % 2 == 0)

    @table()
    def sums(orders: pl.DataFrame, deliveries: pl.DataFrame):
        return pl.DataFrame({"orders": [orders["amount"].sum()], "deliveries": [deliveries["amount"].sum()]})
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api()
    api.records = [{"id": n, "at": f"2024-01-{1 + n // 12:02}T{2 * (n % 12):02}:00:00Z"} for n in range(48)]
    monkeypatch.setenv("WEATHER_URL", api.url)
    yield api
    api.close()


@pytest.fixture
def project(tmp_path: Path) -> SmallProject:
    small = SmallProject(tmp_path / "small").write(PROJECT)
    data = small.root / "data"
    data.mkdir()
    with sqlite3.connect(data / "shop.sqlite") as connection:
        connection.execute("create table orders (id integer, placed datetime, shop text, amount real)")
        connection.executemany(
            "insert into orders values (?, ?, ?, ?)",
            [
                (n, f"2024-01-{1 + n // 4:02} 12:00:00", "north" if n % 2 else "south", float(n))
                for n in range(20)
            ],
        )
    connection.close()
    (data / "2024-01-01.csv").write_text("id,amount\n1,1.5\n2,2.5\n3,3.5\n4,-1\n5,4.5\n")
    (data / "2024-01-03.csv").write_text("id,amount\n6,1.5\n")
    return small


def test_a_project_of_connectors(project: SmallProject, api: Api) -> None:
    api.troubles = [Trouble(500)]  # the window is tried again
    result = project.run("2024-01-04")
    assert result.state == "done"
    assert project.table("orders")["id"].to_list() == [1, 3, 5, 7, 9, 11]
    assert project.table("deliveries")["id"].to_list() == [1, 2, 3, 5, 6]
    assert project.table("deliveries_quarantine")["id"].to_list() == [4]
    weather = project.table("weather").sort("id")
    assert weather["id"].to_list() == list(range(36))
    assert weather["window_start"].dt.day().to_list() == [1 + n // 12 for n in range(36)]
    assert weather.schema["even"] == pl.Boolean
    assert project.table("sums").sort("window_start")["deliveries"].to_list() == [12.0, 0.0, 1.5]
    assert project.reasons("2024-01-04") == {}


def test_what_is_wrong_is_told_with_node_and_window(project: SmallProject, api: Api) -> None:
    (project.root / "data" / "2024-01-02.csv").write_text("id,amount\n1,1.5\n2,lots\n")
    api.troubles = [Trouble(401, body=b"who are you")] * 4  # both tries of both windows
    result = project.run("2024-01-03", nodes=["deliveries", "weather"])
    assert (result.state, result.done, result.failed) == ("failed", 1, 3)
    told = {error.node: error for error in result.failures}
    assert told["deliveries"].window == "2024-01-02"
    assert "2024-01-02.csv, line 3, column 'amount'" in str(told["deliveries"])
    assert "answered 401: 'who are you'" in str(told["weather"])
