"""Objects of a bucket: S3, and what speaks like it."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envol.errors import NotFoundError, StorageError, UserError
from envol.storage.waiting import OPENING, Server

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

_DELETERS = 8
_DENIED = re.compile(r"\b403\b|\b401\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch")
_AWAY = re.compile(r"HTTP error:|status code: (5\d\d|429)|error for HTTP |HTTP (code )?(5\d\d|429)")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Access:
    """What a client needs to reach S3."""

    key: str
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    region: str
    endpoint: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Access:
        """From the variables of AWS, or the file that AWS_SHARED_CREDENTIALS_FILE names.

        Raises:
            UserError: neither holds a key.
        """
        given = {**_from_file(environment), **{name.lower(): value for name, value in environment.items()}}
        key, secret = given.get("aws_access_key_id"), given.get("aws_secret_access_key")
        if not key or not secret:
            raise UserError(
                "the project's data are on S3, and there are no credentials for it",
                remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE",
            )
        return cls(
            key,
            secret,
            given.get("aws_session_token") or None,
            given.get("aws_region") or given.get("aws_default_region") or "us-east-1",
            given.get("aws_endpoint_url_s3") or given.get("aws_endpoint_url") or None,
        )


class Bucket:
    """The objects below an address.

    Args:
        address: `s3://bucket/prefix`.
        opening: seconds to wait for a server that nothing was heard of yet.

    Raises:
        UserError: the client is not installed, or there are no credentials.
    """

    def __init__(self, address: str, opening: float = OPENING) -> None:
        self.address = address.rstrip("/")
        self.access = Access.of()
        self.server = Server(
            f"the object store of {self.address}",
            away,
            "start the object store, or mend AWS_ENDPOINT_URL_S3 or `data` under [storage]",
            opening,
        )
        self._store = _store(self.address, self.access)

    def put(self, key: str, content: Path | bytes) -> None:
        """Write an object; it is there whole or not at all."""
        import obstore

        self._do("written", lambda: obstore.put(self._store, key, content))

    def get(self, key: str) -> bytes:
        """The content of an object.

        Raises:
            NotFoundError: there is none.
        """
        import obstore

        return self._do("read", lambda: bytes(obstore.get(self._store, key).bytes()))

    def download(self, key: str, path: Path) -> None:
        """Write an object to a file.

        Raises:
            NotFoundError: there is none.
        """
        import obstore

        def work() -> None:
            with path.open("wb") as file:
                for part in obstore.get(self._store, key).stream():
                    file.write(part)

        self._do("read", work)

    def sizes(self, below: str = "") -> dict[str, int]:
        """Names of the objects below a name, and their bytes."""
        import obstore

        def work() -> dict[str, int]:
            pages = obstore.list(self._store, below or None)
            return {str(entry["path"]): int(entry["size"]) for page in pages for entry in page}

        return self._do("read", work)

    def holds_any(self, below: str) -> bool:
        """Whether there is an object below a name."""
        import obstore

        def work() -> bool:
            return any(page for page in obstore.list(self._store, below, chunk_size=1))

        return self._do("read", work)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there do not count."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(lambda key: self._do("written", lambda: self._delete(key)), keys))

    def _delete(self, key: str) -> None:
        # One by one: obstore's `delete` and DuckDB's ask for many at once, which not every server can do.
        import urllib.request

        import obstore

        signed = obstore.sign(self._store, "DELETE", key, timedelta(minutes=5))
        with urllib.request.urlopen(urllib.request.Request(signed, method="DELETE"), timeout=60):
            pass

    def _do(self, verb: str, work: Callable[[], Result]) -> Result:
        with explained(self.address, verb):
            return self.server.awaited(work)


@contextmanager
def explained(address: str, verb: str) -> Iterator[None]:
    """Turn what the client raises into errors of ours."""
    import urllib.error

    import obstore.exceptions

    try:
        yield
    except (obstore.exceptions.BaseError, FileNotFoundError, urllib.error.URLError) as error:
        text = _first_line(error)
        if "NoSuchBucket" not in str(error) and isinstance(error, FileNotFoundError):
            raise NotFoundError(f"{address} has no such object ({text})") from error
        problem, remedy = explanation(str(error)) or (text, "look at the log of the object store")
        raise StorageError(f"the objects of {address} cannot be {verb}: {problem}", remedy=remedy) from error


def explanation(text: str) -> tuple[str, str] | None:
    """What an answer of S3 means and what to do."""
    if "NoSuchBucket" in text:
        return "there is no such bucket", "make the bucket, or mend `data` under [storage]"
    if _DENIED.search(text):
        return (
            "the credentials are refused",
            "mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; they must read, write, list and delete there",
        )
    if "InsufficientStorage" in text or "XMinioStorageFull" in text or "507" in text:
        return "the object store is full", "free space in the object store"
    return None


def away(error: Exception) -> str | None:
    """Why the object store cannot be reached, read from an error; None when it can."""
    import urllib.error

    if isinstance(error, urllib.error.HTTPError):
        return str(error) if error.code >= 500 or error.code == 429 else None
    if isinstance(error, urllib.error.URLError | TimeoutError):
        return str(error)
    return _first_line(error) if _AWAY.search(str(error)) else None


def secret_sql(address: str, access: Access) -> str:
    """DuckDB's statement that lets it reach what is below an address."""
    options = {"KEY_ID": access.key, "SECRET": access.secret, "REGION": access.region, "SCOPE": address}
    if access.token:
        options["SESSION_TOKEN"] = access.token
    if access.endpoint:
        scheme, _, host = access.endpoint.rpartition("://")
        options |= {"ENDPOINT": host.rstrip("/"), "URL_STYLE": "path"}
        options["USE_SSL"] = "false" if scheme == "http" else "true"
    listed = ", ".join("{} '{}'".format(name, value.replace("'", "''")) for name, value in options.items())
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return f"CREATE SECRET envol_{name} (TYPE s3, {listed})"


def _store(address: str, access: Access) -> S3Store:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise UserError(
            "the project's data are on S3, and the client for it is not installed",
            remedy="pip install 'envol[s3]'",
        ) from None
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    config: S3Config = {
        "access_key_id": access.key,
        "secret_access_key": access.secret,
        "region": access.region,
        "virtual_hosted_style_request": access.endpoint is None,
    }
    if access.token:
        config["session_token"] = access.token
    if access.endpoint:
        config["endpoint"] = access.endpoint
    plain = (access.endpoint or "").startswith("http://")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options={"allow_http": plain, "connect_timeout": "10s", "timeout": "10m"},
        retry_config={"max_retries": 2},
    )


def _from_file(environment: Mapping[str, str]) -> dict[str, str]:
    """The profile in the file of credentials that AWS's own tools read."""
    path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(path).expanduser(), encoding="utf-8")
    profile = environment.get("AWS_PROFILE") or "default"
    return dict(parser[profile]) if parser.has_section(profile) else {}


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
