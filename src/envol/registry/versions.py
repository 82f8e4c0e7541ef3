"""The registry: packages by model and version, and the aliases that say which one counts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from envol.errors import CorruptArtifactError, NotFoundError, UserError
from envol.project.clock import Clock
from envol.registry.aliases import (
    ACCEPTED,
    CHAMPION,
    PREDICTING,
    AliasChange,
    check_alias,
    events,
    previous_champion,
    record,
)
from envol.registry.loader import load_scorer, read_manifest
from envol.registry.package import Package, write_package
from envol.registry.records import Version, summary, version_of
from envol.storage import Store
from envol.training import Trained

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Registry:
    """Versions and aliases of a store's models. Threads may share one; processes each make their own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def register(
        self, trained: Trained, *, fingerprint: str, lineage: Mapping[str, Any], run: str
    ) -> Version:
        """Package a trained model and give it the next number; no alias is set.

        The very same model (equal bytes, cutoff and fingerprint) is not registered twice: its version is
        returned.

        Raises:
            ProjectError: the model cannot be packaged.
            StorageError: it cannot be stored.
        """
        now = self._clock.now()
        with tempfile.TemporaryDirectory(prefix="envol-package-") as temporary:
            folder = Path(temporary)
            identity = write_package(folder, trained, fingerprint=fingerprint, lineage=lineage, created=now)
            if (same := self._same(trained, fingerprint, identity)) is not None:
                return same
            digest = self._store.artifacts.put(folder)
        number = self._number(
            {
                "model": trained.node.name,
                "digest": digest,
                "cutoff": _epoch(trained.cutoff),
                "train_start": _epoch(trained.start),
                "train_end": _epoch(trained.cutoff),
                "fingerprint": fingerprint,
                "task": trained.task,
                "metrics": json.dumps(summary(trained.backtest)),
                "lineage": json.dumps(dict(lineage)),
                "made_at": now.timestamp(),
                "run": run,
            }
        )
        return self.get(trained.node.name, number)

    def versions(self, model: str | None = None) -> list[Version]:
        """All versions, of one model or of all, by model and number.

        Raises:
            NotFoundError: there is no model of that name.
        """
        from sqlalchemy import select

        from envol.storage.tables import alias, model_version

        query = select(model_version).order_by(model_version.c.model, model_version.c.version)
        aliased = select(alias).order_by(alias.c.alias)
        if model is not None:
            query = query.where(model_version.c.model == model)
            aliased = aliased.where(alias.c.model == model)
        rows, names = self._store.metadata.read(
            lambda connection: (connection.execute(query).all(), connection.execute(aliased).all())
        )
        if model is not None and not rows:
            self._no_model(model)
        by_version: dict[tuple[str, int], list[str]] = {}
        for each in names:
            by_version.setdefault((each.model, each.version), []).append(each.alias)
        return [version_of(row, by_version.get((row.model, row.version), ())) for row in rows]

    def get(self, model: str, version_or_alias: int | str) -> Version:
        """One version, by its number or an alias.

        Raises:
            NotFoundError: it says which models, versions or aliases there are.
        """
        versions = self.versions(model)
        wanted = str(version_or_alias)
        for version in versions:
            if wanted == str(version.version) or wanted in version.aliases:
                return version
        numbers = _listed(str(version.version) for version in versions)
        if wanted.isdecimal():
            raise NotFoundError(f"{model} has version{numbers}; not {wanted}")
        aliases = _listed(sorted(name for version in versions for name in version.aliases))
        raise NotFoundError(
            f"{model} has no {wanted}; " + (f"it has the alias{aliases}" if aliases else "it has no alias"),
            remedy=f"promote one of its version{numbers}",
        )

    def promote(
        self, model: str, version: int, *, alias: str = CHAMPION, by: str, reason: str
    ) -> AliasChange:
        """Point an alias to a version, on record; one that already does is left as it is.

        Raises:
            NotFoundError: there is no such version.
            UserError: the alias is no name, or `by` is empty.
        """
        check_alias(alias)
        if not by.strip():
            raise UserError(f"{model} cannot be promoted by nobody", remedy="say who promotes it")
        self.get(model, version)
        at = self._clock.now()

        def work(connection: Connection) -> AliasChange:
            history = events(connection, model, alias)
            if history and history[-1].version == version:
                return history[-1]
            return record(connection, model, alias, version, at=at, by=by, reason=reason)

        return self._store.metadata.write(work)

    def accept(self, version: Version, *, by: str, reason: str) -> AliasChange | None:
        """Put a version that was found good to use, unless it was judged before.

        It becomes champion; where the champion was trained on later data it only predicts the windows that
        come after its own.

        Returns:
            None for a version that had an alias before: what was decided then stays.
        """
        if any(change.version == version.version for change in self.history(version.model)):
            return None
        champions = [one for one in self.versions(version.model) if CHAMPION in one.aliases]
        later = any(one.cutoff > version.cutoff for one in champions)
        alias = ACCEPTED if later else CHAMPION
        return self.promote(version.model, version.version, alias=alias, by=by, reason=reason)

    def rollback(self, model: str, *, by: str, reason: str) -> AliasChange:
        """Make the champion before this one the champion again; a second rollback goes one further back.

        Raises:
            NotFoundError: there is no such model, or it had no other champion before.
        """
        self.versions(model)
        at = self._clock.now()
        seen: int | None = None

        def work(connection: Connection) -> AliasChange:
            nonlocal seen
            history = events(connection, model, CHAMPION)
            last = history[-1] if history else None
            if last is not None and seen is not None and last.id > seen and (last.at, last.by) == (at, by):
                return last  # it was done already, and the answer was lost
            version = previous_champion(model, history)
            seen = history[-1].id
            return record(connection, model, CHAMPION, version, at=at, by=by, reason=reason)

        return self._store.metadata.write(work)

    def history(self, model: str) -> list[AliasChange]:
        """All changes of the model's aliases, oldest first.

        Raises:
            NotFoundError: there is no model of that name.
        """
        self.versions(model)
        return self._store.metadata.read(lambda connection: events(connection, model))

    def load(self, model: str, version_or_alias: int | str) -> Package:
        """The package of a version, ready to predict.

        Its files are verified and its lock is compared with this environment before anything is unpickled.

        Raises:
            NotFoundError: there is no such version, or its package is gone.
            CorruptArtifactError: its files are not those that were stored.
            LockMismatchError: this environment breaks its lock.
        """
        version = self.get(model, version_or_alias)
        folder = self.folder(version)
        scorer = load_scorer(folder, f"{model} version {version.version}")
        return Package(version.version, version.digest, folder, scorer)

    def folder(self, version: Version) -> Path:
        """The package of a version as a folder, its files verified; it must not be changed.

        Raises:
            NotFoundError: its package is gone.
            CorruptArtifactError: its files are not those that were stored.
        """
        try:
            return self._store.artifacts.get(version.digest)
        except (CorruptArtifactError, NotFoundError) as error:
            raise type(error)(
                f"the package of {version.model} version {version.version} cannot be used: {error.message}",
                remedy="restore that folder from a backup, or train the model again: "
                f"envol run --node {version.model} --rerun",
            ) from error

    def champion_at_most(self, model: str, cutoff_epoch: int) -> int | None:
        """The version to predict a window with that starts at `cutoff_epoch` (seconds since 1970 UTC).

        The champion, if it was trained on nothing later; else the one trained on the most recent data of
        those that ever were champion or accepted and were trained on nothing later; None without one.
        """
        from sqlalchemy import and_, case, select

        from envol.storage.tables import alias, alias_event, model_version

        good = select(alias_event.c.version).where(
            alias_event.c.model == model, alias_event.c.alias.in_(PREDICTING)
        )
        current = and_(
            alias.c.model == model_version.c.model,
            alias.c.alias == CHAMPION,
            alias.c.version == model_version.c.version,
        )
        query = (
            select(model_version.c.version)
            .outerjoin(alias, current)
            .where(
                model_version.c.model == model,
                model_version.c.cutoff <= cutoff_epoch,
                model_version.c.version.in_(good),
            )
            .order_by(
                case((alias.c.version.is_not(None), 0), else_=1),
                model_version.c.cutoff.desc(),
                model_version.c.version.desc(),
            )
            .limit(1)
        )
        found: int | None = self._store.metadata.read(lambda connection: connection.execute(query).scalar())
        return found

    def revision(self) -> int:
        """A number that grows whenever an alias changes; one look at the end of an index."""
        from sqlalchemy import func, select

        from envol.storage.tables import alias_event

        query = select(func.max(alias_event.c.id))
        return int(self._store.metadata.read(lambda connection: connection.execute(query).scalar()) or 0)

    def _number(self, values: dict[str, Any]) -> int:
        from sqlalchemy import func, insert, select

        from envol.storage.tables import model_version

        own = model_version.c.model == values["model"]
        last = select(func.max(model_version.c.version)).where(own)
        same = select(model_version.c.version).where(own, model_version.c.digest == values["digest"])

        def work(connection: Connection) -> int:
            known = connection.execute(same).scalar()
            if known is not None:  # it was numbered already, and the answer was lost
                return int(known)
            number = (connection.execute(last).scalar() or 0) + 1
            connection.execute(insert(model_version).values(version=number, **values))
            return number

        return self._store.metadata.write(work)

    def _same(self, trained: Trained, fingerprint: str, identity: str) -> Version | None:
        model = trained.node.name
        if model not in self._store.metadata.read(_models):
            return None
        for version in reversed(self.versions(model)):
            if version.fingerprint == fingerprint and version.cutoff == trained.cutoff:
                try:
                    stored = read_manifest(self._store.artifacts.get(version.digest))
                except (CorruptArtifactError, NotFoundError):
                    continue
                if stored["identity"] == identity:
                    return version
        return None

    def _no_model(self, model: str) -> NoReturn:
        models = self._store.metadata.read(_models)
        near = get_close_matches(model, models, n=1)
        if near:
            raise NotFoundError(f"there is no model {model!r}: did you mean {near[0]!r}?")
        raise NotFoundError(
            f"there is no model {model!r}; "
            + (f"there is {', '.join(models)}" if models else "none is registered yet"),
            remedy=None if models else "envol run trains the project's models",
        )


def _models(connection: Connection) -> list[str]:
    from sqlalchemy import select

    from envol.storage.tables import model_version

    query = select(model_version.c.model).distinct().order_by(model_version.c.model)
    return list(connection.execute(query).scalars())


def _listed(names: Any) -> str:
    """ " a", or "s a, b" for several; empty for none."""
    texts = list(names)
    return f"{'s' if len(texts) > 1 else ''} {', '.join(texts)}" if texts else ""


def _epoch(instant: datetime) -> int:
    return int(instant.timestamp())
