"""Whether a model beats its baseline, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence

from envol.training.metrics import Metric, Metrics
from envol.training.split import Skipped, span_text


def judge(
    model: Metrics | None, baseline: Metrics | None, gain: Metric | None, skipped: Sequence[Skipped]
) -> tuple[bool, str]:
    """The decision on pooled metrics.

    A binary model must rank better than chance (lower bound of its ROC AUC above 0.5) and have both a lower
    Brier score and a lower log loss than the base rate. Others must lose less a row than the baseline (log
    loss or absolute error), with 90 % confidence.
    """
    if model is None or baseline is None or gain is None:
        why = [f"{span_text(each.start, each.end)}: {each.reason}" for each in skipped]
        return False, f"no fold could be evaluated ({'; '.join(why) or 'the node asks for none'})"
    return _binary(model, baseline) if model.task == "binary" else _by_gain(model, baseline, gain)


def _binary(model: Metrics, baseline: Metrics) -> tuple[bool, str]:
    area = model["roc_auc"]
    if area.value is None or area.low is None:
        return False, "ROC AUC is undefined: the evaluated rows are (nearly) all of one class"
    compared = {
        name: (model[name].value or 0.0, baseline[name].value or 0.0, word)
        for name, word in (("brier", "Brier score"), ("log_loss", "log loss"))
    }
    worse = [text for text in compared.values() if text[0] >= text[1]]
    better = [text for text in compared.values() if text[0] < text[1]]
    problems = [f"ROC AUC {area} is no better than chance"] if area.low <= 0.5 else []
    problems += [f"{word} {own:.4g} is not below the base rate's {other:.4g}" for own, other, word in worse]
    if problems:
        return False, "; ".join(problems)
    gains = " and ".join(f"{word} {own:.4g} is below {other:.4g}" for own, other, word in better)
    return True, f"ROC AUC {area} is above 0.5, and {gains} of the base rate"


def _by_gain(model: Metrics, baseline: Metrics, gain: Metric) -> tuple[bool, str]:
    name, against = ("MAE", "the mean") if model.task == "regression" else ("log loss", "the class rates")
    own, other = model[model.main], baseline[model.main]
    figures = f"{name} {own} against {_short(other)} of {against}: lower by {gain}"
    if gain.low is not None and gain.low > 0:
        return True, figures
    return False, f"{figures}, which is no sure gain"


def _short(metric: Metric) -> str:
    return "undefined" if metric.value is None else f"{metric.value:.3g}"
