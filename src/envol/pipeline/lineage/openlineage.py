"""Lineage as OpenLineage events: a run of a job for each window that was made, and for each training.

Namespace is the project; a table is a dataset and its function the job. What OpenLineage has no facet for is
in facets of the name `envol_...`. See https://openlineage.io/docs/spec/object-model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from envol.errors import EnvolError, Failure, UserError
from envol.pipeline.lineage import facets
from envol.pipeline.lineage.history import History, instant
from envol.pipeline.lineage.tracing import Tracer
from envol.pipeline.source_control import remote_of

try:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.serde import Serde
    from openlineage.client.transport.http import (
        ApiKeyTokenProvider,
        HttpConfig,
        HttpTransport,
        TokenProvider,
    )
    from openlineage.client.transport.http_common import DEFAULT_RETRY_CONFIG
except ModuleNotFoundError as error:
    raise UserError(
        f"the package {error.name} is not installed", remedy='pip install "envol[lineage]"'
    ) from None

if TYPE_CHECKING:
    from envol.pipeline.lineage.origins import Lineage, Materialization, ModelOrigin
    from envol.project import Project
    from envol.storage import Store

RETRIES = {"total": 2, "connect": 2, "read": 2}


def events(project: Project, store: Store, told: Lineage) -> Iterator[RunEvent]:
    """START and COMPLETE of each window and training that a lineage tells of, what was made first before.

    Of windows that were read together only those are told that the lineage lists one by one.
    """
    exporter = _Exporter(project, store)
    for one in reversed(list(told.walk())):
        for model in one.models:
            yield from exporter.training(model)
        for window in one.materializations:
            yield from exporter.window(window)


def as_json(event: RunEvent) -> str:
    """An event as one line of JSON."""
    return Serde.to_json(event)


def send(found: Sequence[RunEvent], url: str, key: str | None = None) -> None:
    """Post the events to a server, such as Marquez at http://localhost:5000.

    Args:
        key: sent as bearer token.

    Raises:
        UserError: the url is none.
        Failure: the server cannot be reached, or does not take them.
    """
    import requests

    auth = TokenProvider({}) if key is None else ApiKeyTokenProvider({"api_key": key})
    try:
        transport = HttpTransport(HttpConfig(url=url, auth=auth, retry=DEFAULT_RETRY_CONFIG | RETRIES))
        client = OpenLineageClient(transport=transport)
    except ValueError as error:
        raise UserError(f"{url!r} is no address: {error}", remedy="write http://HOST:PORT") from None
    try:
        for event in found:
            client.emit(event)
    except requests.RequestException as error:
        raise Failure(
            f"the events cannot be sent to {url}: {error}", remedy="check the address and that server"
        ) from error
    finally:
        client.close()


class _Exporter:
    def __init__(self, project: Project, store: Store) -> None:
        self._name = project.name
        self._history = History(project, store)
        self._remote = remote_of(project.root)
        self._docs = _documentation(project)
        self._columns = {table.name: table.columns for table in store.lake.tables()}
        self._done: set[tuple[str, str]] = set()

    def window(self, made: Materialization) -> Iterator[RunEvent]:
        """The events of one window; none for a training, and none the second time."""
        if made.node in self._history.models or not self._first(made.node, made.start.isoformat()):
            return
        row = self._history.window(made.node, made.start.isoformat())
        told = Tracer(self._history, 1, False).root(row)
        yield from self._pair(
            self._run(made, made.node, made.start, facets.nominal_time(made)),
            self._job(made.node, told.kind, made.commit[0]),
            [*map(self._read, told.inputs), *map(self._model, told.models)],
            OutputDataset(
                self._name,
                made.node,
                outputFacets=facets.rows_written(made.rows),
                facets=self._table(made.node, made.snapshot) | facets.window_of(made),
            ),
            self._began(made, made.node, row["window_start"]),
            made.made_at,
        )

    def training(self, model: ModelOrigin) -> Iterator[RunEvent]:
        """The events of a training; none the second time."""
        if not self._first(model.model, str(model.version)):
            return
        output = OutputDataset(self._name, model.model, facets=facets.dataset_of("MODEL", model.version))
        yield from self._pair(
            self._run(model, model.model, model.cutoff, facets.package_of(model)),
            self._job(model.model, "model", model.commit[0]),
            list(map(self._read, model.inputs)),
            output,
            self._began(model, model.model, int(model.cutoff.timestamp())),
            model.made_at,
        )

    def _pair(
        self,
        run: Run,
        job: Job,
        inputs: list[InputDataset],
        output: OutputDataset,
        began: datetime,
        ended: datetime,
    ) -> Iterator[RunEvent]:
        for state, at in ((RunState.START, began), (RunState.COMPLETE, max(began, ended))):
            yield RunEvent(
                eventTime=at.astimezone(UTC).isoformat(),
                producer=facets.PRODUCER,
                run=run,
                job=job,
                eventType=state,
                inputs=inputs,
                outputs=[output],
            )

    def _run(self, made: Materialization | ModelOrigin, node: str, at: datetime, more: dict[str, Any]) -> Run:
        parent = _uuid(self._name, made.by.run)
        own = _uuid(self._name, made.by.run, node, at.astimezone(UTC).isoformat())
        common = facets.run_facets(self._name, made.by, parent)
        return Run(own, common | facets.definition_of(made) | more)

    def _job(self, node: str, kind: str, commit: str | None) -> Job:
        return Job(self._name, node, facets.job_facets(kind, self._docs.get(node, ""), commit, self._remote))

    def _read(self, read: Lineage) -> InputDataset:
        return InputDataset(
            self._name,
            read.node,
            inputFacets=facets.rows_read(read.rows),
            facets=self._table(read.node, read.as_of) | facets.windows_of(read),
        )

    def _model(self, model: ModelOrigin) -> InputDataset:
        return InputDataset(self._name, model.model, facets=facets.dataset_of("MODEL", model.version))

    def _table(self, table: str, snapshot: int | None) -> dict[str, Any]:
        found = facets.dataset_of("TABLE", snapshot)
        if table in self._columns:
            found |= facets.schema_of(self._columns[table])
        return found

    def _began(self, made: Materialization | ModelOrigin, node: str, start: int) -> datetime:
        task = self._history.task(made.by.run, node, start)
        return made.made_at if task is None else instant(task["started_at"])

    def _first(self, node: str, what: str) -> bool:
        seen = (node, what) in self._done
        self._done.add((node, what))
        return not seen


def _documentation(project: Project) -> dict[str, str]:
    """What the project's functions say of themselves; nothing where it cannot be loaded now."""
    try:
        return {name: node.doc for name, node in project.graph.nodes.items()}
    except EnvolError:
        return {}


def _uuid(*parts: str) -> str:
    return str(uuid5(NAMESPACE_URL, "/".join(("urn:envol", *parts))))
