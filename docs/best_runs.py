"""The runs with the best value of a metric, from the tables of the tracker `database` (docs/tracking.md).

python docs/best_runs.py val/mAP50-95
"""

from __future__ import annotations

import os
import sys

from sqlalchemy import create_engine, text

from visionloop.training.tracking.database.address import database_url

QUERY = """
SELECT runs.experiment, runs.run, runs.status, metrics.epoch, metrics.value
FROM visionloop_runs AS runs JOIN visionloop_metrics AS metrics ON metrics.run_id = runs.id
WHERE metrics.name = :metric AND metrics.value IS NOT NULL
ORDER BY metrics.value DESC LIMIT 10
"""


def main(metric: str) -> None:
    """Prints them, the best first."""
    engine = create_engine(database_url(os.environ))
    with engine.connect() as connection:
        for experiment, run, status, epoch, value in connection.execute(text(QUERY), {"metric": metric}):
            sys.stdout.write(f"{experiment}\t{run}\t{status}\tepoch {epoch}\t{value:.4g}\n")
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
