"""A MariaDB server of its own, out of Debian's package, in a temporary folder and on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from servers import PATIENCE, free_port

MARIADB_REQUIRED = os.environ.get("ENVOL_TEST_MARIADB") == "required"
_INSTALL = "mariadb-install-db"
_SETTINGS = (
    "--no-defaults",
    "--bind-address=127.0.0.1",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-log-bin",
)


def mariadb_program() -> str | None:
    """The server's program; None where the package is not installed."""
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") if _installer() else None


def _installer() -> str | None:
    return shutil.which(_INSTALL)


class MariaDb:
    """The server; user `app` with the password `pa55word` may do anything in the database `shop`."""

    password = "pa55word"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="envol-mariadb-"))
        self.port = free_port()
        self._socket = self.folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        installer = _installer()
        assert installer is not None
        subprocess.run(
            [
                installer,
                "--no-defaults",
                f"--user={self._user}",
                f"--datadir={self.folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        return f"mariadb://app:{self.password}@127.0.0.1:{self.port}/shop"

    def start(self) -> None:
        """Start it, wait until it answers, and make user and database."""
        program = mariadb_program()
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    program,
                    *_SETTINGS,
                    f"--user={self._user}",
                    f"--datadir={self.folder / 'data'}",
                    f"--socket={self._socket}",
                    f"--port={self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self._client("SELECT 1"), capture_output=True).returncode:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        self.execute("CREATE DATABASE IF NOT EXISTS shop", database="")
        self.execute(f"CREATE OR REPLACE USER app@'%' IDENTIFIED BY '{self.password}'")
        self.execute("GRANT ALL ON shop.* TO app@'%'")

    def execute(self, statements: str, database: str = "shop") -> str:
        """What the client prints for statements run by root."""
        done = subprocess.run(self._client(statements, database), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill_clients(self) -> None:
        """End every connection of the user `app`."""
        ids = self.execute("SELECT id FROM information_schema.processlist WHERE user = 'app'").split()
        for number in ids:
            self.execute(f"KILL {number}")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _client(self, statements: str, database: str = "") -> list[str]:
        client = shutil.which("mariadb") or "mysql"
        options = ["--no-defaults", f"--socket={self._socket}", "--user=root", "--batch", "-N"]
        return [client, *options, f"--execute={statements}", *([database] if database else [])]
