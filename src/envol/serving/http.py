"""Requests and answers of HTTP on ASGI: bodies with a limit, strict JSON, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
BODY_SECONDS = 30.0
PROBLEMS_SHOWN = 100
_LINGER_SECONDS = 2.0
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True)
class Response:
    """One answer, ready to be sent. `linger`: the client may still be sending what nobody will read."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    linger: bool = False


@dataclass
class HttpError(Exception):
    """An answer that is an error: its status, a code for programs, a message and problems for people.

    Each problem is a mapping of row, field and problem; the first 100 are sent.
    """

    status: int
    code: str
    message: str
    problems: Sequence[Mapping[str, Any]] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        error = {"code": self.code, "message": self.message, "problems": self.problems[:PROBLEMS_SHOWN]}
        return Response(
            self.status,
            _encoder.encode({"error": error | dict(self.more)}),
            headers=self.headers,
            linger=self.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT),
        )


def json_response(value: Any, status: int = 200) -> Response:
    """A value as JSON; NaN and infinity become null."""
    return Response(status, _encoder.encode(value))


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a request's header, by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def require_json(scope: Scope) -> None:
    """Refuse a body that says it is something else than uncompressed JSON in UTF-8.

    Raises:
        HttpError: 415.
    """
    given = header(scope, b"content-type")
    if given is not None:
        kind, *parameters = (part.strip().lower() for part in given.split(b";"))
        charsets = {part.partition(b"=")[2].strip(b'"') for part in parameters if part.startswith(b"charset")}
        if kind not in (JSON, b"") or not charsets <= {b"utf-8", b"utf8"}:
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"the body is {given.decode('latin-1')}; send JSON in UTF-8, Content-Type: application/json",
            )
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"identity", b""):
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"the body is compressed with {encoding.decode('latin-1')}; send it uncompressed",
        )


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a request, at most `limit` bytes; one that is announced as larger is refused unread.

    Raises:
        HttpError: 413 over the limit, 408 when it did not arrive in time.
        ConnectionError: the client went away.
    """
    length = header(scope, b"content-length")
    if length is not None and int(length) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError("the client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        raise HttpError(
            HTTPStatus.REQUEST_TIMEOUT,
            "timeout",
            f"the body did not arrive within {BODY_SECONDS:.0f} seconds",
        ) from None


async def send_response(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer. One that lingers closes the connection, but first gives the client time to read it."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    if response.linger:
        headers.append((b"connection", b"close"))
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": response.linger})
    if response.linger:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def decode_json(body: bytes) -> Any:
    """JSON by the letter (RFC 8259): NaN, a key that appears twice and text that is not UTF-8 are refused.

    Raises:
        HttpError: 400, saying where.
    """
    try:
        value = _decoder.decode(body)
        return value if _keeps_every_key(body, value) else json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "bad_json", "the body is nested too deeply") from None
    except ValueError as error:
        told = f"the body is not JSON: {error}" if body.strip() else "the body is empty"
        if b"NaN" in body or b"Infinity" in body:
            told += "; NaN and Infinity are not JSON, send null for a missing number"
        raise HttpError(HTTPStatus.BAD_REQUEST, "bad_json", told) from None


def _keeps_every_key(body: bytes, value: Any) -> bool:
    """Whether decoding dropped no key, told without parsing again; False where it cannot be told.

    The decoder keeps the last of equal keys. Each key brings a colon, and all other colons stand in
    strings, which are kept; so the body and what was decoded have equally many unless a key was dropped.
    Only a colon written as an escape breaks the count.
    """
    return b"\\u003" not in body and body.count(b":") == _encoder.encode(value).count(b":")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HttpError(
                HTTPStatus.BAD_REQUEST, "bad_json", f"the key {key!r} appears twice in one object"
            )
        found[key] = value
    return found


def _too_large(limit: int) -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is larger than {limit} bytes; send the rows in several requests",
    )
