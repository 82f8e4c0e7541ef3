"""The tools: how a project of each is laid out, run, run again and restarted, and how its tables are read.

Each keeps one Parquet file, or a committed window, for every table and day, so that a restart can go on from
there. Of what its documentation offers for that, each got what redoes least and costs least:

- Prefect: one flow; a task a table and day, which writes its file and returns the path, as large data are to
  be passed. The path is the persisted result, found again in any later run by the cache policy INPUTS +
  TASK_SOURCE; so the restart is the same command. The alternative, `prefect flow-run retry`, wants a run in a
  final state, and a killed one stays Running: only automations on heartbeats of deployed flows end it.
  Tasks are called; submitting them to two threads was slower here. The server is the temporary one that a
  flow starts by itself, with its SQLite database.
  https://docs.prefect.io/v3/concepts/caching, https://docs.prefect.io/v3/concepts/task-runners,
  https://docs.prefect.io/v3/how-to-guides/workflows/retry-flow-runs,
  https://docs.prefect.io/v3/advanced/detect-zombie-flows
- Dagster: assets with daily partitions, dagster-polars' Parquet IO manager, an instance on SQLite. A run a
  day, in one process by `materialize`, of the assets that `get_materialized_partitions` does not name: what
  «backfill only failed and missing partitions» does in the UI, without its daemon and a process a run, which
  would cost more. A single-run backfill would make ten steps of the 500. Re-execution from failure wants a
  failed run, and a killed one stays Started: the default launcher cannot tell that its run is dead.
  https://docs.dagster.io/api/dagster/execution, https://docs.dagster.io/deployment/execution/run-monitoring,
  https://docs.dagster.io/examples/mini-examples/partition-backfill-strategies
- Metaflow: one run with a foreach over the days, a process a task, two at a time; the path is an artifact.
  `resume` takes over what the last run has finished, also of a run that has finished whole.
  https://docs.metaflow.org/metaflow/debugging#how-to-use-the-resume-command
- Kedro: the ten nodes once a day by a namespace, their files named by a dataset factory, so that the restart,
  `kedro run --only-missing-outputs`, knows single days. A PartitionedDataset counts as there as soon as one
  partition is, and its node makes all days at once. SequentialRunner, the default, was faster than
  ThreadRunner here. https://docs.kedro.org/en/stable/build/namespaces/,
  https://docs.kedro.org/en/stable/catalog-data/kedro_dataset_factories/
- Envol: `envol run`, whatever happened before.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

import environments
import polars as pl
import steps

HERE = Path(__file__).parent
Tables = dict[tuple[int, str], pl.DataFrame | None]
"""By number and day: the table as a reader sees it, None where it cannot be read."""


@dataclass(frozen=True)
class Chain:
    """One tool's way to make the chain.

    Attributes:
        files: what its project consists of: the path in it, by the path in `tools/`.
        first, again: the command of the first run, and of a run with nothing to do and of a restart;
            {python} and {bin} stand for the environment's.
        environment: variables, {home} stands for the project's folder.
        texts: further small files of the project: their text by their path; {end} is the day after the last.
        side_by_side: what runs at the same time.
        by_hand: what a user has to do after kill -9, in words.
        running: how many runs the tool still takes for running.
        state: folders and files that the tool needs besides the tables, in the project's folder.
    """

    name: str
    title: str
    files: Mapping[str, str]
    first: str
    again: str
    side_by_side: str
    by_hand: str
    environment: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    running: Callable[[Chain, Path], int] = lambda chain, folder: 0
    tables: Callable[[Path], Tables] = lambda folder: read_files(folder)
    stray: Callable[[Path], int] = lambda folder: stray_files(folder)
    state: tuple[str, ...] = ("state",)

    @property
    def python(self) -> Path:
        own = self.name in ("envol", "plain")
        return Path(sys.executable) if own else environments.BENCH / self.name / "bin" / "python"

    @property
    def version(self) -> str:
        site = [str(path) for path in (self.python.parents[1] / "lib").glob("python*/site-packages")]
        return next((one.version for one in distributions(name=self.name, path=site)), "")

    @property
    def size(self) -> tuple[int, int]:
        """Packages and bytes of what the tool needs installed."""
        roots = ["envol"] if self.name == "envol" else environments.asked_for(self.name)
        return environments.size(self.python, roots)

    def lay_out(self, folder: Path, days: int) -> None:
        """Write the project into a new folder."""
        for source, path in {"../steps.py": "steps.py", **self.files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE / "tools" / source, folder / path)
        end = date.fromordinal(steps.FIRST.toordinal() + days)
        for path, text in self.texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text.replace("{end}", str(end)))

    def command(self, text: str) -> list[str]:
        return text.format(python=self.python, bin=self.python.parent).split()

    def variables(self, folder: Path) -> dict[str, str]:
        return {name: value.replace("{home}", str(folder)) for name, value in self.environment.items()}


def read_files(folder: Path) -> Tables:
    """The tables of the tools that keep `data/t3/2024-01-01.parquet`."""
    found: Tables = {}
    for path in (folder / "data").rglob("*.parquet"):
        try:
            table: pl.DataFrame | None = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError):
            table = None
        found[int(path.parent.name[1:]), path.stem] = table
    return found


def stray_files(folder: Path) -> int:
    """Files among the tables that are no table."""
    return sum(path.is_file() and path.suffix != ".parquet" for path in (folder / "data").rglob("*"))


def count(database: Path, query: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(query).fetchone()[0])


def metaflow_unfinished(chain: Chain, folder: Path) -> int:
    code = "import metaflow; print(sum(not run.finished for run in metaflow.Flow('Chain').runs()))"
    environment = {**chain.variables(folder), "HOME": str(folder)}
    answer = subprocess.run(
        [str(chain.python), "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(answer.stdout.split()[-1])


def envol_strays(folder: Path) -> int:
    """Files of transactions that never ended; `envol compact` removes them, after a day of grace."""
    with closing(sqlite3.connect(folder / ".envol" / "lake.sqlite")) as catalog:
        query = "SELECT path FROM ducklake_data_file UNION ALL SELECT path FROM ducklake_delete_file"
        known = {Path(row[0]).name for row in catalog.execute(query)}
    return sum(path.name not in known for path in (folder / ".envol" / "tables").rglob("*.parquet"))


def envol_tables(folder: Path) -> Tables:
    from envol.project import load_project
    from envol.storage import Store

    found: Tables = {}
    with Store(load_project(folder).store_path) as store:
        for table in store.lake.tables():
            for rows in store.lake.read(table.name).partition_by("window_start"):
                day = str(rows["window_start"][0].date())
                found[int(table.name[1:]), day] = rows.drop("window_start")
    return found


CHAINS = {
    chain.name: chain
    for chain in (
        Chain(
            name="plain",
            title="plain loop",
            files={"plain_loop.py": "plain_loop.py"},
            first="{python} plain_loop.py",
            again="{python} plain_loop.py",
            side_by_side="nothing",
            by_hand="",
        ),
        Chain(
            name="envol",
            title="Envol",
            files={"envol_chain.py": "envol_chain.py"},
            texts={"envol.toml": '[project]\nname = "chain"\nstart = "2024-01-01"\nend = "{end}"\n'},
            first="{bin}/envol run",
            again="{bin}/envol run",
            side_by_side="one task a core (threads)",
            by_hand="nothing (`envol compact` removes stray files)",
            running=lambda chain, folder: count(
                folder / ".envol" / "metadata.sqlite", "SELECT count(*) FROM run WHERE state = 'running'"
            ),
            tables=envol_tables,
            stray=envol_strays,
            state=(".envol",),
        ),
        Chain(
            name="prefect",
            title="Prefect",
            files={"prefect_chain.py": "prefect_chain.py"},
            environment={
                "PREFECT_HOME": "{home}/state",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
            },
            first="{python} prefect_chain.py",
            again="{python} prefect_chain.py",
            side_by_side="nothing",
            by_hand="set the state of the killed flow run, which stays Running",
            running=lambda chain, folder: count(
                folder / "state" / "prefect.db", "SELECT count(*) FROM flow_run WHERE state_type = 'RUNNING'"
            ),
        ),
        Chain(
            name="dagster",
            title="Dagster",
            files={"dagster_chain.py": "dagster_chain.py"},
            texts={"state/dagster.yaml": "telemetry:\n  enabled: false\n"},
            environment={"DAGSTER_HOME": "{home}/state"},
            first="{python} dagster_chain.py",
            again="{python} dagster_chain.py",
            side_by_side="nothing",
            by_hand="terminate the killed run, which stays Started",
            running=lambda chain, folder: count(
                folder / "state" / "history" / "runs.db", "SELECT count(*) FROM runs WHERE status = 'STARTED'"
            ),
        ),
        Chain(
            name="metaflow",
            title="Metaflow",
            files={"metaflow_chain.py": "metaflow_chain.py"},
            environment={"METAFLOW_DATASTORE_SYSROOT_LOCAL": "{home}/state", "METAFLOW_USER": "benchmark"},
            first="{python} metaflow_chain.py run --max-workers 2",
            again="{python} metaflow_chain.py resume --max-workers 2",
            side_by_side="two tasks (processes)",
            by_hand="`resume` instead of `run`; the killed run stays unfinished",
            running=metaflow_unfinished,
        ),
        Chain(
            name="kedro",
            title="Kedro",
            files={
                "../steps.py": "src/chain/steps.py",
                **{
                    f"kedro/{path}": path
                    for path in (
                        "pyproject.toml",
                        "conf/base/catalog.yml",
                        "src/chain/__init__.py",
                        "src/chain/settings.py",
                        "src/chain/pipeline_registry.py",
                    )
                },
            },
            environment={"DO_NOT_TRACK": "1", "KEDRO_DISABLE_TELEMETRY": "1"},
            texts={"conf/local/README": "No settings of this machine.\n"},
            first="{bin}/kedro run",
            again="{bin}/kedro run --only-missing-outputs",
            side_by_side="nothing",
            by_hand="`--only-missing-outputs`, and before it the deletion of half-written files, "
            "which count as made",
        ),
    )
}
