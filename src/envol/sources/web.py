"""Records of an HTTP API, page by page, with patience for what passes by itself."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from envol.errors import DataError, Failure, ProjectError
from envol.project.windows import Window
from envol.sources.batches import BATCH_ROWS, Batches, rebatched
from envol.sources.during import bounds, during
from envol.sources.extras import needed
from envol.sources.json_lines import guess, typed
from envol.sources.paging import Answer, Paging, Request, records_of
from envol.sources.placeholders import Filler, project_root
from envol.sources.schema import as_code, dtypes_of

if TYPE_CHECKING:
    from envol.sources.schema import Schema

_PASSING = (408, 425, 429, 500, 502, 503, 504)  # what another try may mend
_LONGEST_WAIT = 300.0  # seconds that an API may ask to wait


@dataclass(frozen=True)
class _Asked:
    """What a call asks for."""

    url: str
    window: Window | None
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    body: Any
    records: str
    pages: Paging
    schema: Schema | None
    time: str | None
    newest_first: bool
    attempts: int
    timeout: float


def http(
    url: str,
    window: Window | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    records: str = "",
    pages: Paging | None = None,
    schema: Schema | None = None,
    time: str | None = None,
    newest_first: bool = False,
    attempts: int = 5,
    timeout: float = 30.0,
    batch: int = BATCH_ROWS,
) -> Batches:
    """The records that a JSON API answers with, page by page, in batches.

    Answers 408, 425, 429, 500, 502, 503 and 504, timeouts and broken connections are tried again, after as
    long as `Retry-After` says or else after growing waits.

    Args:
        url: the address. In it and in all texts of `params`, `headers` and `body`, placeholders such as
            `{start:utc}` stand for the window, `{env:NAME}` and `{file:PATH}` for secrets.
        window: the window; None where the answer does not depend on one.
        params: parameters of the query.
        headers: such as {"Authorization": "Bearer {env:API_TOKEN}"}.
        body: sent as JSON by POST; without one, the method is GET.
        records: where in the answer the list of records is, such as "data.items"; "": it is the list.
        pages: `Link()`, `NextUrl(...)`, `Cursor(...)`, `PageNumber(...)` or `Offset(...)`; None: one page.
        schema: dtypes by field, or a contract; fields that it does not name are left out.
        time: a field that says which records are the window's, where the API does not select by time.
        newest_first: the API answers with the newest first: stop at a page that lies before the window.
        attempts: how often a page is asked for before the window fails.
        timeout: seconds without an answer, or without more of it.
        batch: rows in a batch.

    Raises, when the first batch is asked for:
        ProjectError: there is no schema (the message proposes one), or the window is not used.
        ConfigError: a variable is not set.
        DataError: the answer is not as described.
        Failure: the API refuses, or does not answer in spite of all attempts.
    """
    filler = Filler(window, project_root())
    asked = _Asked(
        url,
        window,
        params or {},
        headers or {},
        body,
        records,
        pages or Paging(),
        schema,
        time,
        newest_first,
        attempts,
        timeout,
    )
    return Batches(rebatched(_frames(filler, asked), batch))


def _frames(filler: Filler, asked: _Asked) -> Generator[pl.DataFrame]:
    httpx = needed("httpx", "http")
    start = Request(*(filler.fill_all(part) for part in (asked.url, asked.params, asked.body)))
    headers = {"accept": "application/json", **filler.fill_all(asked.headers)}
    if asked.window is not None and asked.time is None and not filler.window_used:
        raise ProjectError(
            "neither the request nor `time` depends on the window, so every window would get the same rows",
            remedy="write {start} and {end} in it or name a field as `time`; or leave out the window",
        )
    dtypes = None if asked.schema is None else dtypes_of(asked.schema)
    condition = None if dtypes is None else during(asked.window, asked.time, dtypes)
    if dtypes is not None:
        yield pl.DataFrame(schema=dtypes)
    with httpx.Client(headers=headers, timeout=asked.timeout, follow_redirects=True) as client:
        for number, (request, records) in enumerate(_pages(client, start, asked, filler), 1):
            lines = b"\n".join(map(msgspec.json.encode, records))
            where = f"page {number} of {_named(request, filler)}"
            if dtypes is None:
                raise _without_schema(lines, where)
            frame = typed(lines, dtypes, f"{where}, record")
            yield frame if condition is None else frame.filter(condition)
            if asked.newest_first and _is_past(frame, asked):
                return


def _is_past(frame: pl.DataFrame, asked: _Asked) -> bool:
    """Whether all of a page lies before the window."""
    if asked.window is None or asked.time is None or frame.is_empty():
        return False
    start, _ = bounds(asked.window, asked.time, frame.schema[asked.time])
    return bool(frame.select((pl.col(asked.time) < start).all(ignore_nulls=False)).item())


def _without_schema(lines: bytes, where: str) -> ProjectError:
    proposed = as_code(guess(lines)) if lines else 'schema={"id": pl.Int64}'
    return ProjectError(
        f"{where} does not tell the dtypes of its fields",
        remedy=f"pass a contract, or as it looks: {proposed}",
    )


def _pages(client: Any, start: Request, asked: _Asked, filler: Filler) -> Iterator[tuple[Request, list[Any]]]:
    """Each page's request and records."""
    request: Request | None = asked.pages.first(start)
    seen: Request | None = None
    while request is not None:
        if request == seen:
            raise DataError(
                f"{_named(request, filler)} gives the same next page again", remedy="correct `pages`"
            )
        _same_place(start, request, filler)
        response = _answered(client, request, asked, filler)
        try:
            body = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise DataError(
                f"{_named(request, filler)} answered with no JSON but {_quoted(response.text, filler)}",
                remedy="check the address, and whether it wants a login",
            ) from None
        records = records_of(body, asked.records)
        yield request, records
        link = response.links.get("next", {}).get("url")
        request, seen = asked.pages.following(request, Answer(body, link, len(records))), request


def _answered(client: Any, request: Request, asked: _Asked, filler: Filler) -> Any:
    """The successful answer, after as many attempts as it takes and as are granted."""
    import httpx
    import stamina

    def patience(error: Exception) -> bool | float:
        if not isinstance(error, httpx.HTTPStatusError):
            return isinstance(error, httpx.TransportError)
        if error.response.status_code not in _PASSING:
            return False
        wait = _retry_after(error.response.headers.get("retry-after"))
        return True if wait is None else wait if wait <= _LONGEST_WAIT else False

    method = "GET" if request.body is None else "POST"
    try:
        for attempt in stamina.retry_context(
            patience, attempts=asked.attempts, timeout=None, wait_initial=0.5, wait_max=30
        ):
            with attempt:
                url = httpx.URL(request.url).copy_merge_params(dict(request.params))
                response = client.request(method, url, json=request.body)
                response.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise _refused(error.response, request, filler) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failure(
            f"{_named(request, filler)} does not answer: {filler.hide(error) or type(error).__name__}",
            remedy="check the address and that it can be reached from here, or give it a longer `timeout`",
        ) from None
    return response


def _refused(response: Any, request: Request, filler: Filler) -> Failure:
    status = response.status_code
    waiting = response.headers.get("retry-after")
    remedies = {
        401: "check the token or password in `headers`",
        403: "check the rights of the token in `headers`",
        404: "check the address",
        429: "ask less often: a longer window, or larger pages",
    }
    asks = f", asks to wait {waiting}" if waiting else ""
    return Failure(
        f"{_named(request, filler)} answered {status}{asks}: {_quoted(response.text, filler)}",
        remedy=remedies.get(status, "read what it answered; run again when it is mended"),
    )


def _retry_after(said: str | None) -> float | None:
    """Seconds to wait, out of the header with seconds or a date (RFC 9110)."""
    if said is None:
        return None
    if said.strip().isdigit():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(at.tzinfo or UTC)).total_seconds())


def _same_place(start: Request, request: Request, filler: Filler) -> None:
    """The next page must not take the headers' secrets elsewhere."""
    import httpx

    ours, theirs = httpx.URL(start.url), httpx.URL(request.url)
    if (ours.scheme, ours.host, ours.port) != (theirs.scheme, theirs.host, theirs.port):
        raise Failure(
            f"{_named(start, filler)} has its next page at {theirs.host}, another place",
            remedy="ask that place directly",
        )


def _named(request: Request, filler: Filler) -> str:
    """The address without its query, which may hold secrets."""
    return filler.hide(re.sub(r"//[^/@]*@", "//", request.url.partition("?")[0]))


def _quoted(text: str, filler: Filler) -> str:
    return repr(filler.hide(text)[:200])
