"""Requests to a running service: good ones, and every kind of bad one."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from envol.serving import PredictionLog, ServerProcess

from .conftest import GOOD

PREDICT = "/models/delay_risk/predict"


def problems(response: httpx.Response) -> list[tuple[int, str]]:
    return [(problem["row"], problem["field"]) for problem in response.json()["error"]["problems"]]


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_rows_are_predicted_and_logged(client: httpx.Client, shared: ServerProcess) -> None:
    rows = [GOOD, GOOD | {"carrier": "AA", "distance": 300}]
    answer = client.post(PREDICT, json={"rows": rows})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["model"], body["version"]) == ("delay_risk", 1)
    assert [set(one) for one in body["predictions"]] == [{"id", "prediction", "probability"}] * 2
    assert all(isinstance(one["prediction"], bool) for one in body["predictions"])
    assert body["predictions"][0]["probability"] != body["predictions"][1]["probability"]
    log = PredictionLog.in_store(shared.root / ".envol").read("delay_risk", limit=2, newest=True)
    assert log["id"].to_list() == [one["id"] for one in body["predictions"]]
    assert log["version"].to_list() == [1, 1]
    assert '"distance":300' in log["input"][1]


@pytest.mark.parametrize("body", [{"rows": [GOOD]}, [GOOD], {"row": GOOD}])
def test_three_shapes_mean_the_same(client: httpx.Client, body: Any) -> None:
    answer = client.post(PREDICT, json=body)
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 1


def test_no_rows_get_no_predictions(client: httpx.Client) -> None:
    assert client.post(PREDICT, json=[]).json()["predictions"] == []


def test_a_regression_answers_a_number(client: httpx.Client) -> None:
    (one,) = client.post("/models/delay/predict", json=[GOOD]).json()["predictions"]
    assert set(one) == {"id", "prediction"}
    assert isinstance(one["prediction"], float)


def test_the_content_type_may_be_missing_or_json(client: httpx.Client) -> None:
    content = httpx.Request("POST", "http://x", json=[GOOD]).content
    for headers in (
        {},
        {"content-type": "application/json"},
        {"content-type": 'Application/JSON; charset="UTF-8"'},
    ):
        assert client.post(PREDICT, content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("value", [{"passengers": None}, {"passengers": 120.0}, {"wind": None}, {"wind": 3}])
def test_missing_values_and_lossless_numbers_are_accepted(
    client: httpx.Client, value: dict[str, Any]
) -> None:
    assert client.post(PREDICT, json=[GOOD | value]).status_code == 200


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"carrier": "ZZ"}, "ZZ"),
        ({"carrier": 7}, "7"),
        ({"carrier": None}, "missing"),
        ({"passengers": 2.5}, "2.5"),
        ({"passengers": "2"}, "2"),
        ({"passengers": 10**30}, "range"),
        ({"distance": None}, "missing"),
        ({"wind": "fresh"}, "fresh"),
        ({"wind": True}, "true"),
        ({"domestic": 1}, "1"),
        ({"domestic": [True]}, "list"),
    ],
)
def test_a_wrong_value_is_named(client: httpx.Client, value: dict[str, Any], told: str) -> None:
    answer = client.post(PREDICT, json=[GOOD, GOOD | value])
    assert error(answer) == (422, "invalid_rows")
    assert problems(answer) == [(1, next(iter(value)))]
    assert told in answer.json()["error"]["problems"][0]["problem"]


def test_missing_and_extra_fields_are_named(client: httpx.Client) -> None:
    row = {("distnace" if key == "distance" else key): value for key, value in GOOD.items()}
    answer = client.post(PREDICT, json={"row": row})
    assert error(answer) == (422, "invalid_rows")
    assert sorted(problems(answer)) == [(0, "distance"), (0, "distnace")]
    assert "'distance'" in str(answer.json()["error"]["problems"])


def test_the_first_hundred_problems_are_listed(client: httpx.Client) -> None:
    answer = client.post(PREDICT, json=[{"carrier": "ZZ"}] * 150)
    assert answer.status_code == 422
    assert len(problems(answer)) == 100
    assert "in 150 rows" in answer.json()["error"]["message"]


def test_refused_rows_are_not_logged(client: httpx.Client, shared: ServerProcess) -> None:
    log = PredictionLog.in_store(shared.root / ".envol")
    before = log.read().height
    client.post(PREDICT, json=[GOOD, GOOD | {"carrier": "ZZ"}])
    assert log.read().height == before


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", "bad_json", "empty"),
        (b"{", "bad_json", "not JSON"),
        (b"rows=1", "bad_json", "not JSON"),
        (b'[{"distance": NaN}]', "bad_json", "send null"),
        (b'[{"distance": 1, "distance": 2}]', "bad_json", "'distance' appears twice"),
        (b'{"rows": [], "rows": []}', "bad_json", "'rows' appears twice"),
        (b'{"a\\u003a": 1, "a:": 2}', "bad_json", "'a:' appears twice"),
        (b'"\xff"', "bad_json", "not JSON"),
        (b'"\\ud800"', "bad_json", "not JSON"),
        (b"[" * 10_000, "bad_json", "nested too deeply"),
        (b"3", "wrong_shape", "a number"),
        (b"null", "wrong_shape", "null"),
        (b"{}", "wrong_shape", "no keys"),
        (b'{"rows": {}}', "wrong_shape", "an object, not a list"),
        (b'{"row": []}', "wrong_shape", "a list, not an object"),
        (b'{"rows": [], "row": {}}', "wrong_shape", "'rows', 'row'"),
        (b'{"distance": 1}', "wrong_shape", "'distance'"),
        (b'[{}, "x"]', "wrong_shape", "row 1 is text"),
    ],
)
def test_a_body_that_is_no_list_of_rows(client: httpx.Client, content: bytes, code: str, told: str) -> None:
    answer = client.post(PREDICT, content=content)
    assert error(answer) == (400, code)
    assert told in answer.json()["error"]["message"]


def test_unknown_models_and_paths_name_the_nearest(client: httpx.Client) -> None:
    answer = client.post("/models/delay_rsk/predict", json=[GOOD])
    assert error(answer) == (404, "unknown_model")
    assert "did you mean 'delay_risk'" in answer.text
    assert error(client.get("/models/zzz")) == (404, "unknown_model")
    answer = client.get("/modells")
    assert error(answer) == (404, "unknown_path")
    assert "did you mean '/models'" in answer.text
    assert error(client.post("/models/delay_risk/predct", json=[])) == (404, "unknown_path")


def test_other_methods_are_refused_with_those_allowed(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", PREDICT, "POST"),
        ("POST", "/ready", "GET, HEAD"),
        ("DELETE", "/models/delay_risk", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert error(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


def test_head_has_no_body(client: httpx.Client) -> None:
    answer = client.head("/models")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(client.get("/models").content)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/csv"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-encoding": "gzip"},
    ],
)
def test_another_media_type(client: httpx.Client, headers: dict[str, str]) -> None:
    assert error(client.post(PREDICT, content=b"[]", headers=headers)) == (415, "unsupported_media_type")


def test_a_body_over_the_limit(client: httpx.Client) -> None:
    assert error(client.post(PREDICT, content=b" " * 30_000)) == (413, "too_large")
    assert error(client.post(PREDICT, content=(b" " * 1000 for _ in range(30)))) == (413, "too_large")
    assert client.post(PREDICT, content=b"[]" + b" " * 19_998).status_code == 200


def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(shared: ServerProcess) -> None:
    address = urlsplit(shared.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        connection.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_harms_nobody(client: httpx.Client, shared: ServerProcess) -> None:
    address = urlsplit(shared.url)
    assert address.hostname is not None
    for part in (b"[", b'[{"distance": 1}]' + b" " * 30):
        with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 47\r\n\r\n"
            connection.sendall(head.encode() + part)
    assert client.post(PREDICT, json=[GOOD]).status_code == 200


def test_a_model_without_champion(client: httpx.Client) -> None:
    answer = client.post("/models/idle/predict", json=[GOOD])
    assert error(answer) == (503, "no_champion")
    assert "retry-after" in answer.headers
    assert client.get("/models/idle").json()["ready"] is False
    assert client.get("/ready").status_code == 200


def test_a_failing_model_answers_500_and_its_trace_is_in_the_log(
    client: httpx.Client, shared: ServerProcess
) -> None:
    answer = client.post("/models/moody/predict", json=[GOOD | {"distance": 1313}])
    assert error(answer) == (500, "internal")
    assert "secret" not in answer.text and "Traceback" not in answer.text
    request_id = answer.json()["error"]["request_id"]
    assert answer.headers["x-request-id"] == request_id
    assert request_id in shared.output and "a secret of the model's author" in shared.output
    assert client.post("/models/moody/predict", json=[GOOD]).status_code == 200
