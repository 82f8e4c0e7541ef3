"""A JSON API on this machine, in the several ways that APIs page, and with the troubles that they have."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PER_PAGE = 10


@dataclass
class Trouble:
    """What a request meets with instead of its answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    how: str = "answer"  # "drop": close at once; "cut": half of the body; "hang": no answer


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any


class Api:
    """Serves `records` under /link, /next, /cursor, /page, /pages, /offset, /all and /none."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.troubles: list[Trouble] = []
        self.seen: list[Seen] = []
        self.released = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api._handle(self)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        params = {name: values[-1] for name, values in parse_qs(address.query).items()}
        sent = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        body = json.loads(sent) if sent else None
        self.seen.append(Seen(handler.command, address.path, params, dict(handler.headers), body))
        if self.troubles:
            self._trouble(handler, self.troubles.pop(0))
            return
        headers, answer = self._answer(address.path, {**params, **(body or {})})
        self._send(handler, 200 if answer is not None else 404, headers, json.dumps(answer).encode())

    def _answer(self, path: str, params: Mapping[str, Any]) -> tuple[dict[str, str], Any]:
        after = int(params.get("after", 0))
        page = self.records[after : after + PER_PAGE]
        following = after + PER_PAGE if after + PER_PAGE < len(self.records) else None
        match path:
            case "/link":
                link = f'<{path}?after={following}>; rel="next"' if following else ""
                return {"Link": f'<{path}>; rel="first"' + (f", {link}" if link else "")}, page
            case "/next":
                url = f"{self.url}{path}?after={following}" if following else None
                return {}, {"data": {"items": page}, "paging": {"next": url}}
            case "/cursor":
                return {}, {"data": {"items": page}, "meta": {"cursor": following and str(following)}}
            case "/page" | "/pages":
                number = int(params["page"])
                page = self.records[(number - 1) * PER_PAGE : number * PER_PAGE]
                last = {"meta": {"pages": -(-len(self.records) // PER_PAGE)}} if path == "/pages" else {}
                return {}, {"data": {"items": page}, **last}
            case "/offset":
                start, limit = int(params["offset"]), int(params["limit"])
                return {}, {"data": {"items": self.records[start : start + limit]}}
            case "/all":
                return {}, self.records
            case "/none":
                return {}, {"data": None}
            case "/same":
                return {}, {"data": {"items": page}, "meta": {"cursor": "0"}}
            case "/elsewhere":
                return {}, {"data": {"items": page}, "paging": {"next": "http://127.0.0.2:1/steal"}}
        return {}, None

    def _trouble(self, handler: BaseHTTPRequestHandler, trouble: Trouble) -> None:
        if trouble.how == "hang":
            self.released.wait(60)
        elif trouble.how == "cut":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'[{"id": 1}, ')
        elif trouble.how == "answer":
            self._send(handler, trouble.status, trouble.headers, trouble.body)
            return
        handler.close_connection = True

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
