"""The service as an ASGI application: routes, predictions, and every error as JSON."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from envol.errors import StorageError
from envol.project.config import ServeSection
from envol.serving.describe import describe, readiness
from envol.serving.http import (
    HttpError,
    Receive,
    Response,
    Scope,
    Send,
    header,
    json_response,
    read_body,
    require_json,
    send_response,
)
from envol.serving.models import Champions, Served
from envol.serving.openapi import openapi
from envol.serving.page import page
from envol.serving.predict import Predictor
from envol.serving.predictions import PredictionLog

logger = logging.getLogger("envol.serving")

LOG_SECONDS = 10.0
_RETRY_AFTER = ((b"retry-after", b"1"),)
_MODEL_PATH = re.compile(r"/models/([^/]+)(/predict)?")


class App:
    """The application; `close` after the last request."""

    def __init__(self, champions: Champions, log: PredictionLog, title: str, limits: ServeSection) -> None:
        self._champions = champions
        self._log = log
        self._title = title
        self._limits = limits
        self._predictor = Predictor(log)
        self._pool = ThreadPoolExecutor(limits.threads or os.cpu_count() or 1, "predict")
        self._pending = 0
        self._routes: dict[str, Callable[[Scope], Awaitable[Response]]] = {
            "/": self._page,
            "/health": self._health,
            "/ready": self._ready,
            "/models": self._models,
            "/openapi.json": self._openapi,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        try:
            response = await self._answer(scope, receive)
        except HttpError as error:
            response = error.response()
        except ConnectionError:
            return
        except Exception:  # the client gets no trace; the log does, under the id that the client gets
            response = _internal(scope)
        await send_response(response, scope, receive, send)

    def close(self) -> None:
        """Wait for the predictions under way, then end the threads."""
        self._pool.shutdown()

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        route = self._routes.get(path)
        if route is not None:
            _allow(scope, ("GET", "HEAD"))
            return await route(scope)
        found = _MODEL_PATH.fullmatch(path)
        if found is None:
            raise self._no_path(path)
        name, predict = found.groups()
        if predict:
            _allow(scope, ("POST",))
            return await self._predict(name, scope, receive)
        _allow(scope, ("GET", "HEAD"))
        return json_response(describe(self._model(name)))

    async def _predict(self, name: str, scope: Scope, receive: Receive) -> Response:
        served = self._model(name)
        if served.package is None:
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no_champion",
                served.warning
                or f"no version of {name!r} is the champion; promote one: envol promote {name}",
                headers=_RETRY_AFTER,
            )
        require_json(scope)
        body = await read_body(scope, receive, self._limits.body_limit)
        if self._pending >= self._limits.queue:
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "overloaded",
                f"{self._pending} requests are waiting already; ask again in a moment",
                headers=_RETRY_AFTER,
            )
        self._pending += 1
        try:
            loop = asyncio.get_running_loop()
            answer, durable = await loop.run_in_executor(self._pool, self._predictor, served.package, body)
            await asyncio.wrap_future(durable)
        except StorageError as error:
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE, "log_not_writable", str(error), headers=_RETRY_AFTER
            ) from None
        finally:
            self._pending -= 1
        return Response(HTTPStatus.OK, answer)

    async def _health(self, scope: Scope) -> Response:
        return json_response({"status": "alive"})

    async def _ready(self, scope: Scope) -> Response:
        ready = readiness(self._champions, await self._log_problem())
        return json_response(ready, HTTPStatus.OK if ready["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _log_problem(self) -> str | None:
        """Why no prediction can be logged; found out by writing an empty mark."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._log.append([])), LOG_SECONDS)
        except StorageError as error:
            return str(error)
        except TimeoutError:
            return f"the prediction log did not answer within {LOG_SECONDS:.0f} seconds"
        return None

    async def _models(self, scope: Scope) -> Response:
        return json_response({"models": [describe(served) for served in self._champions.models.values()]})

    async def _openapi(self, scope: Scope) -> Response:
        return json_response(openapi(self._title, self._champions.models.values(), self._limits.body_limit))

    async def _page(self, scope: Scope) -> Response:
        host = (header(scope, b"host") or b"127.0.0.1").decode("latin-1")
        root = scope.get("root_path", "")
        address = f"{scope['scheme']}://{host}"
        return page(self._title, address + root, root, self._champions.models.values())

    def _model(self, name: str) -> Served:
        models = self._champions.models
        if name not in models:
            told = _nearest(name, list(models)) or (
                f"known: {', '.join(models)}" if models else "no model is registered yet: envol run"
            )
            raise HttpError(HTTPStatus.NOT_FOUND, "unknown_model", f"no model {name!r}; {told}")
        return models[name]

    def _no_path(self, path: str) -> HttpError:
        names = self._champions.models
        known = [*self._routes, *(f"/models/{name}{end}" for name in names for end in ("", "/predict"))]
        told = _nearest(path, known) or "GET / lists what there is"
        return HttpError(HTTPStatus.NOT_FOUND, "unknown_path", f"nothing is served at {path!r}; {told}")


def create_app(
    champions: Champions, log: PredictionLog, title: str = "Envol", limits: ServeSection | None = None
) -> App:
    """The ASGI application; the caller starts and stops the champions, and closes the log after the app."""
    return App(champions, log, title, limits or ServeSection())


def _allow(scope: Scope, methods: Sequence[str]) -> None:
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise HttpError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            f"{scope['method']} is not allowed here; allowed: {allowed}",
            headers=((b"allow", allowed.encode()),),
        )


def _nearest(given: str, known: list[str]) -> str | None:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else None


def _internal(scope: Scope) -> Response:
    request_id = secrets.token_hex(8)
    logger.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
    return HttpError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        f"the request failed; the service's log says why under request {request_id}",
        headers=((b"x-request-id", request_id.encode()),),
        more={"request_id": request_id},
    ).response()
