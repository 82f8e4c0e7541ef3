"""A chain of ten small tables, 50 days of it: Envol beside Prefect, Dagster, Metaflow and Kedro.

python benchmarks/pipeline [--quick] [--peers prefect,dagster,metaflow,kedro] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import chains
import environments
import measuring
import processes
import report

PEERS = ("prefect", "dagster", "metaflow", "kedro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="2 days, and only peers whose environment is there"
    )
    parser.add_argument("--peers", help="these peers only, by comma; none: Envol alone")
    parser.add_argument("--days", type=int, help="other than 50 days")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    peers = PEERS if given.peers is None else tuple(name for name in given.peers.split(",") if name != "none")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if given.quick and given.peers is None:
        peers = tuple(name for name in PEERS if environments.exists(name))
    for name in peers:
        environments.make(name)
    days = given.days or (2 if given.quick else 50)
    processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="pipeline-", ignore_cleanup_errors=True) as folder:
        plain = measuring.bare(Path(folder), days, 2)
        measured = [
            measuring.measure(chains.CHAINS[name], Path(folder), days, plain) for name in ("envol", *peers)
        ]
    if given.json:
        steps = {"steps": len(plain.tables), "plain_seconds": plain.seconds, "plain_peak_bytes": plain.peak}
        print(json.dumps({**steps, "tools": [one.to_dict() for one in measured]}, indent=2))
        return
    found = report.report(measured, plain)
    report.show(found)
    print("", report.markdown(found), sep="\n")


if __name__ == "__main__":
    main()
