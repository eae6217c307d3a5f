"""Weights & Biases: a run of the project WANDB_PROJECT (else lrm-safety), on the server that W&B's own settings name.

WANDB_API_KEY, WANDB_BASE_URL and so on are read by W&B. With WANDB_MODE=offline the run stays in the folder, for
`wandb sync`. Nothing but the numbers goes there: no host, no packages, no code.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import TrainingMetrics
from lrm_safety.tracking import scalars

PROJECT = "lrm-safety"
INIT_S = 30.0
FINISH_S = 120.0


def write(run: str, rows: Iterable[TrainingMetrics], folder: Path) -> str:
    """Asked again, the server gets the steps it does not have; an offline run is written anew.

    Raises InvalidInput without a key, Unavailable when the server does not take them in time.
    """
    import wandb
    from wandb.errors import UsageError

    for old in folder.glob(f"wandb/offline-run-*-{run}"):
        shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    numbers_alone = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        finish_timeout=FINISH_S,
        finish_timeout_raises=True,
        host="-",
        init_timeout=INIT_S,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    project = wandb.setup().settings.project or PROJECT
    try:
        with wandb.init(
            project=project, id=run, name=run, dir=folder, resume="allow", settings=numbers_alone
        ) as session:
            for row in rows:
                if row.step >= session.step:  # the first one that it would take
                    session.log(dict(scalars(row)), step=row.step)
    except UsageError as error:
        raise InvalidInput(f"W&B refuses: {error} Set WANDB_API_KEY, or WANDB_MODE=offline") from error
    except (wandb.Error, TimeoutError) as error:
        raise Unavailable(f"W&B does not take the metrics: {error}; they stay in the store, ask again later") from error
    return session.settings.sync_dir if session.offline else session.url or str(folder)
