"""Whatever is sent, the service does not fail."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import GOOD

SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*GOOD, "other"])
ROWS = st.lists(st.dictionaries(NAMES, VALUES | st.sampled_from(list(GOOD.values())), max_size=6), max_size=3)
NEAR = st.builds(lambda row, name, value: row | {name: value}, st.just(GOOD), NAMES, VALUES)
BODIES = VALUES | ROWS | ROWS.map(lambda rows: {"rows": rows}) | NEAR.map(lambda row: {"row": row})


def check(client: httpx.Client, content: bytes) -> None:
    for model in ("delay_risk", "delay"):
        answer = client.post(f"/models/{model}/predict", content=content)
        assert answer.status_code in (200, 400, 422), answer.text
        assert ("predictions" if answer.status_code == 200 else "error") in answer.json()


@SETTINGS
@given(body=BODIES)
def test_any_json(client: httpx.Client, body: Any) -> None:
    check(client, json.dumps(body).encode())


@SETTINGS
@given(body=BODIES, at=st.integers(0, 60), with_=st.binary(max_size=3))
def test_damaged_json(client: httpx.Client, body: Any, at: int, with_: bytes) -> None:
    content = json.dumps(body).encode()
    check(client, content[:at] + with_ + content[at + 1 :])
