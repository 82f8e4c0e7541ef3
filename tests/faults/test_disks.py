"""Full disks: which one is told and what to do, nothing stored is lost, and with space again it goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.machines import command
from evidence import NOTED, calls, check_agreement, versions
from small_project import SmallProject

from envol.errors import StorageError

Make = Callable[..., SmallProject]
Mount = Callable[[Path, str], None]
WINDOWS = 7
END = 'end = "2024-01-08"\n'
FILLING = (
    NOTED
    + """
    import shutil

    def begin(window):
        note("noise", window)
        if window.start.day == 4 and (HERE / "full").exists():
            disk = Path((HERE / "full").read_text())
            (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
"""
)
NOISE = (
    FILLING
    + """
    @source(every="1d")
    def noise(window: Window) -> pl.DataFrame:
        begin(window)
        return pl.DataFrame({"n": range(5000)}).with_columns(r=pl.col("n").hash(window.start.day))
"""
)
BATCHES = (
    FILLING
    + """
    @source(every="1d")
    def noise(window: Window):
        begin(window)
        for batch in range(3):
            text = pl.lit("x" * 300) + pl.col("n").cast(str)
            yield pl.DataFrame({"n": range(90_000)}).with_columns(text=text)
"""
)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Puts a folder on a small disk of its own, with what is in it: `mount(folder, "3m")`."""
    mounted: list[Path] = []

    def make(folder: Path, size: str) -> None:
        kept = tmp_path / f"kept{len(mounted)}"
        folder.mkdir(exist_ok=True)
        shutil.copytree(folder, kept)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk takes root")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_it_stops_and_goes_on(small: SmallProject, disk: Path) -> None:
    """The disk is full from the fourth day on: days before it are kept, the others are made afterwards."""
    (small.root / "full").write_text(str(disk))
    said = command("run", "--workers", "1", folder=small.root)
    assert said.code == 1 and f"-> free space on the disk of {disk}\n" in said.err, said
    (disk / "filler").unlink()
    (small.root / "full").unlink()
    kept = versions(small)
    assert 1 <= len(kept) < WINDOWS
    assert small.run("2024-01-11").done == WINDOWS - len(kept)
    assert versions(small).items() >= kept.items()
    check_agreement(small, "noise")


def test_the_disk_of_the_tables(project: Make, mount: Mount) -> None:
    small = project(NOISE, END)
    small.run("2024-01-02")
    mount(small.store_path / "tables", "3m")
    check_it_stops_and_goes_on(small, small.store_path / "tables")


def test_the_disk_of_the_records(project: Make, mount: Mount) -> None:
    small = project(NOISE, END)
    small.run("2024-01-02")
    mount(small.store_path, "3m")
    mount(small.store_path / "tables", "20m")
    check_it_stops_and_goes_on(small, small.store_path)


def test_the_disk_of_batches_on_their_way(project: Make, mount: Mount) -> None:
    small = project(BATCHES, END)
    small.run("2024-01-02")
    mount(small.store_path / "spool", "20m")
    check_it_stops_and_goes_on(small, small.store_path / "spool")
    assert not list((small.store_path / "spool").iterdir())


def test_a_disk_that_is_full_before_the_run_begins(project: Make, mount: Mount) -> None:
    small = project(NOISE, END)
    small.store_path.mkdir()
    mount(small.store_path, "3m")
    filler = small.store_path / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small.store_path).free))
    with pytest.raises(
        StorageError, match=f"its disk is full\n.*free space on the disk of {small.store_path}"
    ):
        small.run("2024-01-05")
    assert calls(small) == []
    filler.unlink()
    assert small.run("2024-01-05").done == 4
