"""The page at `/`: models, addresses and how to ask, for a person with a browser."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

import msgspec

from envol.serving.http import Response
from envol.serving.models import Served

_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 0 0 .3rem; }
section { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .75rem 0 0; padding: .75rem;
      border-radius: .4rem; font-size: .85rem;
      background: color-mix(in srgb, currentColor 7%, transparent); }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.warning { border-left: .25rem solid #d97706; padding-left: .6rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p>Predictions over HTTP, each logged before it is answered.</p>
<p><a href="$root/models">models</a> · <a href="$root/ready">ready</a> · <a href="$root/health">health</a>
 · <a href="$root/openapi.json">openapi.json</a></p>
$models
</body>
</html>
""")
_MODEL = Template("""<section>
<h2>$name</h2>
<p>$state · <a href="$root/models/$name">metadata</a></p>
$body</section>
""")


def page(title: str, address: str, root: str, models: Iterable[Served]) -> Response:
    """The page of a service that is reached at `address`; `root` is the path in front of its own."""
    sections = [_model(address, root, served) for served in models]
    filled = _PAGE.substitute(
        title=escape(title),
        root=escape(root),
        models="".join(sections) or "<p>No model is registered yet. Train one: <code>envol run</code></p>",
    )
    return Response(200, filled.encode(), b"text/html; charset=utf-8", (_POLICY,))


def _model(address: str, root: str, served: Served) -> str:
    package = served.package
    warning = f'<p class="warning">{escape(served.warning)}</p>\n' if served.warning else ""
    body, state = (
        "",
        f"version {served.champion.version}, not loaded" if served.champion else "no champion yet",
    )
    if package is not None:
        rows = msgspec.json.format(msgspec.json.encode({"rows": [served.example]}), indent=2)
        row = rows.decode().replace("'", "'\\''")
        target = f"{address}/models/{served.name}/predict"
        curl = f"curl {target} \\\n  -H 'Content-Type: application/json' \\\n  -d '{row}'"
        body, state = f"<pre>{escape(curl)}</pre>\n", f"version {package.version}, {package.task}"
    return _MODEL.substitute(name=escape(served.name), root=escape(root), state=state, body=warning + body)
