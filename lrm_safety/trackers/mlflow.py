"""MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME (else lrm-safety), on the server MLFLOW_TRACKING_URI.

MLFLOW_TRACKING_TOKEN and so on are read by MLflow. Without a server it is FOLDER/mlflow.db; look at it with
`mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lrm_safety.errors import Unavailable
from lrm_safety.nouns import TrainingMetrics
from lrm_safety.tracking import scalars

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "lrm-safety"
ROWS = 50  # a request; MLflow takes 1,000 numbers in one


def write(run: str, rows: Iterable[TrainingMetrics], folder: Path) -> str:
    """Asked again, it adds the steps that are not there yet. Raises Unavailable when the server does not take them."""
    from mlflow import MlflowClient, MlflowException
    from mlflow.entities import Metric
    from mlflow.environment_variables import MLFLOW_TRACKING_URI

    folder.mkdir(parents=True, exist_ok=True)
    server = MLFLOW_TRACKING_URI.get()  # type: ignore[no-untyped-call]
    place = str(server or f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    now = int(time.time() * 1000)
    try:
        client = MlflowClient(tracking_uri=place)
        id_ = _find(client, run)
        done = max((known.step for known in client.get_metric_history(id_, "epoch")), default=0)
        fresh = [row for row in rows if row.step > done]
        for at in range(0, len(fresh), ROWS):
            numbers = [
                Metric(name, value, now, row.step) for row in fresh[at : at + ROWS] for name, value in scalars(row)
            ]
            client.log_batch(id_, numbers)
        client.set_terminated(id_)
    except MlflowException as error:
        raise Unavailable(
            f"MLflow does not take the metrics: {error}; they stay in the store, ask again later"
        ) from error
    return place


def _find(client: "MlflowClient", run: str) -> str:
    """MLflow's own id of the run, which is made when it is not there."""
    from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME

    name = MLFLOW_EXPERIMENT_NAME.get() or EXPERIMENT  # type: ignore[no-untyped-call]
    experiment = client.get_experiment_by_name(name)
    number: str = experiment.experiment_id if experiment else client.create_experiment(name)
    known = client.search_runs([number], f"attributes.run_name = '{run}'", max_results=1)
    made = known[0] if known else client.create_run(number, run_name=run)
    return str(made.info.run_id)
