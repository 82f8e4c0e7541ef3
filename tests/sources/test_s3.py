"""Files on S3, read from a server."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from servers import S3

from envol import Window, sources
from envol.errors import ConfigError, DataError, Failure

Day = Callable[[str], Window]


def test_files_on_s3(s3_environment: S3, day: Day) -> None:
    bucket = s3_environment.new_bucket()
    place = s3_environment.folder / bucket.removeprefix("s3://")
    for number, name in enumerate(["2024/01/05/b", "2024/01/05/a", "2024/01/06/a"]):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"id": [number]}).write_parquet(place / f"{name}.parquet")
        pl.DataFrame({"id": [number]}).write_csv(place / f"{name}.csv")
    path = f"{bucket}/{{start:%Y/%m/%d}}/*.parquet"
    assert sources.files(path, day("2024-01-05")).collect()["id"].to_list() == [1, 0]
    frame = sources.files(f"{bucket}/**/*.csv", schema={"id": pl.Int64}).collect()
    assert frame["id"].to_list() == [1, 0, 2]


def test_what_is_missing_on_s3(s3_environment: S3, day: Day) -> None:
    bucket, schema = s3_environment.new_bucket(), {"id": pl.Int64}
    path = f"{bucket}/{{window}}/*.csv"
    with pytest.raises(DataError, match=f"no file {bucket}/2024-01-05"):
        sources.files(path, day("2024-01-05"), schema=schema).collect()
    assert sources.files(path, day("2024-01-05"), schema=schema, missing="empty").collect().is_empty()
    with pytest.raises(Failure, match="no bucket 'nowhere'"):
        sources.files("s3://nowhere/*.csv", schema=schema, missing="empty").collect()


def test_a_file_system_of_ones_own(s3_environment: S3) -> None:
    from pyarrow import fs

    bucket = s3_environment.new_bucket().removeprefix("s3://")
    (s3_environment.folder / bucket / "a.csv").write_text("id\n1\n")
    system = fs.SubTreeFileSystem(
        bucket, fs.S3FileSystem(endpoint_override=s3_environment.environment["AWS_ENDPOINT_URL_S3"])
    )
    frame = sources.files("*.csv", schema={"id": pl.Int64}, filesystem=system).collect()
    assert frame["id"].to_list() == [1]
    with pytest.raises(ConfigError, match="gs:// is not known(?s:.*)pyarrow.fs"):
        sources.files("gs://bucket/a.csv", schema={"id": pl.Int64}).collect()


def test_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3()
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = server.new_bucket()
    server.close()
    with pytest.raises(Failure, match="cannot be read(?s:.*)credentials"):
        sources.files(f"{bucket}/*.csv", schema={"id": pl.Int64}).collect()
