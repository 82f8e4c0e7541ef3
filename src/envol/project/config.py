"""`envol.toml`: its keys, read strictly, with `ENVOL_*` variables over it."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from envol.errors import ConfigError

FILE = "envol.toml"


class ProjectSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[project]: name, time zone, first instant of its data, and the instant it ends, if it does."""

    name: str
    start: str
    timezone: str = "UTC"
    end: str | None = None
    modules: tuple[str, ...] = ()


class StorageSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[storage]: folder of the tables, the metadata and the artifacts, relative to the project."""

    path: str = ".envol"


class RunSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[run]: how many tasks run side by side; 0 means one a core."""

    workers: int = 0


class ServeSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[serve]: where the prediction service listens."""

    host: str = "127.0.0.1"
    port: int = 8000


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole of `envol.toml`."""

    project: ProjectSection
    storage: StorageSection = StorageSection()
    run: RunSection = RunSection()
    serve: ServeSection = ServeSection()
    parameters: dict[str, Any] = {}


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read `envol.toml`; `ENVOL_SERVE_PORT=9000` overrides `port` of `[serve]`, and so on.

    Raises:
        ConfigError: naming file, line, and for a misspelt key the nearest known one.
    """
    environment = os.environ if environment is None else environment
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no {FILE} in {path.parent}",
            remedy="go to the project's folder, or start one with: envol new NAME",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", remedy="make it a readable UTF-8 file") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}", remedy="mend the line that it names") from None
    _refuse_unknown(data, Config, text, path.name)
    _override(data, environment)
    try:
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise _readable(error, text, path.name) from None


def _refuse_unknown(data: Mapping[str, Any], kind: type[msgspec.Struct], text: str, file: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            known = ", ".join(fields)
            raise ConfigError(
                f"{file}:{_line_of(text, key)}: unknown key {key!r}",
                remedy=f"did you mean {near[0]!r}?" if near else f"known here: {known}",
            )
        inner = fields[key].type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(value, inner, text, file)


def _override(data: dict[str, Any], environment: Mapping[str, str]) -> None:
    for section in msgspec.structs.fields(Config):
        kind = section.type
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            continue
        for field in msgspec.structs.fields(kind):
            variable = f"ENVOL_{section.name}_{field.name}".upper()
            if variable not in environment:
                continue
            given: Any = environment[variable]
            if field.type is int:
                try:
                    given = int(given)
                except ValueError:
                    raise ConfigError(f"{variable}={given!r} is not a whole number") from None
            elif field.name == "modules":
                given = given.split(",")
            data.setdefault(section.name, {})[field.name] = given


def _readable(error: msgspec.ValidationError, text: str, file: str) -> ConfigError:
    message, _, place = str(error).partition(" - at `$.")
    place = place.rstrip("`")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        section = f"[{place}]" if place else "the file"
        return ConfigError(
            f"{file}:{_line_of(text, place)}: {missing[1]!r} is missing in {section}",
            remedy=f"add {missing[1]} = ... (see docs/reference/config.md)",
        )
    return ConfigError(
        f"{file}:{_line_of(text, place.rpartition('.')[2])}: {place}: {message}",
        remedy="give a value of that type",
    )


def _line_of(text: str, key: str) -> int:
    pattern = re.compile(rf"^\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(=|\]|\.)")
    for number, line in enumerate(text.splitlines(), start=1):
        if key and pattern.match(line):
            return number
    return 1
