"""What a Ray Train worker runs: the library's loop, whose states become Ray Train checkpoints."""

import logging
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from moos.errors import DataError, ModelError
from moos.ranks import Ranks
from moos.storage import Storage
from moos.training import Progress, run_training
from moos.training_state import TrainingState, load_state, save_state
from pipelines.train_config import TrainConfig
from pipelines.train_events import write_events
from pipelines.train_progress import Teller

logger = logging.getLogger(__name__)


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker runs. A loss that is no number is no reason to try again."""
    import ray
    from ray import train
    from ray.train.torch import get_device

    config = TrainConfig.model_validate(settings["config"])
    context = train.get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), get_device())
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    tell = Teller(settings["board"], f"worker {ranks.rank}")
    tell("gets its data and its model", at_once=True)

    def on_progress(progress: Progress) -> None:
        first = progress if ranks.rank == 0 else None
        tell(f"at step {progress.step} of {progress.num_steps}", first)

    def on_validated(state: TrainingState) -> None:
        tell(f"hands on the state of step {state.step}", at_once=True)
        if ranks.rank == 0:
            _show_events(state, config, settings["run"])
        _report_state(state, config, ranks.rank)

    try:
        history = run_training(
            config.training,
            ray.get(settings["data"]),
            ranks=ranks,
            on_validated=on_validated,
            on_progress=on_progress,
            resumed=_newest_state(),
            strategy=config.workers.strategy,
        )
    except ModelError as error:
        return {"error": str(error)}
    tell("is done, but for storing its states", at_once=True)
    return {"validations": len(history)}


def _show_events(state: TrainingState, config: TrainConfig, run: str) -> None:
    """What TensorBoard shows while the run goes on; a store that fails here costs no training."""
    place = config.output
    output = Storage(place.path, place.storage_options, retries=place.retries)
    try:
        write_events(output, run, state.history, state.curve)
    except OSError as error:
        logger.warning("TensorBoard events of step %d were not written: %s", state.step, error)


def _report_state(state: TrainingState, config: TrainConfig, rank: int) -> None:
    """Hand a state to Ray Train, which uploads it while training goes on."""
    from ray import train

    row, metric = state.history[-1], config.training.best_metric
    figures = {"step": row["step"], "score": -row[metric] if metric == "loss" else row[metric]}
    checkpoint = None
    if rank == 0:
        logger.info("step %d: AUC %.4f, F1 %.4f", row["step"], row["auc"], row["f1"])
        directory = Path(tempfile.mkdtemp(prefix="moos-state-"))
        save_state(state, directory)
        checkpoint = train.Checkpoint.from_directory(directory)
    train.report(
        figures,
        checkpoint=checkpoint,
        # A step may come twice, where its first state turned out to be damaged.
        checkpoint_dir_name=f"step-{state.step:08d}-{uuid.uuid4().hex[:6]}",
        checkpoint_upload_mode=train.CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )


def _newest_state() -> TrainingState | None:
    """The newest state that can be read; None where there is none at all.

    Raises:
        DataError: There are states, and every one is damaged.
    """
    from ray import train

    latest = train.get_checkpoint()
    if latest is None:
        return None
    states = load_states([latest])
    if not states:
        states = load_states([item.checkpoint for item in train.get_all_reported_checkpoints()])
    if not states:
        raise DataError("every state of the run is damaged; remove runs/ to start anew")
    newest = max(states, key=lambda state: state.step)
    logger.info("going on from step %d", newest.step)
    return newest


def load_states(checkpoints: Sequence[Any]) -> list[TrainingState]:
    """The states that can be read."""
    states = []
    for checkpoint in checkpoints:
        try:
            with checkpoint.as_directory() as directory:
                states.append(load_state(Path(directory)))
        except (DataError, OSError) as error:
            logger.warning("a damaged state is passed over: %s", error)
    return states
