"""The tools' own virtual environments, made from exact versions with hashes, and how large they are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BENCH = ROOT / ".bench"
Needs = list[tuple[NormalizedName, set[str]]]
"""Distributions and the extras of them that are asked for."""


def requirements(name: str) -> Path:
    return HERE / "requirements" / f"{name}.txt"


def exists(name: str) -> bool:
    """Whether the environment is there and was made from the present requirements."""
    marker = BENCH / name / ".ready"
    return marker.exists() and marker.read_text() == digest(name)


def make(name: str) -> None:
    """Make the environment `.bench/NAME`, unless it is there."""
    if exists(name):
        return
    folder = BENCH / name
    print(f"making {folder.relative_to(ROOT)} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    (BENCH / ".gitignore").write_text("*\n")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(requirements(name))], check=True)
    (folder / ".ready").write_text(digest(name))


def asked_for(name: str) -> list[str]:
    """The distributions that the environment is made for."""
    lines = requirements(name).with_suffix(".in").read_text().splitlines()
    return [Requirement(line.split(" #")[0]).name for line in lines]


def digest(name: str) -> str:
    return hashlib.sha256(requirements(name).read_bytes()).hexdigest()


def size(python: Path, roots: list[str]) -> tuple[int, int]:
    """Packages and bytes that distributions and all that they require take in an environment."""
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    found = {canonicalize_name(one.name): one for one in distributions(path=[str(site)])}
    needed: dict[NormalizedName, set[str]] = {}
    waiting: Needs = [(canonicalize_name(root), set()) for root in roots]
    while waiting:
        name, extras = waiting.pop()
        if name not in found or (name in needed and extras <= needed[name]):
            continue
        needed[name] = needed.get(name, set()) | extras
        waiting += wanted(found[name], needed[name])
    return len(needed), sum(installed_bytes(found[name]) for name in needed)


def wanted(distribution: Distribution, extras: set[str]) -> Needs:
    """What a distribution requires on this machine, with the extras that are asked for."""
    required = [Requirement(text) for text in distribution.requires or ()]
    return [
        (canonicalize_name(one.name), one.extras)
        for one in required
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


def installed_bytes(distribution: Distribution) -> int:
    """Bytes of a distribution's files; of its source where it is installed for editing."""
    files = [Path(str(file.locate())) for file in distribution.files or ()]
    if canonicalize_name(distribution.name) == "envol":
        files += (ROOT / "src" / "envol").rglob("*.*")
    return sum(file.stat().st_size for file in files if file.is_file())
