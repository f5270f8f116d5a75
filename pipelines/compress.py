"""The compress run: plan, check, work what is not done, finish.

Resume is planned minus done; nothing else is remembered between runs.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from moos.checkpoint import Checkpoint, Scoring, read_checkpoint, resolve_scoring
from moos.compressor import check_threshold
from moos.errors import ConfigError, ModelError, MoosError
from moos.schema import EXTRA_JSON, output_schema
from moos.selector import Selector
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.executors import (
    Resources,
    connect_ray,
    local_resources,
    resolve_resources,
    work_locally,
    work_on_ray,
)
from pipelines.finish import achieved_rate, build_manifest, finish_run
from pipelines.plan import Plan, check_places, plan_run
from pipelines.progress import ProgressReport
from pipelines.report import write_report
from pipelines.run_state import SUCCESS, RunState, sign_run
from pipelines.work import SplitCounts, WorkSpec

logger = logging.getLogger(__name__)

EXIT_COMPLETE = 0
EXIT_INCOMPLETE = 1
EXIT_QUARANTINED = 3

UNKNOWN_SHARE_WARNED = 0.02
NON_LATIN_SHARE_WARNED = 0.2


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that passed every check that needs no replica."""

    config: CompressConfig
    checkpoint: Checkpoint
    scoring: Scoring
    output: Storage
    state: RunState
    plan: Plan
    done: dict[str, dict[str, Any]]

    @property
    def todo(self) -> list[InputSplit]:
        """Planned splits without a valid done record."""
        return [split for split in self.plan.splits if split.id not in self.done]


def prepare_compress(config: CompressConfig) -> PreparedRun:
    """Plan the run and refuse what cannot work; writes nothing and loads no model.

    Raises:
        ConfigError: Input, output, selection or an earlier run on this output forbids it.
        ModelError: The checkpoint cannot serve as a compressor.
    """
    checkpoint = read_checkpoint(config.checkpoint, config.scoring.preserve_label)
    scoring = resolve_scoring(checkpoint, config.scoring, config.window)
    check_threshold(config.selection, scoring)
    try:
        Selector(config.selection)
    except ModelError as error:
        raise ConfigError(f"selection.budget_tokenizer: {error}") from error
    output = Storage(config.output.path, config.output.storage_options)
    state = RunState(output, sign_run(config, checkpoint, scoring))
    check_places(config.input, output)
    state.check_owner()
    plan = plan_run(config, state.read_schema())
    _check_columns(config, plan.input_schema)
    return PreparedRun(
        config, checkpoint, scoring, output, state, plan, state.read_done(plan.splits)
    )


def _check_columns(config: CompressConfig, schema: pa.Schema) -> None:
    names = [name for name in schema.names if name != EXTRA_JSON]
    output_schema(pa.schema([schema.field(name) for name in names]), config.output.annotations)
    id_column = config.input.id_column
    if id_column is not None and id_column not in names:
        raise ConfigError(
            f"input.id_column={id_column!r} is none of the input's columns: {', '.join(names)}"
        )


def describe_plan(run: PreparedRun) -> dict[str, Any]:
    """What a run would do, for `--dry-run`."""
    todo = run.todo
    return {
        "status": "planned",
        "output": run.config.output.path,
        "files": run.plan.num_files,
        "splits": len(run.plan.splits),
        "splits_done": len(run.done),
        "splits_to_do": len(todo),
        "bytes": sum(split.size for split in run.plan.splits),
        "bytes_to_do": sum(split.size for split in todo),
        "columns": run.plan.input_schema.names,
        "checkpoint_sha256": run.checkpoint.sha256,
    }


def run_compress(config: CompressConfig) -> dict[str, Any]:
    """Run the job to its end; the summary, whose `exit_code` says how it went.

    Raises:
        ConfigError: The run cannot start as configured.
        ModelError: The checkpoint cannot serve as a compressor.
        MoosError: Work failed; the same command resumes.
    """
    began = time.monotonic()
    run = prepare_compress(config)
    todo = run.todo
    logger.info(
        "%d files, %d splits: %d done, %d to do",
        run.plan.num_files,
        len(run.plan.splits),
        len(run.done),
        len(todo),
    )
    resources = _reserve(config) if todo else None
    run.state.begin(config, run.plan.input_schema, run.checkpoint.tokenizer_path.read_bytes())
    run.state.write_plan(run.plan.splits)
    if todo:
        run.output.remove(SUCCESS)
    run.state.note_event("began", splits=len(run.plan.splits), splits_to_do=len(todo))
    try:
        worked = _work(run, todo, resources) if resources is not None else {}
    except MoosError as error:
        run.state.note_event("failed", error=str(error))
        raise
    except KeyboardInterrupt:
        run.state.note_event("interrupted")
        raise
    done = {**run.done, **worked}
    manifest = build_manifest(run.state, run.plan.splits, done)
    write_report(run.output, manifest, config.input.text_column)
    finish_run(run.state, manifest)
    summary = _summarise(run, manifest, worked, time.monotonic() - began)
    run.state.note_event("finished", **summary)
    return summary


def _reserve(config: CompressConfig) -> Resources:
    """What each replica gets, checked against what there is before anything starts."""
    if config.executor == "local":
        return local_resources(config.pool)
    return resolve_resources(config.pool, connect_ray())


def _work(
    run: PreparedRun, todo: Sequence[InputSplit], resources: Resources
) -> dict[str, dict[str, Any]]:
    config = run.config
    spec = WorkSpec(
        config=config,
        signature=run.state.signature,
        input_schema=run.plan.input_schema.serialize().to_pybytes(),
        device="cuda" if resources.gpus else "cpu",
        threads=resources.threads,
    )
    sizes = {split.id: split.size for split in run.plan.splits}
    progress = ProgressReport(sum(sizes.values()), sum(sizes[name] for name in run.done))
    worked: dict[str, dict[str, Any]] = {}
    with progress:
        records = (
            work_locally(todo, spec, progress)
            if config.executor == "local"
            else work_on_ray(todo, spec, resources, progress)
        )
        for record in records:
            progress.finish_split(record["split"], record["counts"], sizes[record["split"]])
            worked[record["split"]] = record
    logger.info("%s", progress.describe()[1])
    return worked


def _summarise(
    run: PreparedRun,
    manifest: Mapping[str, Any],
    worked: Mapping[str, dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    totals = {key: value for key, value in manifest["totals"].items() if key != "rate"}
    counts = SplitCounts(**totals)
    in_this_run = SplitCounts()
    for record in worked.values():
        in_this_run.add(SplitCounts(**record["counts"]))
    exit_code = _judge(run, manifest, counts)
    _warn_about_text(counts)
    return {
        "status": "complete" if exit_code == EXIT_COMPLETE else "quarantined",
        "exit_code": exit_code,
        "output": run.config.output.path,
        **asdict(counts),
        "rate": round(achieved_rate(counts), 6),
        "splits": len(run.plan.splits),
        "splits_resumed": len(run.done),
        "seconds": round(seconds, 1),
        "tokens_per_s": round(in_this_run.tokens / seconds) if worked else 0,
    }


def _judge(run: PreparedRun, manifest: Mapping[str, Any], counts: SplitCounts) -> int:
    records = counts.documents + counts.quarantined
    if counts.quarantined == 0:
        return EXIT_COMPLETE
    share = counts.quarantined / records
    limit = run.config.max_quarantined
    first = _first_quarantined(run.output, manifest)
    where = f"See {run.config.output.path}/quarantine/"
    if counts.damaged_files:
        logger.error("%d damaged file(s). First: %s. %s", counts.damaged_files, first, where)
        return EXIT_QUARANTINED
    if share > limit:
        logger.error(
            "%.3g %% of %d records quarantined, over max_quarantined=%g. First: %s. %s. "
            "Raise max_quarantined if this is expected",
            100 * share,
            records,
            limit,
            first,
            where,
        )
        return EXIT_QUARANTINED
    logger.warning(
        "%d of %d records quarantined. First: %s. %s", counts.quarantined, records, first, where
    )
    return EXIT_COMPLETE


def _first_quarantined(output: Storage, manifest: Mapping[str, Any]) -> str:
    for entry in manifest["splits"]:
        if entry["quarantine"] is not None:
            record = json.loads(output.get(entry["quarantine"]["name"]).split(b"\n", 1)[0])
            name = f", id {record['id']!r}" if record["id"] else ""
            return f"{record['path']} at {record['position']}{name}: {record['reason']}"
    return "none"


def _warn_about_text(counts: SplitCounts) -> None:
    with suppress(ZeroDivisionError):
        share = counts.unknown_tokens / counts.encoder_tokens
        if share > UNKNOWN_SHARE_WARNED:
            logger.warning(
                "%.1f %% of tokens are unknown to the checkpoint's vocabulary: it decides about "
                "them blindly; use a checkpoint for these languages",
                100 * share,
            )
        share = counts.non_latin_chars / counts.chars
        if share > NON_LATIN_SHARE_WARNED:
            logger.warning(
                "%.1f %% of characters are letters of non-Latin scripts; the default checkpoint "
                "was trained on English",
                100 * share,
            )
