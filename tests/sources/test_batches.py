"""Batches, placeholders and parameters, by laws that hold for all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envol.errors import ConfigError, ProjectError
from envol.project.windows import Calendar, Period
from envol.sources import Batches
from envol.sources.batches import rebatched
from envol.sources.parameters import compiled
from envol.sources.placeholders import Filler

HOUR = Calendar("Europe/Paris").window_at(Period.HOUR, datetime(2024, 1, 5, 9, tzinfo=UTC))


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(1, 25))
def test_batches_have_the_size_asked_for_whatever_comes(heights: list[int], size: int) -> None:
    whole = pl.DataFrame({"n": range(sum(heights))}, schema={"n": pl.Int64})
    parts = (whole.slice(sum(heights[:i]), height) for i, height in enumerate(heights))
    batches = list(rebatched(parts, size))
    assert pl.concat(batches).equals(whole)
    assert all(batch.height == size for batch in batches[:-1])
    assert batches[-1].height <= size and (batches[-1].height > 0 or len(batches) == 1)


def test_nothing_is_read_before_it_is_asked_for_and_closing_ends_it() -> None:
    told: list[str] = []

    def frames() -> Generator[pl.DataFrame]:
        told.append("opened")
        try:
            for n in range(3):
                yield pl.DataFrame({"n": [n]})
        finally:
            told.append("closed")

    batches = Batches(frames())
    assert told == []
    assert next(batches)["n"].to_list() == [0]
    batches.close()
    assert told == ["opened", "closed"]
    assert list(batches) == []
    assert Batches(frames()).collect()["n"].to_list() == [0, 1, 2]


def test_placeholders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "value")
    (tmp_path / "file").write_text(" text\n")
    filler = Filler(HOUR, tmp_path)
    assert filler.fill("{{a}} {env:NAME} {file:file}") == "{a} value text"
    assert not filler.window_used
    assert filler.fill("{start} {end:utc} {start:epoch} {start:%H h} {window}") == (
        "2024-01-05T10:00:00+01:00 2024-01-05T10:00:00Z 1704445200 10 h 2024-01-05T10:00+01:00"
    )
    assert filler.window_used
    assert filler.hide("my value, a text, valued") == "my ***, a ***, ***d"


@pytest.mark.parametrize("text", ["{begin}", "{}", "{0}", "{", "}", "{start.year}", "{a,b}/*.csv"])
def test_a_placeholder_that_is_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="double a brace that stands for itself"):
        Filler(HOUR, tmp_path).fill(text)


def test_a_secret_without_a_name(tmp_path: Path) -> None:
    for text in ("{env}", "{env:}", "{file}", "{file:}"):
        with pytest.raises(ConfigError):
            Filler(None, tmp_path).fill(text)


@given(st.lists(st.sampled_from(["'{}'", '"{}"', "-- {}\n", "/* {} */", "$${}$$", "$a${}$a$", "{}"])))
def test_only_what_is_outside_of_quotes_is_a_parameter(pieces: list[str]) -> None:
    query = " ".join(piece.replace("{}", f":p{n}") for n, piece in enumerate(pieces))
    for mysql in (False, True):
        text, names = compiled(query, mysql=mysql)
        assert names == [f"p{n}" for n, piece in enumerate(pieces) if piece == "{}"]
        expected = query
        for number, name in enumerate(names, 1):
            # Only outside of quotes it stands for itself between blanks.
            expected = f" {expected} ".replace(f" :{name} ", " ? " if mysql else f" ${number} ", 1)
            expected = expected[1:-1]
        assert text.split() == expected.split()


def test_parameters() -> None:
    query = r"""select a::text, b[1 \: 2], '{"a":1, "it''s":no}', :x, :y, :x;"""
    bound = """select a::text, b[1 : 2], '{"a":1, "it''s":no}', $1, $2, $1"""
    assert compiled(query, mysql=False) == (bound, ["x", "y"])
    assert compiled(r"select 'it\'s :no', :x, :x", mysql=True) == (r"select 'it\'s :no', ?, ?", ["x", "x"])


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("httpx", "http('http://127.0.0.1:1', schema={})", "http"),
        ("adbc_driver_postgresql", "sql('postgresql://127.0.0.1:1/x', 'select 1')", "postgres"),
    ],
)
def test_a_package_that_is_not_installed(module: str, call: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None  # as if it were not installed
from envol import errors, sources
try:
    sources.{call}.collect()
except errors.UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "envol[{extra}]"' in done.stdout
