"""HTTP APIs: every way of paging, and every trouble that passes or does not."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sources.api import Api, Trouble

from envol import Window, sources
from envol.errors import ConfigError, DataError, Failure, ProjectError
from envol.sources.paging import Paging

Day = Callable[[str], Window]
SCHEMA = {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "name": pl.String}
START = datetime(2024, 1, 4, 22, 30, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[Api]:
    """An API with 35 observations, one in half an hour."""
    api = Api()
    api.records = [
        {"id": n, "at": (START + timedelta(minutes=30 * n)).isoformat(), "name": None, "other": [n]}
        for n in range(35)
    ]
    yield api
    api.close()


@pytest.mark.parametrize(
    ("path", "records", "pages", "requests"),
    [
        ("/link", "", sources.Link(), 4),
        ("/next", "data.items", sources.NextUrl("paging.next"), 4),
        ("/cursor", "data.items", sources.Cursor("meta.cursor", param="after"), 4),
        ("/page", "data.items", sources.PageNumber(), 5),
        ("/pages", "data.items", sources.PageNumber(last="meta.pages"), 4),
        ("/offset", "data.items", sources.Offset(limit=20), 2),
        ("/all", "", None, 1),
    ],
)
def test_all_pages_are_read(api: Api, path: str, records: str, pages: Paging | None, requests: int) -> None:
    batches = list(sources.http(api.url + path, records=records, pages=pages, schema=SCHEMA, batch=15))
    assert [frame.height for frame in batches] == [15, 15, 5]
    frame = pl.concat(batches)
    assert frame.schema == SCHEMA
    assert frame["id"].to_list() == list(range(35))
    assert frame["at"][1] == START + timedelta(minutes=30)
    assert len(api.seen) == requests


def test_parameters_stay_on_every_page(api: Api) -> None:
    pages = sources.Cursor("meta.cursor", param="after")
    sources.http(
        f"{api.url}/cursor?site=a", params={"kind": "x y"}, records="data.items", pages=pages, schema=SCHEMA
    ).collect()
    assert [(seen.params["site"], seen.params["kind"], seen.params.get("after")) for seen in api.seen] == [
        ("a", "x y", None),
        ("a", "x y", "10"),
        ("a", "x y", "20"),
        ("a", "x y", "30"),
    ]


def test_a_body_is_posted_and_takes_the_cursor(api: Api, day: Day) -> None:
    pages = sources.Cursor("meta.cursor", param="after")
    body = {"query": {"from": "{start:utc}", "sizes": [1, "{end:%d.%m.}"]}}
    window = day("2024-01-05")
    frame = sources.http(
        f"{api.url}/cursor", window, body=body, records="data.items", pages=pages, schema=SCHEMA
    ).collect()
    assert frame.height == 35
    assert {seen.method for seen in api.seen} == {"POST"}
    assert api.seen[1].body == {
        "query": {"from": "2024-01-04T23:00:00Z", "sizes": [1, "06.01."]},
        "after": "10",
    }


def test_the_window_and_secrets_go_into_the_request(
    api: Api, day: Day, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cr3t")
    (folder / "key").write_text("k3y\n")
    sources.http(
        api.url + "/{window}/../all",
        day("2024-01-05"),
        params={"from": "{start}", "to": "{end:epoch}", "key": "{file:key}"},
        headers={"Authorization": "Bearer {env:API_TOKEN}"},
        schema=SCHEMA,
    ).collect()
    [seen] = api.seen
    assert seen.params == {"from": "2024-01-05T00:00:00+01:00", "to": "1704495600", "key": "k3y"}
    assert seen.headers["Authorization"] == "Bearer s3cr3t"


def test_time_selects_the_records_of_the_window(api: Api, day: Day) -> None:
    batches = sources.http(f"{api.url}/all", day("2024-01-05"), time="at", schema=SCHEMA)
    assert batches.collect()["id"].to_list() == list(range(1, 35))


def test_newest_first_stops_behind_the_window(api: Api, day: Day) -> None:
    api.records = [
        {"id": n, "at": (START + timedelta(days=2) - timedelta(hours=n)).isoformat()} for n in range(200)
    ]
    frame = sources.http(
        f"{api.url}/link",
        day("2024-01-05"),
        time="at",
        newest_first=True,
        pages=sources.Link(),
        schema=SCHEMA,
    ).collect()
    assert frame["id"].to_list() == list(range(24, 48))
    assert len(api.seen) == 6  # of 20


def test_nothing_is_an_empty_window(api: Api) -> None:
    api.records = []
    for path, records in (("/all", ""), ("/none", "data"), ("/cursor", "data.items")):
        frame = sources.http(api.url + path, records=records, schema=SCHEMA).collect()
        assert frame.is_empty() and frame.schema == SCHEMA


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(429, {"Retry-After": "0"}),
        Trouble(429, {"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)}),
        Trouble(500),
        Trouble(503, {"Retry-After": "nonsense"}),
        Trouble(how="drop"),
        Trouble(how="cut"),
        Trouble(how="hang"),
    ],
    ids=lambda trouble: f"{trouble.status}-{trouble.how}",
)
def test_trouble_that_passes(api: Api, trouble: Trouble) -> None:
    pages = sources.Link()
    batches = sources.http(f"{api.url}/link", pages=pages, schema=SCHEMA, batch=10, timeout=0.5)
    next(batches)
    api.troubles = [trouble]
    assert batches.collect().height == 25
    assert [seen.params.get("after") for seen in api.seen] == [None, "10", "10", "20", "30"]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Trouble(401, body=b'{"error": "who are you"}'), "answered 401: .*who are you(?s:.*)token"),
        (Trouble(404), "answered 404"),
        (Trouble(400, body=b"no"), "answered 400: 'no'"),
        (Trouble(429, {"Retry-After": "100000"}), "429, asks to wait 100000"),
    ],
)
def test_trouble_that_stays_is_not_tried_again(api: Api, trouble: Trouble, said: str) -> None:
    api.troubles = [trouble]
    with pytest.raises(Failure, match=said):
        sources.http(f"{api.url}/all", schema=SCHEMA).collect()
    assert len(api.seen) == 1


def test_patience_ends(api: Api) -> None:
    api.troubles = [Trouble(503, {"Retry-After": "0"})] * 10
    with pytest.raises(Failure, match="answered 503"):
        sources.http(f"{api.url}/all", schema=SCHEMA, attempts=3).collect()
    assert len(api.seen) == 3
    api.troubles = [Trouble(how="cut")] * 10
    with pytest.raises(Failure, match="does not answer"):
        sources.http(f"{api.url}/all", schema=SCHEMA, attempts=2).collect()


def test_a_server_that_is_not_there(api: Api) -> None:
    for url in ("http://127.0.0.1:1/x", "http://nowhere.invalid/x", "nonsense", "http://[/"):
        with pytest.raises(Failure, match="does not answer(?s:.*)check the address"):
            sources.http(url, schema=SCHEMA, attempts=1).collect()


def test_secrets_are_in_no_message(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cr3t")
    for trouble in (Trouble(403, body=b"s3cr3t is not allowed"), Trouble(200, body=b"<p>s3cr3t</p>")):
        api.troubles = [trouble]
        with pytest.raises((Failure, DataError)) as caught:
            sources.http(
                api.url.replace("//", "//me:{env:API_TOKEN}@") + "/all",
                params={"key": "{env:API_TOKEN}"},
                schema=SCHEMA,
            ).collect()
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigError, match="'API_KEY' is not set"):
        sources.http(f"{api.url}/all", headers={"X-Key": "{env:API_KEY}"}, schema=SCHEMA).collect()


def test_the_next_page_must_not_be_elsewhere_or_the_same(api: Api) -> None:
    with pytest.raises(Failure, match="next page at 127.0.0.2, another place"):
        pages: Paging = sources.NextUrl("paging.next")
        sources.http(f"{api.url}/elsewhere", records="data.items", pages=pages, schema=SCHEMA).collect()
    with pytest.raises(DataError, match="the same next page again"):
        pages = sources.Cursor("meta.cursor", param="after")
        sources.http(f"{api.url}/same", records="data.items", pages=pages, schema=SCHEMA).collect()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>log in</html>", "no JSON but '<html>log in"),
        (b'{"data": [', "no JSON"),
        (b'{"items": []}', "has no 'data'; keys where 'data' should be: 'items'"),
        (b'{"data": {"a": 1}}', "'data' of the answer is no list"),
        (b'{"data": [{"id": 1}, {"id": "x"}]}', "page 1 of .*/all, record 2: .*number to string"),
        (b'{"data": [{"id": 1}, 5]}', "record 2: .*object to number"),
        (b'{"data": [{"id": 1.5}]}', "record 1: .*1.5"),
    ],
)
def test_an_answer_that_is_not_as_described(api: Api, body: bytes, said: str) -> None:
    api.troubles = [Trouble(body=body)]
    with pytest.raises(DataError, match=said):
        sources.http(f"{api.url}/all", records="data", schema=SCHEMA).collect()


def test_without_a_schema_the_message_proposes_one(api: Api) -> None:
    with pytest.raises(ProjectError) as caught:
        sources.http(f"{api.url}/all").collect()
    proposed: Any = eval(str(caught.value).partition("schema=")[2], {"pl": pl})
    frame = sources.http(f"{api.url}/all", schema=proposed).collect()
    assert frame.schema == {**SCHEMA, "other": pl.List(pl.Int64)}


def test_a_window_that_nothing_depends_on_is_refused(api: Api, day: Day) -> None:
    with pytest.raises(ProjectError, match="every window would get the same rows"):
        sources.http(f"{api.url}/all", day("2024-01-05"), schema=SCHEMA).collect()
    with pytest.raises(ProjectError, match=r"is not known(?s:.*)start, end, window, env:NAME"):
        sources.http(f"{api.url}/{{begin}}", day("2024-01-05"), schema=SCHEMA).collect()
    with pytest.raises(ProjectError, match="no window to fill in"):
        sources.http(f"{api.url}/{{start}}", schema=SCHEMA).collect()
