"""The compress run: plan, check, work what is not done, finish.

Resume is planned minus done; nothing else is remembered between runs.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from moos.checkpoint import Checkpoint, Scoring, read_checkpoint, resolve_scoring
from moos.compressor import check_threshold
from moos.corpus import CorpusThreshold, ScoreHistogram, find_threshold, merge_histograms
from moos.errors import ConfigError, ModelError, MoosError
from moos.schema import EXTRA_JSON, output_schema, reserved_columns
from moos.scores import GRID
from moos.selector import Selector
from moos.splits import InputSplit
from pipelines.compress_signature import sign_run
from pipelines.config import CompressConfig
from pipelines.document_ids import count_ids
from pipelines.events import EventLog, read_timings
from pipelines.finish import build_manifest, finish_run
from pipelines.lease import Lease
from pipelines.passes import reserve_resources, run_pass
from pipelines.phase_watch import PhaseWatch
from pipelines.plan import check_places, plan_run
from pipelines.prepared_run import PreparedRun, begun, noted, open_output
from pipelines.report import write_report
from pipelines.resources import Resources
from pipelines.run_state import BUDGET_TOKENIZER, TOKENIZER, RunState
from pipelines.summary import sum_documents, summarise
from pipelines.work_spec import Task, WorkSpec

logger = logging.getLogger(__name__)

HISTOGRAMS_AT_ONCE = 500
"""Scored records held in memory together while their histograms are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCompress(PreparedRun):
    """A compress run that passed every check that needs no replica.

    Attributes:
        config: The job.
        checkpoint: What compresses.
        scoring: How its outputs become scores.
    """

    config: CompressConfig
    checkpoint: Checkpoint
    scoring: Scoring


def prepare_compress(config: CompressConfig, watch: PhaseWatch | None = None) -> PreparedCompress:
    """Plan the run and refuse what cannot work; writes nothing and loads no model.

    Args:
        config: The job.
        watch: Told what goes on.

    Raises:
        ConfigError: Input, output, selection or an earlier run on this output forbids it.
        ModelError: The checkpoint cannot serve as a compressor.
    """
    watch = watch or PhaseWatch()
    with watch.call(f"read the checkpoint {config.checkpoint}"):
        checkpoint = read_checkpoint(config.checkpoint, config.scoring.preserve_label)
    scoring = resolve_scoring(checkpoint, config.scoring, config.window)
    check_threshold(config.selection, scoring)
    try:
        Selector(config.selection)
    except ModelError as error:
        raise ConfigError(f"selection.budget_tokenizer: {error}") from error
    output, watched = open_output(config.output, watch)
    state = RunState(watched, sign_run(config, checkpoint, scoring))
    check_places(config.input, output)
    state.check_owner()
    reserved = reserved_columns(chunks=config.output.chunks.tokens is not None)
    plan = plan_run(config, state.read_schema(), state.read_plan(), reserved, watch)
    _check_columns(config, plan.input_schema)
    return PreparedCompress(
        config=config,
        checkpoint=checkpoint,
        scoring=scoring,
        output=output,
        state=state,
        plan=plan,
        done=state.read_done(plan.splits),
    )


def _check_columns(config: CompressConfig, schema: pa.Schema) -> None:
    names = [name for name in schema.names if name != EXTRA_JSON]
    output_schema(
        pa.schema([schema.field(name) for name in names]),
        config.output.annotations,
        chunks=config.output.chunks.tokens is not None,
    )
    id_column = config.input.id_column
    if id_column is not None and id_column not in names:
        raise ConfigError(
            f"input.id_column={id_column!r} is none of the input's columns: {', '.join(names)}"
        )


def describe_plan(run: PreparedCompress) -> dict[str, Any]:
    """What a run would do, for `--dry-run`."""
    return {**run.describe(), "checkpoint_sha256": run.checkpoint.sha256}


def run_compress(config: CompressConfig, *, retry_quarantined: bool = False) -> dict[str, Any]:
    """Run the job to its end; the summary, whose `exit_code` says how it went.

    Args:
        config: The job.
        retry_quarantined: Try the records again that earlier runs quarantined, and only those,
            besides what is not done yet.

    Raises:
        ConfigError: The run cannot start as configured.
        ModelError: The checkpoint cannot serve as a compressor.
        MoosError: Work failed, or another run works on the output; the same command resumes.
    """
    began = time.monotonic()
    watch = PhaseWatch(config.stall_limit_s)
    with begun(
        lambda watch: prepare_compress(config, watch),
        config,
        watch,
        reserve=lambda: reserve_resources(config, beside_tasks=config.stages == "split"),
        files=_own_files,
        retry_quarantined=retry_quarantined,
    ) as (run, lease, resources):
        return _run_leased(run, lease, resources, watch, began)


def _own_files(run: PreparedCompress) -> dict[str, bytes]:
    """What a run keeps of what it is told to use."""
    files = {TOKENIZER: run.checkpoint.tokenizer_path.read_bytes()}
    if run.config.selection.budget_tokenizer is not None:
        files[BUDGET_TOKENIZER] = Path(run.config.selection.budget_tokenizer).read_bytes()
    return files


def _run_leased(
    run: PreparedCompress,
    lease: Lease,
    resources: Resources | None,
    watch: PhaseWatch,
    began: float,
) -> dict[str, Any]:
    with noted(run, lease, job="compress", unit="tokens") as events:
        work = _Work(run, lease, resources, watch, events)
        worked = work.run(run.todo) if run.todo else {}
        if run.retried:
            worked |= work.retry(run.retried)
        with watch.guard("finishing", events):
            manifest = _finish(run, {**run.done, **worked}, lease, watch, events)
            summary = summarise(
                run.config,
                run.state.output,
                manifest,
                worked=worked.values(),
                splits_resumed=len(run.done),
                documents_scored=work.documents_scored,
                seconds=time.monotonic() - began,
            )
        events.note("finished", **summary)
    return summary


def _finish(
    run: PreparedCompress,
    done: dict[str, dict[str, Any]],
    lease: Lease,
    watch: PhaseWatch,
    events: EventLog,
) -> dict[str, Any]:
    """Publish what the splits came to; the manifest."""
    config, state, splits = run.config, run.state, run.plan.splits
    corpus = None if config.selection.corpus_rate is None else state.read_threshold()
    sums = sum_documents(done, corpus)
    if config.input.id_column is not None:
        records = [done[split.id] for split in splits]
        sums["ids"] = count_ids(state.output, records, config.input.id_column)
    manifest = build_manifest(state, splits, done, sums)
    timings = read_timings(state.output, events)
    slowest = timings.slowest({split.id for split in splits})
    write_report(state.output, manifest, done, config=config, timings=slowest)
    finish_run(state, manifest, lease, watch)
    return manifest


class _Work:
    """The splits of one run being worked, in one pass or in the two of a corpus rate."""

    def __init__(
        self,
        run: PreparedCompress,
        lease: Lease,
        resources: Resources | None,
        watch: PhaseWatch,
        events: EventLog,
    ) -> None:
        self._run = run
        self._lease = lease
        self._resources = resources
        self._watch = watch
        self._events = events
        self.documents_scored = 0

    def run(self, todo: Sequence[InputSplit]) -> dict[str, dict[str, Any]]:
        """Work the splits; their done records by id."""
        rate = self._run.config.selection.corpus_rate
        if rate is None:
            return self._pass(todo, "compress")
        with self._watch.guard("planning", self._events):
            scored = self._run.state.read_scored(todo)
        unscored = [split for split in todo if split.id not in scored]
        logger.info("first pass: %d of %d splits are scored already", len(scored), len(todo))
        if unscored:
            self._pass(unscored, "score")
        with self._watch.guard("settling the threshold", self._events):
            corpus = self._run.state.read_threshold() or self._settle_threshold(rate)
        logger.info(
            "second pass: words that score %.4f or more stay, and %d protected tokens of %d",
            corpus.level / GRID,
            corpus.protected_tokens,
            corpus.num_tokens,
        )
        return self._pass(todo, "select", corpus)

    def retry(self, splits: Sequence[InputSplit]) -> dict[str, dict[str, Any]]:
        """Try the quarantined records of done splits again; the new done records by id."""
        logger.info("trying the quarantined records of %d splits again", len(splits))
        return self._pass(splits, "retry", self._run.state.read_threshold())

    def _settle_threshold(self, rate: float) -> CorpusThreshold:
        """The threshold over all that is planned, for the output's life."""
        splits = self._run.plan.splits
        if self._run.done:
            raise MoosError(
                f"{self._run.output.url}/_run/threshold.json is gone, although splits were "
                "selected by it; put it back, or compress into another output.path"
            )
        records = (
            record
            for start in range(0, len(splits), HISTOGRAMS_AT_ONCE)
            for record in self._run.state.read_scored(
                splits[start : start + HISTOGRAMS_AT_ONCE]
            ).values()
        )
        histogram = merge_histograms(
            ScoreHistogram.from_json(record["histogram"]) for record in records
        )
        corpus = find_threshold(histogram, rate)
        self._run.state.write_threshold(corpus)
        return corpus

    def _pass(
        self, todo: Sequence[InputSplit], task: Task, corpus: CorpusThreshold | None = None
    ) -> dict[str, dict[str, Any]]:
        run, resources = self._run, self._resources
        assert resources is not None, "resources are settled where there is work"
        spec = WorkSpec(
            config=run.config,
            signature=run.state.signature,
            input_schema=run.plan.input_schema.serialize().to_pybytes(),
            task=task,
            role="all",
            driver=self._lease.owner,
            device=resources.device,
            threads=resources.threads,
            corpus=corpus,
        )
        worked, num_scored = run_pass(
            spec, todo, run.plan.splits, resources, self._lease, self._events
        )
        self.documents_scored += num_scored
        return worked
