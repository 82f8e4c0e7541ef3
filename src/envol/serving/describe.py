"""What the service tells about its models and itself, as values for JSON."""

from __future__ import annotations

from typing import Any

from envol.registry import Field
from envol.serving.models import Champions, Served


def describe(served: Served) -> dict[str, Any]:
    """One model: what answers, how good it is, what it was trained on, and all aliases.

    `version` and all that follows it are null while nothing answers.
    """
    version, package = served.version, served.package
    aliases = {alias: one.version for one in served.versions for alias in one.aliases}
    described: dict[str, Any] = {
        "name": served.name,
        "ready": package is not None,
        "warning": served.warning,
        "aliases": aliases,
        "versions": [one.version for one in served.versions],
        "version": None,
        "digest": None,
        "task": None,
        "classes": None,
        "signature": None,
        "metrics": None,
        "trained": None,
        "made_at": None,
    }
    if version is not None and package is not None:
        described |= {
            "version": version.version,
            "digest": version.digest,
            "task": version.task,
            "classes": package.classes,
            "signature": [_field(field) for field in package.signature.fields],
            "metrics": version.metrics,
            "trained": {"start": version.train_start, "end": version.cutoff},
            "made_at": version.made_at,
        }
    return described


def readiness(champions: Champions, log_problem: str | None) -> dict[str, Any]:
    """Whether every model's champion answers and predictions can be logged; if not, why."""
    reasons: list[str] = []
    warnings: list[str] = []
    for served in champions.models.values():
        if served.warning:
            told = f"{served.name}: {served.warning}"
            (reasons if served.package is None else warnings).append(told)
    if log_problem:
        reasons.append(log_problem)
    if champions.trouble:
        warnings.append(champions.trouble)
    answering = {one.name: one.package.version for one in champions.models.values() if one.package}
    if not answering and not reasons:
        warnings.append("no model has a champion yet")
    return {"ready": not reasons, "reasons": reasons, "warnings": warnings, "models": answering}


def _field(field: Field) -> dict[str, Any]:
    categories = None if field.categories is None else list(field.categories)
    return {"name": field.name, "dtype": field.dtype, "nullable": field.nullable, "categories": categories}
