"""The training job: prepare labels once, train on Ray Train, finish the best state to a checkpoint.

States are Ray Train checkpoints below `runs/<run>/`, uploaded while training goes on. The run's
name is a hash of recipe, labels and base, so that the same command resumes and a changed recipe
starts anew; the number of workers is not part of it.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.fs

from moos.errors import ConfigError, DataError, ModelError, MoosError
from moos.labels import LabelledDocument, draw_records, read_labelled
from moos.storage import Storage
from moos.tokens import TextTokenizer
from moos.training import best_row, check_workers, load_base
from moos.training_data import TrainingData, prepare_data
from moos.training_output import finish_checkpoint, hash_base, hash_labels
from pipelines.events import EventLog
from pipelines.executors import connect_ray
from pipelines.finish import CONFIRM
from pipelines.lease import Lease
from pipelines.phase_watch import PhaseWatch
from pipelines.prepared_run import open_log, open_output
from pipelines.report_parts import REPORT
from pipelines.stall import StalledError
from pipelines.train_config import TrainConfig
from pipelines.train_progress import Teller, Wanted, follow_stage
from pipelines.train_report import CURVES, METRICS, write_train_report
from pipelines.train_worker import load_states, train_worker

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
OWN = {CHECKPOINT, "runs", "_run", "tensorboard", REPORT, CURVES, METRICS}
"""What a run writes below its output."""

STATES_KEPT = 2
"""States on storage: the best ones; Ray keeps the latest besides."""


def run_train(config: TrainConfig) -> dict[str, Any]:
    """Run the job to its end, or from where it stopped; the summary.

    Raises:
        ConfigError: The run cannot start as configured.
        DataError: The labels are faulty, or no state can be read back.
        ModelError: The base cannot be loaded, or the loss stopped being a number.
        MoosError: Work failed, another run works on the output, or nothing went on for
            `stall_timeout_s`; the same command resumes. What hangs on Ray ends with the driver's
            session there, which the end of its process ends.
    """
    began = time.monotonic()
    # Ray Train's cleaner says so once a second where Ray runs without its dashboard.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Failed to query Ray Train Controller")
    watch = PhaseWatch(config.stall_limit_s)
    with ExitStack() as held:
        with watch.guard("planning"):
            _check_base(config.training.base)
            config = resolve_paths(config)
            check_workers(config.training, config.workers.num_workers)
            documents, data = _prepare(config, watch)
            unwatched, output = open_output(config.output, watch)
            check_output(output)
            run = name_run(config, documents)
            with watch.call("connect to the cluster"):
                connect_ray()
            with watch.call("take the lease"):
                lease = held.enter_context(Lease(unwatched))
        events = held.enter_context(open_log(unwatched, lease))
        events.note("started", job="train", name=run, documents=len(data.training))
        checkpoints = _train_on_ray(config, data, output, run, events)
        lease.check()
        metrics, state, curve = _finish_on_ray(config, documents, data, checkpoints, events)
        with watch.guard("finishing", events):
            write_train_report(output, run, metrics, state, curve)
            with watch.call(CONFIRM):
                lease.confirm()
        figures = {
            "output": config.output.path,
            "checkpoint": f"{config.output.path.rstrip('/')}/{CHECKPOINT}",
            "steps": state[-1]["step"],
            "best_step": metrics["best_step"],
            "auc": metrics["auc"],
            "auc_alpha_1": metrics["auc_alpha_1"],
            "seconds": round(time.monotonic() - began, 1),
        }
        events.note("finished", **figures, name=run, exit_code=0)
    return {**figures, "run": run}


def _check_base(base: str) -> None:
    if not Path(base, "tokenizer.json").is_file():
        raise ConfigError(
            f"training.base: {base!r} is no directory with tokenizer.json; hub ids are not taken, "
            "download it first"
        )


def resolve_paths(config: TrainConfig) -> TrainConfig:
    """The config with absolute local paths: Ray Train's workers run in another directory."""
    base, place = Path(config.training.base), config.output.path
    training = {"base": str(base.resolve()) if base.exists() else config.training.base}
    output = {"path": place if "://" in place else str(Path(place).resolve())}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=training),
            "output": config.output.model_copy(update=output),
        }
    )


def check_output(output: Storage) -> None:
    """Refuse to write among things that no training run wrote.

    Raises:
        ConfigError: The place holds such a thing.
    """
    foreign = set(output.list("", directories=True)) - OWN
    if foreign:
        raise ConfigError(
            f"output.path {output.url} holds {sorted(foreign)[0]!r}, which is not of a training "
            "run; name another"
        )


def _prepare(config: TrainConfig, watch: PhaseWatch) -> tuple[list[LabelledDocument], TrainingData]:
    tokenizer = TextTokenizer.from_file(Path(config.training.base) / "tokenizer.json")
    settings = config.data
    documents = read_labelled(settings.paths, settings.storage_options, watch=watch.call)
    if settings.max_records is not None:
        documents = draw_records(documents, settings.max_records)
    with watch.call(f"cut {len(documents)} documents into windows"):
        data = prepare_data(documents, tokenizer, config.training)
    logger.info("%d documents to train on, %d held out", len(data.training), len(data.validation))
    return documents, data


def name_run(config: TrainConfig, documents: Sequence[LabelledDocument]) -> str:
    """The run's name: equal for what trains the same, wherever it is and on how many workers."""
    recipe = config.training.model_dump(
        mode="json", exclude={"base", "base_name", "labels_note", "card", "threads"}
    )
    parts = [recipe, hash_labels(documents), hash_base(config.training.base)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _train_on_ray(
    config: TrainConfig, data: TrainingData, output: Storage, run: str, events: EventLog
) -> list[Any]:
    """The Ray Train checkpoints of the best states and of the latest."""
    workers = config.workers
    wanted = Wanted(
        "training", "worker", workers.num_workers, workers.cpus_per_worker, int(workers.use_gpu)
    )
    try:
        with follow_stage(wanted, config.stall_limit_s, events) as board:
            result = _build_trainer(config, data, output, run, board).fit()
    except StalledError:
        raise
    except Exception as error:  # Ray Train wraps what a worker raised in its own
        raise MoosError(f"training failed: {_last_line(error)}") from error
    returned = getattr(result, "return_value", None) or {}
    if "error" in returned:
        raise ModelError(
            f"{returned['error']}; the states up to the last validation are kept in "
            f"{config.output.path}"
        )
    # The latest need not be one of the best, but it alone knows all figures.
    found = [checkpoint for checkpoint, _ in result.best_checkpoints or []]
    return found if result.checkpoint in found else [*found, result.checkpoint]


def _build_trainer(
    config: TrainConfig, data: TrainingData, output: Storage, run: str, board: Any
) -> Any:
    import ray
    from ray import train
    from ray.train.torch import TorchTrainer

    from pipelines.train_callback import StoredStates

    workers = config.workers
    # Annotated as Ray Train's first version takes them.
    loop: Any = train_worker
    callbacks: list[Any] = [StoredStates(board)]
    return TorchTrainer(
        loop,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "data": ray.put(data),
            "board": board,
            "run": run,
        },
        scaling_config=train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={
                "CPU": workers.cpus_per_worker,
                **({"GPU": 1} if workers.use_gpu else {}),
            },
        ),
        run_config=train.RunConfig(
            name=run,
            storage_path=f"{output.root}/runs",
            storage_filesystem=None if output.is_local else _arrow_filesystem(output),
            failure_config=train.FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=STATES_KEPT,
                checkpoint_score_attribute="score",
                checkpoint_score_order="max",
            ),
            callbacks=callbacks,
        ),
    )


def _arrow_filesystem(output: Storage) -> Any:
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(output.filesystem))


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _finish_on_ray(
    config: TrainConfig,
    documents: Sequence[LabelledDocument],
    data: TrainingData,
    checkpoints: Sequence[Any],
    events: EventLog,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, float]]]:
    """Figures, validations and curve of the finished run, its checkpoint written."""
    import ray
    from ray.exceptions import RayError

    num_gpus = 1 if config.workers.use_gpu else 0
    task = ray.remote(num_cpus=config.workers.cpus_per_worker, num_gpus=num_gpus)(_finish)
    wanted = Wanted("making the checkpoint", "task", 1, config.workers.cpus_per_worker, num_gpus)
    try:
        with follow_stage(wanted, config.stall_limit_s, events) as board:
            return ray.get(task.remote(config, list(documents), data, list(checkpoints), board))
    except RayError as error:
        raise MoosError(f"the checkpoint could not be finished: {_last_line(error)}") from error


def _finish(
    config: TrainConfig,
    documents: Sequence[LabelledDocument],
    data: TrainingData,
    checkpoints: Sequence[Any],
    board: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, float]]]:
    """Make the best state a checkpoint directory on the output."""
    import torch

    tell = Teller(board, "the task that makes the checkpoint")
    tell("reads the states of the run", at_once=True)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    states = []
    for checkpoint in checkpoints:
        states += load_states([checkpoint])
        tell(f"has read {len(states)} states", at_once=True)
    if not states:
        raise DataError("no state of the run can be read; remove runs/ to start anew")
    last = max(states, key=lambda state: state.step)
    steps = {state.step: state for state in states}
    rows = [row for row in last.history if row["step"] in steps]
    best = steps[best_row(rows, config.training.best_metric)["step"]]
    model = load_base(config.training.base, config.training.max_length)
    model.load_state_dict(best.model)
    model.to("cuda" if config.workers.use_gpu else "cpu")
    model.register_forward_hook(lambda *_: tell("measures the best state"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / CHECKPOINT
        metrics = finish_checkpoint(model, config.training, documents, data, last.history, path)
        _upload(path, config, tell)
    return metrics, last.history, last.curve


def _upload(directory: Path, config: TrainConfig, tell: Teller) -> None:
    """Write the files; `moos.json`, without which it is no checkpoint, goes first, comes last."""
    place = config.output
    output = Storage(place.path, place.storage_options, retries=place.retries, watch=tell.within)
    output.remove(f"{CHECKPOINT}/moos.json")
    names = sorted(path.name for path in directory.iterdir() if path.name != "moos.json")
    for name in [*names, "moos.json"]:
        output.put(f"{CHECKPOINT}/{name}", (directory / name).read_bytes())
