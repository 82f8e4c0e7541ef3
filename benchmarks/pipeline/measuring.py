"""What is measured of one tool: a cold run, a run with nothing to do, and kill -9 in the middle of a run."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import chains
import processes
import steps
from chains import Chain, Tables


@dataclass(frozen=True)
class Killed:
    """What kill -9 of all processes left, and what the restart made of it."""

    computed: int
    """Steps whose computation had ended when all was killed."""
    broken: int
    """Tables that a reader saw then, and that were broken or not right."""
    again: int
    """Of `computed`, the steps that the restart computed again."""
    stray: int
    """Files left among the tables, after the restart, that are no table."""
    running: int
    """Runs that the tool takes for running, after the restart."""
    code: int
    """Exit code of the restart."""
    mended: bool
    """Whether all tables were right after it, with nothing done by hand."""
    seconds: float
    """Of the restart."""

    @property
    def share(self) -> float:
        """Of the steps that were done, the share done again."""
        return self.again / self.computed


@dataclass(frozen=True)
class Measured:
    """Seconds are wall seconds from start to exit; bytes of memory are the peak over all processes."""

    name: str
    title: str
    version: str
    side_by_side: str
    by_hand: str
    cold_seconds: float
    step_milliseconds: float
    peak_bytes: int
    again_seconds: float
    again_steps: int
    state_bytes: int
    state_files: int
    packages: int
    installed_bytes: int
    killed: Killed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Bare:
    """The plain loop: its seconds and peak, and the tables that all others are to come out with."""

    seconds: float
    peak: int
    tables: Tables


class Place:
    """A new folder with a tool's project, and what is run in it."""

    def __init__(self, chain: Chain, folder: Path, days: int) -> None:
        self.chain, self.folder = chain, folder
        self.log = folder / "steps.log"
        folder.mkdir(parents=True)
        chain.lay_out(folder, days)
        self.environment = {
            "PATH": f"{chain.python.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "BENCHMARK_DAYS": str(days),
            "BENCHMARK_LOG": str(self.log),
            **chain.variables(folder),
        }

    def run(self, command: str, kill_after: int | None = None) -> processes.Ran:
        """Run one of the chain's commands, or kill it once so many steps are computed."""
        return processes.run(
            self.chain.command(command),
            self.folder,
            self.environment,
            self.folder / "output.log",
            (lambda: len(self.noted("end")) >= kill_after) if kill_after is not None else None,
        )

    def noted(self, what: str) -> list[str]:
        """Steps that have begun, or that have ended, in their order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [step for word, _, step in (line.partition(" ") for line in lines) if word == what]

    def output(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")[-3000:]


def bare(folder: Path, days: int, repeats: int) -> Bare:
    """The plain loop's fastest of some runs; the first of them also brings files into memory."""
    ran = []
    for repeat in range(repeats):
        place = Place(chains.CHAINS["plain"], folder / f"plain-{repeat}", days)
        ran.append(place.run(place.chain.first))
        if ran[-1].code:
            raise SystemExit(f"the plain loop failed: {place.output()}")
    tables = place.chain.tables(place.folder)
    if len(tables) != days * steps.TABLES:
        raise SystemExit(f"the plain loop made {len(tables)} tables")
    return Bare(min(one.seconds for one in ran), max(one.peak for one in ran), tables)


def measure(chain: Chain, folder: Path, days: int, plain: Bare) -> Measured:
    """Everything about one tool; ends the benchmark when its tables are not the plain loop's."""
    warm = Place(chain, folder / f"{chain.name}-warm", 1)
    warm.run(chain.first)
    place = Place(chain, folder / f"{chain.name}-cold", days)
    cold = place.run(chain.first)
    if cold.code or right(place, plain) != len(plain.tables):
        raise SystemExit(f"{chain.title} did not make the tables (exit {cold.code}): {place.output()}")
    files = [path for path in state_of(place) if path.is_file()]
    state_bytes, state_files = sum(path.stat().st_size for path in files), len(files)
    before = len(place.noted("begin"))
    again = place.run(chain.again)
    if again.code or right(place, plain) != len(plain.tables):
        raise SystemExit(f"{chain.title}, run again, failed (exit {again.code}): {place.output()}")
    packages, installed = chain.size
    return Measured(
        name=chain.name,
        title=chain.title,
        version=chain.version,
        side_by_side=chain.side_by_side,
        by_hand=chain.by_hand,
        cold_seconds=cold.seconds,
        step_milliseconds=(cold.seconds - plain.seconds) / len(plain.tables) * 1000,
        peak_bytes=cold.peak,
        again_seconds=again.seconds,
        again_steps=len(place.noted("begin")) - before,
        state_bytes=state_bytes,
        state_files=state_files,
        packages=packages,
        installed_bytes=installed,
        killed=kill_and_restart(chain, folder / f"{chain.name}-killed", days, plain),
    )


def kill_and_restart(chain: Chain, folder: Path, days: int, plain: Bare) -> Killed:
    place = Place(chain, folder, days)
    killed = place.run(chain.first, kill_after=len(plain.tables) // 2)
    if killed.code != -9:
        raise SystemExit(f"{chain.title} ended before it was killed (exit {killed.code}): {place.output()}")
    computed, begun = set(place.noted("end")), len(place.noted("begin"))
    seen = chain.tables(place.folder)
    broken = len(seen) - right(place, plain)
    restart = place.run(chain.again)
    mended = restart.code == 0 and right(place, plain) == len(plain.tables)
    if not mended:
        print(f"{chain.title} did not mend itself (exit {restart.code}): {place.output()}", file=sys.stderr)
    return Killed(
        computed=len(computed),
        broken=broken,
        again=len(computed & set(place.noted("begin")[begun:])),
        stray=chain.stray(place.folder),
        running=chain.running(chain, place.folder),
        code=restart.code,
        mended=mended,
        seconds=restart.seconds,
    )


def right(place: Place, plain: Bare) -> int:
    """How many tables a reader of the tool's data finds that equal the plain loop's."""
    found = place.chain.tables(place.folder)
    return sum(
        table is not None and key in plain.tables and table.equals(plain.tables[key])  # type: ignore[arg-type]
        for key, table in found.items()
    )


def state_of(place: Place) -> list[Path]:
    """All that the tool keeps: its tables and its records."""
    return [path for top in ("data", *place.chain.state) for path in (place.folder / top).rglob("*")]


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
