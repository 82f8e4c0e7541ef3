"""The chain as Dagster assets with daily partitions, kept as Parquet by dagster-polars' IO manager.

    python dagster_chain.py      # first run, run with nothing to do, and restart

Each day is one in-process run of the assets that the instance has no materialization of.
"""

from __future__ import annotations

from datetime import date

import dagster as dg
import polars as pl
import steps
from dagster_polars import PolarsParquetIOManager

END = date.fromordinal(steps.FIRST.toordinal() + len(steps.days()))
DAYS = dg.DailyPartitionsDefinition(start_date=str(steps.FIRST), end_date=str(END))


@dg.asset(partitions_def=DAYS)
def t0(context) -> pl.DataFrame:
    return steps.first(context.partition_key)


def following(number: int) -> dg.AssetsDefinition:
    @dg.asset(name=f"t{number}", partitions_def=DAYS, ins={"before": dg.AssetIn(f"t{number - 1}")})
    def table(context, before: pl.DataFrame) -> pl.DataFrame:
        return steps.following(before, number, context.partition_key)

    return table


TABLES = [t0, *(following(number) for number in range(1, steps.TABLES))]
RESOURCES = {"io_manager": PolarsParquetIOManager(base_dir="data")}


def main() -> None:
    with dg.DagsterInstance.get() as instance:
        made = {table.key: instance.get_materialized_partitions(table.key) for table in TABLES}
        for day in DAYS.get_partition_keys():
            missing = [table for table in TABLES if day not in made[table.key]]
            if missing:
                dg.materialize(
                    TABLES, selection=missing, partition_key=day, instance=instance, resources=RESOURCES
                )


if __name__ == "__main__":
    main()
