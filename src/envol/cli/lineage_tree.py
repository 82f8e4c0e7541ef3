"""Lineage as a tree on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from envol.cli.output import count, metric, moment

if TYPE_CHECKING:
    from envol.pipeline.lineage import Lineage, ModelOrigin, RowLineage
    from envol.pipeline.lineage.origins import Accepted, Code, Maker, Materialization
    from envol.serving import PredictionLineage

SHORT = 12
SHOWN_VALUES = 12
SHOWN_ROWS = 3
SHOWN_COMMITS = 3
WINDOW_START = "window_start"


def window_tree(told: Lineage, zone: tzinfo) -> Tree:
    """The windows and what they were made from."""
    tree = Tree(_windows(told, zone))
    _grow(tree, told, zone)
    return tree


def row_tree(told: RowLineage, zone: tzinfo) -> Tree:
    """The rows of a key and the rows they were made from."""
    tree = Tree(_rows(told, zone))
    _grow_rows(tree, told, zone)
    return tree


def prediction_tree(told: PredictionLineage, zone: tzinfo) -> Tree:
    """An online prediction and the version that made it."""
    lines = [f"answered {moment(told.at, zone)}"]
    lines += [
        f"{word}: {_values(values)}" for word, values in (("input", told.input), ("output", told.output))
    ]
    tree = Tree(_label(f"prediction {told.id}", "", lines))
    _grow_model(tree, told.model, zone)
    return tree


def _grow(tree: Tree, told: Lineage, zone: tzinfo) -> None:
    for model in told.models:
        _grow_model(tree, model, zone)
    for one in told.inputs:
        _grow(tree.add(_windows(one, zone, parent=told)), one, zone)
    if told.cut:
        tree.add(Text("..., with --depth for more", "dim"))
    if told.windows > 1 and told.materializations:
        windows = tree.add(Text("its windows", "dim"))
        for made in told.materializations:
            windows.add(_label(made.window, "", _made(made, zone)))


def _grow_model(tree: Tree, model: ModelOrigin, zone: tzinfo) -> None:
    branch = tree.add(_model(model, zone))
    for one in model.inputs:
        _grow(branch.add(_windows(one, zone, parent=model)), one, zone)


def _grow_rows(tree: Tree, told: RowLineage, zone: tzinfo) -> None:
    for model in told.models:
        _grow_model(tree, model, zone)
    for one in told.inputs:
        _grow_rows(tree.add(_rows(one, zone)), one, zone)


def _windows(told: Lineage, zone: tzinfo, parent: Lineage | ModelOrigin | None = None) -> Text:
    where = told.first if told.first == told.last else f"{told.first}..{told.last}"
    kind = told.kind if told.read in (None, "window") else f"{told.kind}, {told.read}"
    if told.repeated:
        return _label(f"{told.node} {where}", kind, ["told further above"])
    single = told.windows == 1 and told.materializations
    lines = _made(told.materializations[0], zone) if single else _summed(told)
    if told.expected != told.windows:
        lines.append(f"{count(told.expected, 'window')} were read; the records tell of {told.windows:,}")
    lines += _since(told, zone, parent)
    return _label(f"{told.node} {where}", kind, lines)


def _summed(told: Lineage) -> list[str]:
    parts = [count(told.windows, "window"), count(told.rows, "row")]
    parts += [f"{told.quarantined:,} in quarantine"] * bool(told.quarantined)
    if told.snapshots:
        parts.append(f"snapshots {told.snapshots[0]}..{told.snapshots[1]}")
    lines = [", ".join(parts)]
    commits = list(told.commits) or [(one.git_commit, one.git_dirty) for one in told.codes if one.git_commit]
    one = len(told.codes) == 1 and told.codes[0].code
    said = f"code {told.codes[0].code[:SHORT]}" if one else count(len(told.codes), "definition")
    if commits:
        shown = ", ".join(_commit(commit, dirty) for commit, dirty in commits[-SHOWN_COMMITS:])
        more = len(commits) - SHOWN_COMMITS
        said += f", {shown}" + (f" and {more} before" if more > 0 else "")
    return [*lines, said]


def _made(one: Materialization, zone: tzinfo) -> list[str]:
    parts = [count(one.rows, "row")]
    parts += [f"{one.quarantined:,} in quarantine"] * bool(one.quarantined)
    if one.snapshot is not None:
        parts.append(f"snapshot {one.snapshot}{' (expired)' if one.expired else ''}")
    lines = [", ".join(parts), _by(one.made_at, one.by, zone), _code(one.code, *one.commit)]
    if one.accepted is not None:
        lines.append(_accepted(one.accepted, zone))
    return [line for line in lines if line]


def _since(told: Lineage, zone: tzinfo, parent: Lineage | ModelOrigin | None) -> list[str]:
    """What has become of what was read."""
    lines = []
    if told.made_again:
        which = "it was" if told.windows == 1 else f"{told.made_again:,} of them were"
        same = ", with the same content" if parent is not None and parent.changed is False else ""
        lines.append(f"! {which} made again since{same}")
    if told.earlier is not None:
        by = _by(told.earlier.at, told.earlier.by, zone)
        lines.append(f"read as of snapshot {told.earlier.snapshot}, {by}")
    if told.expired:
        lines.append(f"snapshot {told.as_of}, as which it was read, has expired")
    return lines


def _model(model: ModelOrigin, zone: tzinfo) -> Text:
    from envol.training.split import span_text

    main = model.metrics.get("main") or ""
    base = metric(model.metrics.get("baseline", {}).get(main), interval=False)
    scored = f"{main} {metric(model.metrics.get('model', {}).get(main))}".strip()
    lines = [] if model.rows is None else [f"predicted {count(model.rows, 'row')}"]
    lines.append(f"fitted on {span_text(model.train_start, model.cutoff)}")
    lines.append(f"{scored}, baseline {base}" if scored and base else scored)
    lines += [_by(model.made_at, model.by, zone), f"package {model.digest}"]
    lines.append(_code(model.code, *model.commit))
    aliases = f", {', '.join(model.aliases)}" if model.aliases else ""
    return _label(f"{model.model} version {model.version}{aliases}", "model", filter(None, lines))


def _rows(told: RowLineage, zone: tzinfo) -> Text:
    where = ", ".join(one.window for one in told.windows)
    as_of = "" if told.as_of is None else f"as of snapshot {told.as_of}"
    lines = [_values(row) for row in told.rows[:SHOWN_ROWS]]
    more = told.found - SHOWN_ROWS
    lines += [f"and {count(more, 'more row')}: --json shows them"] * (more > 0)
    lines += [] if told.note is None else [told.note]
    if len(told.windows) == 1:
        lines += _made(told.windows[0], zone)
    return _label(f"{told.table} {where}".strip(), as_of, lines)


def _by(at: datetime, by: Maker | None, zone: tzinfo) -> str:
    if by is None:
        return f"made {moment(at, zone)}"
    details = ", ".join(part for part in (by.kind if by.kind != "run" else "", by.host) if part)
    return f"made {moment(at, zone)} by run {by.run}" + (f" ({details})" if details else "")


def _code(code: Code | None, commit: str | None, dirty: bool | None) -> str:
    said = [] if code is None or not code.code else [f"code {code.code[:SHORT]}"]
    said += [_commit(commit, dirty)] * (commit is not None)
    return " at ".join(said)


def _accepted(accepted: Accepted, zone: tzinfo) -> str:
    code = accepted.code
    told = "accepted as it is" + (f" for code {code.code[:SHORT]}" if code and code.code else "")
    if accepted.by is not None:
        told += f" by {accepted.by} {moment(accepted.at, zone)}: {accepted.reason}"
    return told


def _commit(commit: str | None, dirty: bool | None) -> str:
    return f"commit {(commit or '')[:SHORT]}{' with uncommitted changes' if dirty else ''}"


def _values(row: dict[str, Any]) -> str:
    values = [(name, value) for name, value in row.items() if name != WINDOW_START]
    shown = [f"{name}={_value(value)}" for name, value in values[:SHOWN_VALUES]]
    return ", ".join(shown) + (", ..." if len(values) > SHOWN_VALUES else "")


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _label(title: str, kind: str, lines: Iterable[str]) -> Text:
    text = Text(title, "bold")
    if kind:
        text.append(f" ({kind})", "not bold dim")
    for line in lines:
        text.append(f"\n{line}", "not bold yellow" if line.startswith("!") else "not bold")
    return text
