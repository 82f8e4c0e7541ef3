"""What the service tells about itself: health, readiness, models, OpenAPI and the page."""

from __future__ import annotations

import html
import shutil
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from envol.serving import ServerProcess

from .conftest import GOOD, TOML


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    ready = client.get("/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "reasons": [],
        "warnings": [],
        "models": {"delay": 1, "delay_risk": 1, "moody": 1},
    }


def test_models_are_described(client: httpx.Client) -> None:
    models = client.get("/models").json()["models"]
    assert [model["name"] for model in models] == ["delay", "delay_risk", "idle", "moody"]
    model = client.get("/models/delay_risk").json()
    assert model == models[1]
    assert (model["version"], model["versions"], model["aliases"]) == (1, [1, 2], {"champion": 1})
    assert (model["task"], model["classes"], model["warning"]) == ("binary", [False, True], None)
    assert len(model["digest"]) == 64
    assert model["trained"] == {"start": "2013-01-06T00:00:00Z", "end": "2013-01-26T00:00:00Z"}
    assert model["metrics"]
    fields = {field["name"]: field for field in model["signature"]}
    assert list(fields) == ["distance", "carrier", "passengers", "wind", "domestic"]
    assert fields["passengers"] == {
        "name": "passengers",
        "dtype": "Int64",
        "nullable": True,
        "categories": None,
    }
    assert fields["carrier"]["categories"] == ["AA", "B6", "UA"]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [one for item in value.values() for one in references(item)]
    return [one for item in value for one in references(item)] if isinstance(value, list) else []


def test_openapi_is_whole_and_its_schemas_hold(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    assert {"/health", "/ready", "/models", "/models/delay/predict", "/models/delay_risk"} <= set(
        document["paths"]
    )
    assert "/models/idle/predict" not in document["paths"]
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for operation in operations:
        assert all(answer["description"] for answer in operation["responses"].values())
    schemas = document["components"]["schemas"]
    assert {one.removeprefix("#/components/schemas/") for one in references(document)} <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    predict = document["paths"]["/models/delay_risk/predict"]["post"]
    content = predict["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        checker(document, content["schema"]).validate(example["value"])
        answer = client.post("/models/delay_risk/predict", json=example["value"])
        assert answer.status_code == 200
        checker(document, predict["responses"]["200"]["content"]["application/json"]["schema"]).validate(
            answer.json()
        )
    refused = client.post("/models/delay_risk/predict", json=[{}])
    checker(document, predict["responses"]["422"]["content"]["application/json"]["schema"]).validate(
        refused.json()
    )
    ready = document["paths"]["/ready"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    checker(document, ready).validate(client.get("/ready").json())


@pytest.mark.parametrize("value", [{"carrier": "ZZ"}, {"passengers": 2.5}, {"distance": None}, {"other": 1}])
def test_what_the_schema_refuses_the_service_refuses(client: httpx.Client, value: dict[str, Any]) -> None:
    document = client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["delay_risk.row"]
    assert not checker(document, schema).is_valid(GOOD | value)
    assert checker(document, schema).is_valid(GOOD)
    assert client.post("/models/delay_risk/predict", json=[GOOD | value]).status_code == 422


def checker(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema | {"components": document["components"]})


def test_the_page_lists_models_and_needs_nothing_else(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name in ("delay", "delay_risk", "idle", "moody"):
        assert f"<h2>{name}</h2>" in page.text
    assert f"curl {client.base_url}/models/delay_risk/predict".replace("//models", "/models") in page.text
    assert "viewport" in page.text and "color-scheme: light dark" in page.text
    assert "<script" not in page.text and "src=" not in page.text and "stylesheet" not in page.text
    hostile = client.get("/", headers={"host": "<script>alert(1)</script>"})
    assert "<script" not in hostile.text


def test_a_service_without_a_model_says_how_to_have_one(tmp_path: Path) -> None:
    (tmp_path / "envol.toml").write_text(TOML)
    with ServerProcess(tmp_path) as server:
        assert "no model is registered yet; envol run trains" in server.output
        assert "alembic" not in server.output
        page = httpx.get(server.url).text
        assert "No model is registered yet" in page and "envol run" in page


def test_the_example_on_the_page_is_whole_on_a_narrow_screen(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "pre-wrap" in page and "overflow-x" not in page
    assert '\n      "carrier": ' in html.unescape(page)


def test_the_page_tells_a_champion_that_does_not_load_from_none(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(template, root)
    for model in (root / ".envol" / "artifacts").rglob("model.pkl"):
        model.write_bytes(model.read_bytes() + b"x")
    with ServerProcess(root) as server:
        page = html.unescape(httpx.get(server.url).text)
    assert page.count("version 1, not loaded") == 3 and page.count("no champion yet") == 1
    assert "train the model again: envol run --node delay_risk --rerun" in page
