"""Which version of the project's files is at work, as Git tells."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Revision:
    """The commit that is checked out, and whether files differ from it; None without Git."""

    commit: str | None
    dirty: bool | None


def revision_of(folder: Path) -> Revision:
    """The revision of a project's folder."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Revision(None, None)
    changes = _git(folder, "status", "--porcelain", "--", ".")
    return Revision(commit.strip(), None if changes is None else bool(changes.strip()))


def remote_of(folder: Path) -> str | None:
    """Address of the repository that the project's was cloned from, without credentials; None if it has none.

    A folder of this machine is no address.
    """
    told = (_git(folder, "remote", "get-url", "origin") or "").strip()
    parts = urlsplit(told)
    if parts.scheme in ("http", "https"):
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    is_ssh = parts.scheme == "ssh" or re.fullmatch(r"[\w.-]+@[\w.-]+:\S+", told)
    return told if is_ssh and parts.password is None else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
