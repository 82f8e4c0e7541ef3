"""`envol models`, `envol promote`, `envol rollback`: versions of models and which of them counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import ByOption, JsonOption, ProjectOption, ReasonOption, opened, said, who
from envol.cli.output import NARROW, console, metric, moment, print_apart, print_json, table

if TYPE_CHECKING:
    from datetime import tzinfo

    from rich.console import Console

    from envol.cli.output import Table
    from envol.registry import AliasChange, Registry, Version
    from envol.storage import Store

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One model.")] = None,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="One version: its number or an alias.")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card, in Markdown.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List models and versions, or show one of them.

    With NAME: its versions and the history of its aliases. With VERSION: that one in full.
    """
    with opened(project) as (found, store):
        registry = _registry(store)
        zone = found.calendar.zone
        if name is None:
            _show_versions(registry.versions(), zone, json)
        elif card:
            _show_card(store, registry.get(name, version or _newest(registry, name)))
        elif version is None:
            _show_model(registry, name, zone, json)
        else:
            _show_version(store, registry.get(name, version), zone, json)


def promote(
    model: ModelArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version.")],
    reason: ReasonOption,
    alias: Annotated[
        str, typer.Option(metavar="ALIAS", help="The alias to give it: champion or challenger.")
    ] = "champion",
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version of a model its champion.

    Running services follow within a second or two; the change and its reason go on record.
    """
    with opened(project) as (_, store):
        change = _registry(store).promote(model, version, alias=alias, by=who(by), reason=said(reason))
        _print_change(change, json)


def rollback(
    model: ModelArgument,
    reason: ReasonOption,
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Make the champion before this one the champion again."""
    with opened(project) as (_, store):
        change = _registry(store).rollback(model, by=who(by), reason=said(reason))
        _print_change(change, json)


def described(version: Version) -> dict[str, Any]:
    """A version for JSON."""
    return {
        "model": version.model,
        "version": version.version,
        "aliases": list(version.aliases),
        "task": version.task,
        "cutoff": version.cutoff,
        "train_start": version.train_start,
        "made_at": version.made_at,
        "run": version.run,
        "digest": version.digest,
        "fingerprint": version.fingerprint,
        "metrics": version.metrics,
        "lineage": version.lineage,
    }


def _registry(store: Store) -> Registry:
    from envol.project.clock import SystemClock
    from envol.registry import Registry

    return Registry(store, SystemClock())


def _newest(registry: Registry, name: str) -> int:
    return registry.versions(name)[-1].version


def _show_versions(versions: list[Version], zone: tzinfo, json: bool) -> None:
    if json:
        print_json([described(one) for one in versions])
        return
    out = console()
    if versions:
        out.print(_version_rows(versions, zone, wide=out.width >= NARROW))
    else:
        out.print("no model is registered yet; envol run trains the project's models")


def _version_rows(versions: list[Version], zone: tzinfo, *, wide: bool) -> Table:
    headers = ["model", "version", "cutoff", "backtest", "baseline", "aliases", *["made"] * wide]
    rows = table(*headers, right=("version",), spare=("baseline", "cutoff"))
    for one in versions:
        main = one.metrics["main"] or ""
        rows.add_row(
            one.model,
            str(one.version),
            one.cutoff.astimezone(zone).strftime("%Y-%m-%d"),
            f"{main} {metric(one.metrics['model'].get(main), interval=wide)}".strip(),
            metric(one.metrics["baseline"].get(main), interval=wide),
            ", ".join(one.aliases),
            *[moment(one.made_at, zone)] * wide,
        )
    return rows


def _show_model(registry: Registry, name: str, zone: tzinfo, json: bool) -> None:
    history = registry.history(name)
    if json:
        versions = [described(one) for one in registry.versions(name)]
        print_json({"model": name, "versions": versions, "history": history})
        return
    out = console()
    versions_rows = _version_rows(registry.versions(name), zone, wide=out.width >= NARROW)
    if not history:
        advice = f'no alias was set yet; envol promote {name} VERSION --reason "..."'
        print_apart(out, versions_rows, advice)
        return
    rows = table(
        "at", "alias", "version", "before", "by", "reason", right=("version", "before"), wrap=("reason",)
    )
    for change in history:
        numbers = ("" if one is None else str(one) for one in (change.version, change.previous))
        rows.add_row(moment(change.at, zone), change.alias, *numbers, change.by, change.reason)
    print_apart(out, versions_rows, rows)


def _show_version(store: Store, version: Version, zone: tzinfo, json: bool) -> None:
    from envol.cli.backtest import package_folder, stored_backtest
    from envol.registry.loader import read_manifest

    manifest = read_manifest(package_folder(store, version))
    backtest = stored_backtest(store, version)
    if json:
        print_json({**described(version), "signature": manifest["signature"], "backtest": backtest})
        return
    _print_version(console(), version, zone, manifest["signature"], backtest)


def _print_version(
    out: Console, version: Version, zone: tzinfo, signature: Any, backtest: dict[str, Any]
) -> None:
    from envol.cli.backtest import backtest_table
    from envol.training.split import span_text

    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    span = span_text(version.train_start.astimezone(zone), version.cutoff.astimezone(zone))
    out.print(f"{version.model} version {version.version}{aliases}", style="bold")
    for label, text in (
        ("task", version.task),
        ("trained on", span),
        ("made", f"{moment(version.made_at, zone)} by run {version.run}"),
        ("digest", version.digest),
        ("verdict", version.metrics["verdict"]),
    ):
        out.print(f"{label:<11}{text}", soft_wrap=label == "digest")
    out.print()
    metrics = table("metric of all folds", "model", "baseline")
    for name, value in version.metrics["model"].items():
        metrics.add_row(name, metric(value), metric(version.metrics["baseline"].get(name)))
    fields = table("input", "dtype", "missing", "categories", wrap=("categories",))
    for field in signature:
        known = field.get("categories")
        fields.add_row(
            field["name"],
            field["dtype"],
            "allowed" if field["nullable"] else "refused",
            _some(known) if known else "",
        )
    lineage = table("made from", "from", "to", "windows", "rows", "snapshot", right=("windows", "rows"))
    for name, read in version.lineage.items():
        lineage.add_row(
            name,
            str(read.get("start", ""))[:10],
            str(read.get("end", ""))[:10],
            f"{read.get('windows', 0):,}",
            f"{read.get('rows', 0):,}",
            str(read.get("snapshot") or ""),
        )
    print_apart(out, backtest_table(backtest), metrics, fields, lineage)


def _some(categories: list[str]) -> str:
    shown = ", ".join(map(str, categories[:8]))
    return shown if len(categories) <= 8 else f"{shown} and {len(categories) - 8:,} more"


def _show_card(store: Store, version: Version) -> None:
    from envol.cli.backtest import package_folder
    from envol.registry.package import CARD

    path = package_folder(store, version) / CARD
    print(path.read_text(encoding="utf-8").rstrip("\n"))


def _print_change(change: AliasChange, json: bool) -> None:
    if json:
        print_json(change)
        return
    before = "" if change.previous is None else f", before version {change.previous}"
    print(
        f"{change.model} {change.alias}: version {change.version}{before} (by {change.by}: {change.reason})"
    )
