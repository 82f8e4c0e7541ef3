"""The process that serves: its socket, its signals, and its clean end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn

from envol.errors import StorageError, UserError
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.serving.app import create_app
from envol.serving.models import Champions
from envol.serving.predictions import PredictionLog

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Store

logger = logging.getLogger("envol.serving")

STOP_SECONDS = 30
KEEP_ALIVE_SECONDS = 75  # longer than clients and proxies keep an idle connection, so that they close first
_BACKLOG = 2048


def serve(
    project: Project,
    store: Store,
    host: str | None = None,
    port: int | None = None,
    *,
    announce: Callable[[str], None] = print,
    ready_file: Path | None = None,
) -> None:
    """Serve the champions of a project until SIGTERM or SIGINT; returns after the last request.

    Args:
        project: names the service, and says host and port where these are left out.
        store: holds the registry and the prediction log.
        host: address to listen at; "0.0.0.0" means all of the machine's.
        port: port to listen at; 0 takes a free one.
        announce: gets the lines that say where the service is, once it answers.
        ready_file: once the service answers, gets {"url": ..., "pid": ...} as JSON; gone after the end.

    Raises:
        UserError: the port is taken, or may not be used.
        EnvolError: the registry cannot be read.
    """
    host = project.config.serve.host if host is None else host
    port = project.config.serve.port if port is None else port
    # Requests run side by side already. A model's own threads cost one row more than they gain (with boosted
    # trees 5.7 ms instead of 3.5); the libraries read this when a package loads them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        champions = Champions(Registry(store, SystemClock()))
        champions.start()
        stack.callback(champions.stop)
        log = PredictionLog.in_store(project.store_path)
        stack.callback(log.close)
        app = create_app(champions, log, project.name, project.config.serve)
        stack.callback(app.close)

        def ready() -> None:
            url = _url(host, listener.getsockname()[1])
            if ready_file is not None:
                _write_atomically(ready_file, msgspec.json.encode({"url": url, "pid": os.getpid()}))
                stack.callback(ready_file.unlink, missing_ok=True)
            _announce(announce, project.name, url, champions)

        config = uvicorn.Config(
            app,
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        _Server(config, ready).run([listener])


class _Server(uvicorn.Server):
    """uvicorn's server that says when it is up, and ends by returning where uvicorn ends by the signal."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; connections are accepted once the server starts."""
    where = f"{host}:{port}"
    if not 0 <= port <= 65535:  # the resolver would take it modulo 65536
        raise UserError(f"cannot listen at {where}: ports are 0 to 65535", remedy="choose another --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(
            f"cannot listen at {where}: {error}", remedy="give an address of this machine: --host 127.0.0.1"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen at {where}: {error.strerror}",
            remedy="choose another port: --port 8001, or ENVOL_SERVE_PORT=8001 (0 takes a free one)",
        ) from None
    return listener


def _url(host: str, port: int) -> str:
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reached}:{port}"


def _announce(announce: Callable[[str], None], name: str, url: str, champions: Champions) -> None:
    announce(f"{name} is served at {url}")
    for served in champions.models.values():
        if served.package is None:
            announce(f"  {served.name}: {served.warning or 'no champion yet'}")
        else:
            announce(
                f"  {served.name} version {served.package.version}: POST {url}/models/{served.name}/predict"
            )
    if not champions.models:
        announce(
            "  no model is registered yet; envol run trains the project's models, and they are served then"
        )
    announce(f"  description {url}/openapi.json, state {url}/ready; stop with Ctrl-C")


def _write_atomically(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="choose another file") from None
