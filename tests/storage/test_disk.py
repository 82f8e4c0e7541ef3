"""The folder of a store, where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from envol.errors import StorageError
from envol.storage import Store, make_folder


def test_a_folder_is_made_with_what_is_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "project" / ".envol"
    assert make_folder(folder) == folder and folder.is_dir()
    assert make_folder(folder) == folder


@pytest.mark.parametrize("above", ["", "data"])
def test_a_file_in_its_place_is_told(tmp_path: Path, above: str) -> None:
    (tmp_path / "store").write_text("in the way")
    with (
        pytest.raises(StorageError, match="a file is in its place") as caught,
        Store(tmp_path / "store" / above) as store,
    ):
        store.lake  # noqa: B018 - opened when first used
    assert "move that file away" in str(caught.value)
    assert (tmp_path / "store").read_text() == "in the way"
