"""Real servers for tests, on free ports of this machine: PostgreSQL of Debian's package, a small S3."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from envol.storage.place import Database, Place

PATIENCE = 60
REQUIRED = os.environ.get("ENVOL_TEST_POSTGRES") == "required"
_PROGRAMS = Path("/usr/lib/postgresql")
_SERVER = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
}
_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_numbers = itertools.count(1)


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; None where the package is not installed."""
    found = sorted(_PROGRAMS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Child:
    """A process that ends with this one, however that ends."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
            )
        # Reads until this process is gone, for the pipe's other end is nowhere else.
        watching = f"cat >/dev/null; kill -QUIT {self._process.pid} 2>/dev/null"
        self._watcher = subprocess.Popen(["sh", "-c", watching], stdin=subprocess.PIPE)

    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self, how: signal.Signals) -> None:
        self._watcher.kill()
        self._watcher.communicate()
        self._process.send_signal(how)
        self._process.wait(PATIENCE)


class Postgres:
    """A PostgreSQL server of its own, in a temporary folder.

    Args:
        durable: write to disk as a real one does; else it is quicker, and loses what was committed last when
            it is killed.
    """

    user = "envol"
    guarded = "guarded"
    """Name of a user who needs a password, once a test has made it."""

    def __init__(self, *, durable: bool = False) -> None:
        programs = postgres_programs()
        assert programs is not None, "PostgreSQL is not installed"
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="envol-postgres-"))
        self.port = free_port()
        self._settings = _SERVER if durable else {**_SERVER, **_HASTY}
        self._process: Child | None = None
        self._free: list[str] = []
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            account = _account()
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}")
            self._as_user = ["setpriv", *ids, "--clear-groups"]
        command = [programs / "initdb", "-D", self.folder / "data", "-U", self.user, "-A", "trust", "-N"]
        subprocess.run(
            [*self._as_user, *command, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        access = self.folder / "data" / "pg_hba.conf"
        access.write_text(f"host all {self.guarded} 127.0.0.1/32 scram-sha-256\n{access.read_text()}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._spawn()
            while self._process is not None and self._process.runs():
                if self._answers():
                    return
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
            # Children of a killed server still hold its memory, or the port was taken meanwhile.
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it in good order (SIGINT), at once (SIGQUIT) or by SIGKILL."""
        if self._process is not None:
            self._process.end(how)
            self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = user) -> str:
        """What `url` in `[storage]` would say."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The url of a new, empty database."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The url of a database for the block, empty but not new: that takes less time and disk."""
        url = self._free.pop() if self._free else self.new_database()
        yield url
        name = url.rpartition("/")[2]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        for (schema,) in self.execute(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname ~ '^(envol|lake)_'", name
        ):
            self.execute(f"DROP SCHEMA {schema} CASCADE", name)
        self._free.append(url)

    @contextmanager
    def copy_of(self, url: str) -> Iterator[str]:
        """The url of a copy of a database that nobody uses, for the block: what is in it need not be made."""
        name = f"copy_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {url.rpartition('/')[2]}")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of a statement run by the superuser, outside any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What the server has written."""
        return (self.folder / "log").read_text()

    def _spawn(self) -> None:
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", self.folder / "data", "-k", self.folder, "-p", str(self.port)]
        command = [*self._as_user, self._programs / "postgres", *where, *settings]
        self._process = Child(command, self.folder / "log")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class S3:
    """A small S3 server whose objects are files, which outlive it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="envol-s3-"))
        self.port = free_port()
        self._log = self.folder.with_suffix(".log")
        self._process: Child | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell a client where it is."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "not-checked",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = Path(sys.executable).parent / "localbucket"
        self._process = Child([program, "--port", str(self.port), self.folder], self._log)
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.runs() and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def close(self) -> None:
        """Kill it and remove its objects."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._log.unlink(missing_ok=True)

    def new_bucket(self) -> str:
        """The address of a new, empty bucket."""
        name = f"test-{os.getpid()}-{next(_numbers)}"
        (self.folder / name).mkdir()
        return f"s3://{name}"

    def objects(self, bucket: str) -> list[str]:
        """Names of what is in a bucket, sorted."""
        place = self.folder / bucket.removeprefix("s3://")
        return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def free_port() -> int:
    """A port of this machine that nobody listens at just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is no user to run PostgreSQL as")


def place(folder: Path, project: str = "test") -> Place:
    """A store in a folder, or where the variables ENVOL_STORAGE_* say."""
    url, data = os.environ.get("ENVOL_STORAGE_URL"), os.environ.get("ENVOL_STORAGE_DATA")
    return Place(folder, Database(url, project) if url else None, f"{data}/{project}" if data else None)
