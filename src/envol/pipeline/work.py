"""The work of one task: read its inputs, call its function, check and commit what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError, EnvolError, NotFoundError
from envol.pipeline.batches import Divided, gather
from envol.pipeline.checking.schema_drift import SchemaDrift
from envol.pipeline.compute import compute
from envol.pipeline.content import content_version
from envol.pipeline.lease import Lease
from envol.pipeline.limits import Slot
from envol.pipeline.plan import NO_CHAMPION, Plan, Task
from envol.pipeline.predicting import predict
from envol.pipeline.quarantine.applying import ByContract, ByModel, decided
from envol.pipeline.quarantine.decisions import Decisions
from envol.pipeline.quarantine.identity import identified
from envol.pipeline.recent import Recent
from envol.pipeline.records import Made, Records
from envol.pipeline.versions import signed
from envol.project.contracts import REASON, broken_rules
from envol.project.fingerprint import digest
from envol.project.graph import QUARANTINE
from envol.project.nodes import Model, Node, Outcomes, Predictions, Source, Table, Value
from envol.project.windows import Window

if TYPE_CHECKING:
    from envol.pipeline.isolation import Isolation
    from envol.project import Project
    from envol.registry import Package, Registry
    from envol.storage import Spool, Store

WINDOW_START = "window_start"
SPOOL = "spool"


class NotYet(Exception):
    """The task cannot be done now, and that is no failure."""


class Worker:
    """Carries out tasks of a plan; threads may share one.

    Args:
        run: id of the run, for the records of what is made.
        lease: what entitles the run to commit.
        isolation: carries out the tasks that need a process of their own; all of them if `isolate_all`.
        definitions: id by node of the definition that it is made with.
        note: takes short lines about the progress of long work.
    """

    def __init__(
        self,
        project: Project,
        store: Store,
        registry: Registry,
        plan: Plan,
        run: str,
        lease: Lease,
        isolation: Isolation,
        definitions: Mapping[str, int],
        note: Callable[[str], None],
        *,
        isolate_all: bool = False,
    ) -> None:
        self._project = project
        self._store = store
        self._registry = registry
        self._plan = plan
        self._run = run
        self._lease = lease
        self._isolation, self._isolate_all = isolation, isolate_all
        self._definitions = definitions
        self._records = Records(store.metadata)
        self._note = note
        self._recent = Recent()
        self._loading = threading.Lock()
        self._packages: dict[str, Package] = {}
        self._decisions = Decisions(store.metadata, lease.check)
        self._decided = self._decisions.windows(plan.nodes)
        stored = store.lake.tables()
        self._quarantines = {table.name for table in stored if table.name.endswith(QUARANTINE)}
        self._drift = SchemaDrift(store.lake, store.metadata, stored, run, note, lease.check)

    def carry_out(self, task: Task, inputs: int, slot: Slot) -> Made:
        """Make one slot.

        Args:
            inputs: the hash of the versions that it reads.
            slot: held by the caller; given up once nothing is left but to wait for the lake.

        Raises:
            NotYet: a model has no champion for the window.
            EnvolError: located at the node and window.
        """
        node = self._plan.nodes[task.node].node
        try:
            if isinstance(node, Model):
                return self._train(node, task, inputs)
            return self._make(node, task, inputs, slot)
        except EnvolError as error:
            raise error.located(node=node.name, window=self._plan.label(task)) from error.__cause__

    def _make(self, node: Node, task: Task, inputs: int, slot: Slot) -> Made:
        window = self._plan.schedule.window(node, task.index)
        with ExitStack() as files, self._drift.explaining(node, window) as see:
            rows = self._after_decisions(node, window, self._rows(node, task, window, files))
            see(rows)
            good, broken = rows.good, rows.broken
            if good.is_empty() and broken.is_empty() and getattr(node, "empty", "allow") == "error":
                raise DataError(
                    "the window has no rows", remedy='allow it with empty="allow", or mend the source'
                )
            quarantine = self._quarantine(node, broken)
            made = self._made(node, inputs, good.height, content_version(good), broken.height)
            refused = self._refusal(node, rows)
            slot.give_up()
            if refused is not None:
                if quarantine:
                    self._commit(node, window, quarantine, made)
                raise refused
            snapshot = self._commit(node, window, {node.name: good, **quarantine}, made)
        if (node.name, window.epoch) in self._decided:
            self._decisions.settle(node.name, window.epoch, {})
        return made._replace(snapshot=snapshot)

    def _rows(self, node: Node, task: Task, window: Window, files: ExitStack) -> Divided:
        if isinstance(node, Predictions):
            return self._predict(node, task, window)
        if isinstance(node, Outcomes):
            predictions, labels = (self._read(name, a, b) for name, a, b in self._ranges(node, task))
            joined = predictions.join(
                labels.drop(WINDOW_START), on=list(node.model.key), how="inner", suffix="_label"
            )
            return Divided(joined, joined.clear())
        result = self._call(node, task, window)
        if isinstance(result, pl.DataFrame):
            return Divided.of(result, node.contract)
        return gather(result, node.contract, self._store.path / SPOOL, files)

    def _call(self, node: Node, task: Task, window: Window) -> pl.DataFrame | Generator[pl.DataFrame]:
        frames = {name: self._read(name, start, end) for name, start, end in self._ranges(node, task)}
        result: pl.DataFrame | Iterator[pl.DataFrame]
        if self._isolated(node):
            result = self._isolation.compute(node, frames, window)
        else:
            result = compute(node, frames, window, self._project.parameters[node.name].values)
        if not isinstance(result, pl.DataFrame):
            return (batch.drop(WINDOW_START, strict=False) for batch in result)
        if not isinstance(node, Value):
            return result.drop(WINDOW_START, strict=False)
        key = self._plan.nodes[f"{node.model}_outcomes"].node
        assert isinstance(key, Outcomes)
        return pl.concat([frames[key.name].select(key.model.key), result], how="horizontal")

    def _predict(self, node: Predictions, task: Task, window: Window) -> Divided:
        model = node.model
        version = self._registry.champion_at_most(model.name, window.epoch)
        if version is None:
            raise NotYet(NO_CHAMPION)
        package = self._package(model.name, version)
        [(_, start, end)] = self._ranges(node, task)
        features = self._read(model.features, start, end)
        predicted, refused = predict(model, package, features)
        broken = features.filter(pl.int_range(pl.len()).is_in(list(refused))).drop(WINDOW_START)
        reasons = pl.Series(REASON, [refused[row] for row in sorted(refused)], pl.String)
        return Divided(predicted, broken.with_columns(reasons))

    def _after_decisions(self, node: Node, window: Window, rows: Divided) -> Divided:
        """The rows after what was decided about those in quarantine."""
        if not isinstance(node, Source | Table | Predictions):
            return rows
        rows = Divided(rows.good, identified(rows.broken, window.key))
        if rows.broken.is_empty() or (node.name, window.epoch) not in self._decided:
            return rows
        decisions = self._decisions.of(node.name, window.epoch)
        if not isinstance(node, Predictions):
            return decided(rows, window.key, decisions, ByContract(node.contract))
        name = node.model.name

        def load(version: int | None) -> Package:
            return self._package(name, version or self._registry.champion_at_most(name, window.epoch) or 0)

        return decided(rows, window.key, decisions, ByModel(node.model, load))

    def _train(self, node: Model, task: Task, inputs: int) -> Made:
        from envol.training import train

        lineage = self._lineage(node, task)
        cutoff = self._plan.schedule.local(int(self._plan.nodes[node.name].slots.keys[task.index]))
        features, labels = (self._read(name, a, b) for name, a, b in self._ranges(node, task))
        note = partial(self._note_of, node)
        if self._isolated(node):
            trained = self._isolation.train(node, features, labels, cutoff, note)
        else:
            parameters = self._project.parameters[node.name].values
            trained = train(node, features, labels, cutoff=cutoff, parameters=parameters, progress=note)
        self._lease.confirm()
        version = self._registry.register(
            trained, fingerprint=self._fingerprint(node, inputs), lineage=lineage, run=self._run
        )
        note(f"registered as version {version.version}")
        if node.promote == "auto" and trained.backtest.beats_baseline:
            reason = f"promote=auto: {trained.backtest.verdict}"
            self._registry.accept(version, by="envol", reason=reason)
        return self._made(node, inputs, trained.X.height, signed(version.digest))

    def _note_of(self, node: Node, text: str) -> None:
        self._note(f"{node.name}: {text}")

    def _isolated(self, node: Node) -> bool:
        return self._isolate_all or node.needs_process

    def _made(self, node: Node, inputs: int, rows: int, version: int, quarantined: int = 0) -> Made:
        return Made(rows, quarantined, self._definitions[node.name], inputs, version, None)

    def _fingerprint(self, node: Node, inputs: int) -> str:
        """Hash of the definition and the inputs: equal means nothing to do."""
        definition = self._plan.nodes[node.name].definition
        return digest(definition.code, definition.parameters, definition.contract, str(inputs))

    def _refusal(self, node: Node, rows: Divided) -> DataError | None:
        if rows.broken.is_empty() or not isinstance(node, Source | Table | Predictions):
            return None
        broken, total = rows.broken.height, rows.broken.height + rows.good.height
        all_broken = rows.good.is_empty()
        most = None if isinstance(node, Predictions) else node.max_broken
        too_many = most is not None and broken > most * total
        kept = isinstance(node, Predictions) or node.on_broken == "quarantine"
        if kept and not all_broken and not too_many:
            return None
        limit = f" (at most {most:.3g} of them may)" if too_many else ""
        return DataError(
            f"{'all' if all_broken else broken} of {total} rows break the contract{limit}:"
            f" {broken_rules(rows.broken)}",
            remedy=f"look at them with: envol quarantine list {node.name}",
        )

    def _quarantine(self, node: Node, broken: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """The broken rows by table name; none where there never were any."""
        name = node.name + QUARANTINE
        if broken.is_empty() and name not in self._quarantines:
            return {}
        self._quarantines.add(name)
        return {name: broken}

    def _commit(
        self, node: Node, window: Window, frames: Mapping[str, pl.DataFrame | Spool], made: Made
    ) -> int:
        message = f"{node.name} {window.key}: {made.rows} rows"
        if made.quarantined:
            message += f", {made.quarantined} in quarantine"
        fingerprint = self._fingerprint(node, made.inputs)
        commit = self._store.lake.replace(
            frames,
            window,
            node=node.name,
            fingerprint=fingerprint,
            message=message,
            permit=self._lease.confirm,
        )
        self._recent.put(window.epoch, commit.stored)
        return commit.snapshot

    def _package(self, model: str, version: int) -> Package:
        """The version's package, loaded once for all the windows that it predicts."""
        with self._loading:
            held = self._packages.get(model)
            if held is None or held.version != version:
                held = self._packages[model] = self._registry.load(model, version)
            return held

    def _ranges(self, node: Node, task: Task) -> list[tuple[str, int, int]]:
        return self._plan.schedule.input_ranges(node, task.index)

    def _read(self, table: str, start: int, end: int) -> pl.DataFrame:
        slots = self._plan.nodes[table].slots
        first, last = slots.overlapping(start, end)
        recent = self._recent.read(table, slots.starts[first:last].tolist())
        if recent is not None:
            return recent
        begin = int(slots.starts[first]) if first < last else end
        local = self._plan.schedule.local
        try:
            return self._store.lake.read(table, local(begin), local(end))
        except NotFoundError:
            if first < last:
                raise
            raise NotYet(f"{table} has nothing before the window") from None

    def _lineage(self, node: Node, task: Task) -> dict[str, Any]:
        """By input: the range that was read and the snapshot that holds exactly what was read."""
        told = {}
        for name, start, end in self._ranges(node, task):
            slots = self._plan.nodes[name].slots
            first, last = slots.overlapping(start, end)
            begin = int(slots.starts[first]) if first < last else end
            windows, rows, snapshot = self._records.sums(name, begin, end)
            told[name] = {
                "start": self._plan.schedule.local(start).isoformat(),
                "end": self._plan.schedule.local(end).isoformat(),
                "windows": windows,
                "rows": rows,
                "snapshot": snapshot,
            }
        return told
