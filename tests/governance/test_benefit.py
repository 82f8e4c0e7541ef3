"""The benefit range on outcomes of a real run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import SmallProject

import envol
from envol.errors import NotFoundError, ProjectError
from envol.project.parameters import Range

MODULE = """
@source(every="1d")
def visits(window: Window) -> pl.DataFrame:
    day = window.start.timetuple().tm_yday
    return pl.DataFrame({"id": range(day * 100, day * 100 + 10)}).with_columns(x=pl.col("id") % 10)


@source(every="1d")
def sales(window: Window) -> pl.DataFrame:
    return visits(window).select("id", sold=pl.col("x") > 4)


@model(
    features="visits", labels="sales", key="id", target="sold", train="5d", every="60d", folds=1, test="1d"
)
def chance(X: pl.DataFrame, y: pl.Series):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=0).fit(X, y)


@value(model="chance", unit="EUR")
def worth(outcomes: pl.DataFrame, price: float) -> pl.Series:
    return outcomes["sold"].cast(pl.Float64) * price
"""
SOLD_A_YEAR = 5 * 365.25


@pytest.fixture
def benefit(tmp_path: Path) -> Callable[..., envol.Connection]:
    """A connection to the project after its run, with this as the price."""

    def make(price: str, module: str = MODULE, until: str = "2024-01-31") -> envol.Connection:
        small = SmallProject(tmp_path / "shop").write(module, f"[parameters.worth]\nprice = {price}\n")
        small.run(until)
        return envol.connect(small.root)

    return make


def test_what_is_certain_has_no_range(benefit: Callable[..., envol.Connection]) -> None:
    with benefit("2.0") as shop:
        found = shop.benefit("worth")
        assert found is not None
        assert (found.p10, found.p50, found.p90) == pytest.approx([2 * SOLD_A_YEAR] * 3)
        assert (found.unit, found.windows, found.rows, found.assumptions) == ("EUR", 25, 250, {})


def test_an_uncertain_assumption_spreads_it(benefit: Callable[..., envol.Connection]) -> None:
    with benefit("{ low = 1, likely = 2, high = 6 }") as shop:
        found = shop.benefit("worth")
        assert found is not None
        assert SOLD_A_YEAR < found.p10 < found.p50 < found.p90 < 6 * SOLD_A_YEAR
        # Quantiles of the triangular distribution over 1, 2, 6 are 1.71, 2.84 and 4.59.
        assert found.p50 / SOLD_A_YEAR == pytest.approx(2.84, abs=0.35)
        assert found.assumptions == {"price": Range(1, 2, 6)}
        assert found == shop.benefit("worth"), "the same seed draws the same"


def test_days_that_differ_spread_it(benefit: Callable[..., envol.Connection]) -> None:
    uneven = MODULE.replace("* price", '* price * (outcomes["window_start"].dt.day() % 9 == 0)')
    with benefit("2.0", uneven) as shop:
        found = shop.benefit("worth")
        assert found is not None
        assert found.p10 < found.p50 <= found.p90


def test_before_outcomes_there_is_none(benefit: Callable[..., envol.Connection]) -> None:
    with benefit("2.0", until="2024-01-04") as shop:
        assert shop.benefit("worth") is None


def test_wrong_names_and_functions_are_told(benefit: Callable[..., envol.Connection]) -> None:
    with benefit("2.0") as shop:
        with pytest.raises(NotFoundError, match="'wort'"):
            shop.benefit("wort")
        folder = shop.project.root
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(
        text.replace('return outcomes["sold"]', 'return "much" or outcomes["sold"]')
    )
    with envol.connect(folder) as shop, pytest.raises(ProjectError, match="worth"):
        shop.benefit("worth")
