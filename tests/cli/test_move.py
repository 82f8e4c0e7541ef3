"""`envol move`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from cli.machines import CONFIG, Project, Said
from servers import S3, Postgres

from envol.pipeline import run_lease
from envol.project import load_project
from envol.storage import Store


@pytest.fixture
def whole(ran: tuple[Project, Said], tmp_path: Path) -> Project:
    """A copy of a project with a model that was run once."""
    shutil.copytree(ran[0].root, tmp_path / "whole")
    return Project(tmp_path / "whole")


def test_a_project_moves_and_goes_on_there(whole: Project, postgres: Postgres, s3: S3) -> None:
    url, data = postgres.new_database(), s3.new_bucket()
    before = whole.envol("models", "--json").json
    moved = whole.envol("move", "--to", url, "--data", data, "--write", "--json", **s3.environment)
    assert moved.code == 0, moved.err
    assert {one["part"] for one in moved.json["compared"]} >= {"table", "metadata", "artifacts", "lake"}
    assert all(one["equal"] for one in moved.json["compared"])
    written = tomllib.loads((whole.root / "envol.toml").read_text())
    assert written == {**tomllib.loads(CONFIG), "storage": {"url": url, "data": data}}
    shutil.rmtree(whole.root / ".envol")
    assert whole.envol("models", "--json", **s3.environment).json == before
    again = whole.envol("run", **s3.environment)
    assert again.code == 0 and "nothing to do" in again.out, again.err
    assert whole.envol("query", "select count(*) as n from readings", "--json", **s3.environment).json == [
        {"n": 320}
    ]


def test_it_says_what_to_put_into_the_file(whole: Project, postgres: Postgres) -> None:
    url = postgres.new_database()
    said = whole.envol("move", "--to", url)
    assert said.code == 0, said.err
    assert f'[storage]\nurl = "{url}"' in said.out and "yes" in said.out
    assert "the old place stays as it is" in said.out
    assert (whole.root / "envol.toml").read_text() == CONFIG
    taken = whole.envol("move", "--to", url)
    assert taken.code == 2 and "something of this project already" in taken.err


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        ('[storage]\npath = "data"  # where\n\n[run]\nworkers = 2\n', {"path": "elsewhere"}),
        ("[storage]\n[run]\nworkers = 2\n", {"path": "elsewhere"}),
        ("[storage]  # of all\n# nothing yet", {"path": "elsewhere"}),
        ("", {"path": "elsewhere"}),
    ],
)
def test_the_rest_of_the_file_stays_as_it_is(whole: Project, text: str, storage: dict[str, str]) -> None:
    (whole.root / "envol.toml").write_text(f"{CONFIG}\n{text}")
    said = whole.envol("move", "--to", "elsewhere", "--write", ENVOL_STORAGE_PATH=".envol")
    assert said.code == 0, said.err
    assert "ENVOL_STORAGE_PATH is set" in said.out
    written = (whole.root / "envol.toml").read_text()
    assert tomllib.loads(written) == {**tomllib.loads(CONFIG + text), "storage": storage}
    for line in (CONFIG + text).splitlines():
        assert line in written or line.startswith("path")


def test_a_file_that_cannot_be_changed_is_left_alone(whole: Project) -> None:
    config = f'storage = {{ path = ".envol" }}\n{CONFIG}'
    (whole.root / "envol.toml").write_text(config)
    said = whole.envol("move", "--to", "elsewhere", "--write")
    assert said.code == 2 and "leave out --write" in said.err
    assert (whole.root / "envol.toml").read_text() == config
    assert not (whole.root / "elsewhere").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "postgresql://me:secret@host/base"], "PGPASSWORD"),
        (["--to", "postgresql://me@host/base?password=secret"], "PGPASSWORD"),
        (["--to", "mysql://me@host/base"], "begins with 'mysql'"),
        (["--to", "elsewhere", "--data", "/a/folder"], "s3://bucket/prefix"),
    ],
)
def test_a_place_that_is_none_is_refused_and_no_password_shown(
    whole: Project, words: list[str], told: str
) -> None:
    said = whole.envol("move", *words)
    assert said.code == 2 and told in said.err
    assert "secret" not in said.err + said.out


def test_a_run_that_is_active_is_not_moved(whole: Project) -> None:
    with Store.of(load_project(whole.root)) as store, run_lease(store.metadata).held():
        said = whole.command("move", "--to", "elsewhere")
    assert said.code == 2 and "another run is active" in said.err
    assert not (whole.root / "elsewhere").exists()
