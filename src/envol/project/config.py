"""`envol.toml`: its keys, read strictly, with `ENVOL_*` variables over it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from envol.errors import ConfigError
from envol.project.names import nearest
from envol.project.toml_lines import TomlLines
from envol.project.windows import Calendar

FILE = "envol.toml"
NEVER = "never"
"""What `[retention]` says of records that are always kept."""
Text = Annotated[str, msgspec.Meta(min_length=1)]
Kept = Annotated[str, msgspec.Meta(pattern=rf"^({NEVER}|\d+(h|d|w|mo))$")]
Section = type[msgspec.Struct]
# Tells where a key stands: "envol.toml:12", or the variable that it was taken from.
Place = Callable[..., str]


class ProjectSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[project]: name, time zone, first instant of its data, and the instant it ends, if it does."""

    name: Text
    start: Text
    timezone: Text = "UTC"
    end: str | None = None
    modules: tuple[Text, ...] = ()


class StorageSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[storage]: where tables, metadata and artifacts are.

    `path` is a folder, relative to the project. `url` is a PostgreSQL database for the metadata and the
    catalog of the tables, `data` an S3 address for the files of the tables and the artifacts; without them
    both are in the folder. Credentials come from the environment or from files, never from here.
    """

    path: Text = ".envol"
    url: Text | None = None
    data: Text | None = None

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_url(self.url)
        if self.data is not None and not re.fullmatch(r"s3://[^/]+(/.*)?", self.data):
            raise ValueError(f"data is {self.data!r}, and not an address such as s3://bucket/prefix")


class RunSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[run]: how many tasks run side by side; 0 means one a core."""

    workers: Annotated[int, msgspec.Meta(ge=0)] = 0


class ConductorSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[conductor]: how many seconds running tasks have to end when it is stopped, before they are killed.

    `stale` says what it does with windows that an edit made stale: "remake" them, or "wait" for
    `envol accept` or `envol run`.
    """

    stop_timeout: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    stale: Literal["remake", "wait"] = "remake"


class RetentionSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[retention]: how long records are kept, as spans such as "30d", or "never" for those that never go.

    `logs` are those of tasks that did not fail, `failed_logs` of those that did; they, `tasks` and `runs`
    count from the start of the run. `snapshots` are past states of the tables, `quarantine` rows that broke a
    contract, `backfills` the windows of ended backfills, `schema_changes` changes of the tables' columns.
    """

    logs: Kept = "14d"
    failed_logs: Kept = "90d"
    tasks: Kept = "90d"
    runs: Kept = "12mo"
    snapshots: Kept = "30d"
    quarantine: Kept = "180d"
    backfills: Kept = "30d"
    schema_changes: Kept = "12mo"


class ServeSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """[serve]: where the prediction service listens, and its limits.

    `port` 0 takes a free one. `body_limit` is the largest body of a request in bytes, `threads` how many
    predictions are computed side by side (0: one a core), `queue` how many requests may be computed or wait
    for it; more are answered 503.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    body_limit: Annotated[int, msgspec.Meta(ge=1)] = 16 * 1024 * 1024
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    queue: Annotated[int, msgspec.Meta(ge=1)] = 128


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole of `envol.toml`.

    [resources] says how many tasks may hold a resource at once, as in `database = 2`.
    """

    project: ProjectSection
    storage: StorageSection = StorageSection()
    run: RunSection = RunSection()
    conductor: ConductorSection = ConductorSection()
    retention: RetentionSection = RetentionSection()
    serve: ServeSection = ServeSection()
    resources: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    parameters: dict[str, Any] = {}


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read `envol.toml`; `ENVOL_SERVE_PORT=9000` overrides `port` of `[serve]`, and so on.

    Raises:
        ConfigError: naming file, line, and for a misspelt key the nearest known one.
    """
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        place = f"{path.name}:{line[1] if line else text.count(chr(10)) + 1}"
        raise ConfigError(f"{place}: not TOML: {error}", remedy="mend that line") from None
    lines = TomlLines(text)
    _refuse_unknown(data, Config, (), lambda *keys: f"{path.name}:{lines.of(*keys)}")
    variables = _override(data, os.environ if environment is None else environment)

    def place_of(*keys: str) -> str:
        return variables.get(keys) or f"{path.name}:{lines.of(*keys)}"

    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise _readable(error, place_of) from None
    _check_times(config.project, place_of)
    return config


def place_in(path: Path, *keys: str) -> str:
    """Where a key of the file stands, such as "envol.toml:12"."""
    return f"{path.name}:{TomlLines(_read(path)).of(*keys)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no {FILE} in {path.parent}",
            remedy="go to the project's folder, or start one with: envol new NAME",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", remedy="make it a readable UTF-8 file") from None


def _sections() -> Iterator[tuple[str, Section]]:
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield field.name, field.type


def _refuse_unknown(data: dict[str, Any], kind: Section, above: tuple[str, ...], place: Place) -> None:
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key, value in data.items():
        if key not in known:
            raise ConfigError(f"{place(*above, key)}: unknown key {key!r}", remedy=nearest(key, known))
        section = dict(_sections()).get(key) if kind is Config else None
        if section and isinstance(value, dict):
            _refuse_unknown(value, section, (*above, key), place)
        elif isinstance(value, date) and key in ("start", "end"):  # TOML has dates of its own
            data[key] = value.isoformat()


def _override(data: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Put the values of the variables into the data; returns the variables by the keys they set."""
    found: dict[tuple[str, ...], str] = {}
    for section, kind in _sections():
        prefix = f"ENVOL_{section}_".upper()
        fields = {f"{prefix}{field.name.upper()}": field for field in msgspec.structs.fields(kind)}
        for variable in sorted(name for name in environment if name.startswith(prefix)):
            if variable not in fields:
                raise ConfigError(f"unknown variable {variable}", remedy=nearest(variable, fields))
            field, given = fields[variable], environment[variable]
            value: Any = [part.strip() for part in given.split(",")] if field.name == "modules" else given
            try:
                value = msgspec.convert(value, field.type, strict=False)
            except msgspec.ValidationError as error:
                raise ConfigError(
                    f"{variable}={given!r}: {_worded(str(error))}", remedy="give a value of that kind"
                ) from None
            if isinstance(data.setdefault(section, {}), dict):
                data[section][field.name] = value
                found[section, field.name] = variable
    return found


def _readable(error: msgspec.ValidationError, place: Place) -> ConfigError:
    message, _, where = str(error).partition(" - at `$.")
    keys = tuple(re.sub(r"\[.*?\]", "", where.rstrip("`")).split(".")) if where else ()
    missing = re.search(r"missing required field `(\w+)`", message)
    if not missing:
        return ConfigError(
            f"{place(*keys)}: {'.'.join(keys)}: {_worded(message)}", remedy="give a value of that kind"
        )
    if not keys:
        return ConfigError(
            f"{place()}: the section [{missing[1]}] is missing", remedy=f"add [{missing[1]}] to {FILE}"
        )
    return ConfigError(
        f"{place(*keys)}: {missing[1]!r} is missing in [{'.'.join(keys)}]",
        remedy=f"add {missing[1]} = ... under [{'.'.join(keys)}]",
    )


def _worded(message: str) -> str:
    words = {
        "str": "text",
        "int": "whole number",
        "array": "list",
        "object": "table",
        "bool": "true or false",
    }
    message = re.sub(r"`(\w+)`", lambda match: words.get(match[1], match[1]), message)
    message = re.sub(r"matching regex '\^\(never.*", f'such as "30d", or "{NEVER}"', message)
    return message[:1].lower() + message[1:]


def _check_url(url: str) -> None:
    """Refuse what is not PostgreSQL's, and a password, without showing it."""
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"url begins with {parts.scheme!r}, and not with postgresql://")
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError(
            "url holds a password, which belongs into the variable PGPASSWORD or a file that PGPASSFILE names"
        )


def _check_times(section: ProjectSection, place: Place) -> None:
    """Refuse a time zone or a date that cannot be read, and an end that is not after the start."""
    key = "timezone"
    try:
        calendar = Calendar(section.timezone)
        key = "start"
        start = calendar.instant(section.start)
        key = "end"
        end = calendar.instant(section.end) if section.end is not None else None
    except ConfigError as error:
        raise ConfigError(f"{place('project', key)}: {key}: {error.message}", remedy=error.remedy) from None
    if end is not None and end.timestamp() <= start.timestamp():
        raise ConfigError(
            f"{place('project', 'end')}: end ({section.end}) is not after start ({section.start})",
            remedy="give the project at least one window",
        )
