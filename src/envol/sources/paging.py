"""How an API hands out its pages, and where the next one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

from envol.errors import DataError


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None

    def saying(self, name: str, value: Any) -> Request:
        """The same with another value in the body, if it has one, or among the parameters."""
        if isinstance(self.body, Mapping):
            return replace(self, body={**self.body, name: value})
        return replace(self, params={**self.params, name: value})

    def at(self, url: str) -> Request:
        """The same at an address that the API gave; it has its parameters in it."""
        return replace(self, url=urljoin(self.url, url), params={})


@dataclass(frozen=True)
class Answer:
    """What came back: the decoded body, the Link header's next address, the number of records."""

    body: Any
    link: str | None
    records: int


class Paging:
    """One page and no more."""

    def first(self, request: Request) -> Request:
        """The request for the first page."""
        return request

    def following(self, request: Request, answer: Answer) -> Request | None:
        """The request for the page after this answer; None after the last one."""
        return None


@dataclass(frozen=True)
class Link(Paging):
    """The header `Link: <...>; rel="next"` has the address of the next page (RFC 8288)."""

    def following(self, request: Request, answer: Answer) -> Request | None:
        return request.at(answer.link) if answer.link else None


@dataclass(frozen=True)
class NextUrl(Paging):
    """The body has the address of the next page.

    Args:
        path: where in the body, such as "paging.next"; missing, null or empty on the last page.
    """

    path: str

    def following(self, request: Request, answer: Answer) -> Request | None:
        url = looked_up(answer.body, self.path)
        return request.at(str(url)) if url else None


@dataclass(frozen=True)
class Cursor(Paging):
    """The body has a cursor, which the next request says.

    Args:
        path: where in the body, such as "meta.cursor"; missing, null or empty on the last page.
        param: the parameter that takes it (a field of the body, where the request has one).
    """

    path: str
    param: str

    def following(self, request: Request, answer: Answer) -> Request | None:
        cursor = looked_up(answer.body, self.path)
        return request.saying(self.param, cursor) if cursor not in (None, "", False) else None


@dataclass(frozen=True)
class PageNumber(Paging):
    """Pages are numbered; an empty one ends them, or the last number, where the body tells it.

    Args:
        param: the parameter that takes the number.
        start: number of the first page.
        last: where the body has the number of the last page, such as "meta.pages".
    """

    param: str = "page"
    start: int = 1
    last: str | None = None

    def first(self, request: Request) -> Request:
        return request.saying(self.param, self.start)

    def following(self, request: Request, answer: Answer) -> Request | None:
        now = (request.body if isinstance(request.body, Mapping) else request.params)[self.param]
        last = looked_up(answer.body, self.last) if self.last else None
        if not answer.records or (isinstance(last, int) and now >= last):
            return None
        return request.saying(self.param, now + 1)


@dataclass(frozen=True)
class Offset(Paging):
    """Each page begins after so many records; one with fewer than `limit` is the last.

    Args:
        limit: records in a page, which the API must not cut down.
        param: the parameter that takes the offset.
        limit_param: the parameter that takes the limit.
    """

    limit: int
    param: str = "offset"
    limit_param: str = "limit"

    def first(self, request: Request) -> Request:
        return request.saying(self.limit_param, self.limit).saying(self.param, 0)

    def following(self, request: Request, answer: Answer) -> Request | None:
        if answer.records < self.limit:
            return None
        now = (request.body if isinstance(request.body, Mapping) else request.params)[self.param]
        return request.saying(self.param, now + self.limit)


def looked_up(body: Any, path: str) -> Any:
    """What is at a path such as "data.items"; None where there is nothing."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


def records_of(body: Any, path: str) -> list[Any]:
    """The list of records in a body.

    Args:
        body: the decoded body.
        path: such as "data.items"; empty where the body itself is the list. Null stands for none.

    Raises:
        DataError: there is no list.
    """
    for name in path.split(".") if path else ():
        if not isinstance(body, Mapping) or name not in body:
            keys = ", ".join(map(repr, body)) if isinstance(body, Mapping) else "none"
            raise DataError(
                f"the answer has no {path!r}; keys where {name!r} should be: {keys}",
                remedy="say in `records` where in the answer the list is",
            )
        body = body[name]
    if body is None:
        return []
    if not isinstance(body, list):
        raise DataError(
            f"{path!r} of the answer is no list" if path else "the answer is no list",
            remedy="say in `records` where in the answer the list is",
        )
    return body
