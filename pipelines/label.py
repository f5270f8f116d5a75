"""The labelling run: plan, label what is not done, filter by the corpus, finish.

Resume is planned minus done, as when compressing. Filters by percentile need the whole corpus: then
a first pass labels every split and keeps the rows under `_run/`, and a second one, which needs no
teacher, writes them with the filters that each fails.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.alignment import PairBounds, PairFigures, resolve_bounds
from moos.errors import ConfigError, MoosError
from moos.label_config import LocalTeacherConfig
from moos.labelled_rows import read_figures
from moos.labelling import check_teacher
from moos.schema import EXTRA_JSON
from moos.splits import InputSplit
from moos.storage import Storage
from moos.text_columns import is_text_type
from pipelines.document_ids import count_ids
from pipelines.events import EventLog
from pipelines.finish import build_manifest, finish_run
from pipelines.label_config import LabelConfig
from pipelines.label_report import write_label_report
from pipelines.label_signature import sign_label
from pipelines.label_spec import LabelSpec, LabelTask
from pipelines.label_summary import sum_labels, summarise_labels
from pipelines.lease import Lease
from pipelines.passes import reserve_resources, run_pass
from pipelines.phase_watch import PhaseWatch
from pipelines.plan import check_places, plan_run
from pipelines.prepared_run import PreparedRun, begun, noted, open_output
from pipelines.resources import Resources
from pipelines.run_state import RunState, dump_json
from pipelines.staged_dataset import stage_dataset

logger = logging.getLogger(__name__)

BOUNDS = "_run/bounds.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedLabelling(PreparedRun):
    """A labelling run that passed every check that needs no teacher.

    Attributes:
        config: The job.
    """

    config: LabelConfig


def prepare_label(config: LabelConfig, watch: PhaseWatch | None = None) -> PreparedLabelling:
    """Plan the run and refuse what cannot work; asks no teacher.

    Args:
        config: The job.
        watch: Told what goes on.

    Raises:
        ConfigError: Input, output, teacher or an earlier run on this output forbids it.
    """
    watch = watch or PhaseWatch()
    output, watched = open_output(config.output, watch)
    state = RunState(watched, sign_label(config))
    if isinstance(config.teacher, LocalTeacherConfig):
        with watch.call(f"look for teacher.path={config.teacher.path}"):
            _check_model(config.teacher)
    check_teacher(config.teacher)
    check_places(config.input, output)
    state.check_owner()
    stage_dataset(config.input, watch)
    plan = plan_run(config, state.read_schema(), state.read_plan(), (), watch)
    _check_columns(config, plan.input_schema)
    done = state.read_done(plan.splits)
    return PreparedLabelling(config=config, output=output, state=state, plan=plan, done=done)


def _check_model(teacher: LocalTeacherConfig) -> None:
    name = teacher.gguf_file or "config.json"
    told = f"teacher.path={teacher.path!r}"
    if Path(teacher.path).is_dir():
        if not Path(teacher.path, name).is_file():
            raise ConfigError(
                f"{told} has no {name}; give the directory of an instruction-tuned causal language "
                "model"
            )
        return
    if teacher.path.startswith((".", "/", "~")) or teacher.path.count("/") != 1:
        raise ConfigError(
            f"{told} is not a directory; give a directory or a hub id such as owner/name"
        )
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(teacher.path, name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{told} is no local directory, and the hub did not give its {name}: {error}"
        ) from error


def _check_columns(config: LabelConfig, schema: pa.Schema) -> None:
    names = [name for name in schema.names if name != EXTRA_JSON]
    for key, column in config.columns.items():
        if column not in names:
            raise ConfigError(
                f"{key}={column!r} is none of the input's columns: {', '.join(names)}"
            )
    compressed = config.columns.get("teacher.compressed_column")
    if compressed is not None and not is_text_type(schema.field(compressed).type):
        raise ConfigError(
            f"teacher.compressed_column={compressed!r} is {schema.field(compressed).type}; it must "
            "hold strings"
        )


def run_label(config: LabelConfig, *, retry_quarantined: bool = False) -> dict[str, Any]:
    """Run the job to its end; the summary, whose `exit_code` says how it went.

    Args:
        config: The job.
        retry_quarantined: Try the records again that earlier runs quarantined, and only those,
            besides what is not done yet.

    Raises:
        ConfigError: The run cannot start as configured.
        ModelError: The teacher cannot be loaded, or refuses its task.
        MoosError: Work failed, or another run works on the output; the same command resumes.
    """
    began = time.monotonic()
    watch = PhaseWatch(config.stall_limit_s)
    sized = config.model_copy(update={"pool": config.sized_pool})
    with begun(
        lambda watch: prepare_label(config, watch),
        config,
        watch,
        reserve=lambda: reserve_resources(sized, beside_tasks=False),
        retry_quarantined=retry_quarantined,
    ) as (run, lease, resources):
        return _run_leased(run, lease, resources, watch, began)


def _run_leased(
    run: PreparedLabelling,
    lease: Lease,
    resources: Resources | None,
    watch: PhaseWatch,
    began: float,
) -> dict[str, Any]:
    config, state, splits = run.config, run.state, run.plan.splits
    with noted(run, lease, job="label", unit="words") as events:
        passes = _Passes(run, lease, resources, watch, events)
        worked = passes.run(run.todo) if run.todo else {}
        if run.retried:
            worked |= passes.retry(run.retried)
        with watch.guard("finishing", events):
            done = {**run.done, **worked}
            sums = sum_labels(done, _read_bounds(state.output))
            if config.input.id_column is not None:
                records = [done[split.id] for split in splits]
                sums["ids"] = count_ids(state.output, records, "id")
            manifest = build_manifest(state, splits, done, sums)
            write_label_report(state.output, manifest)
            finish_run(state, manifest, lease, watch)
            summary = summarise_labels(config, run, manifest, worked, passes.num_labelled, began)
        events.note("finished", **summary)
    return summary


class _Passes:
    """The splits of one run being worked, in one pass or in the two of percentile filters."""

    def __init__(
        self,
        run: PreparedLabelling,
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
        self.num_labelled = 0

    def run(self, todo: Sequence[InputSplit]) -> dict[str, dict[str, Any]]:
        """Work the splits; their done records by id."""
        filters, state = self._run.config.filters, self._run.state
        if not filters.needs_corpus:
            bounds = resolve_bounds(filters.to_filters(), [])
            with self._watch.guard("planning", self._events):
                state.output.put(BOUNDS, dump_json(asdict(bounds)))
            return self._pass(todo, "label", bounds)
        with self._watch.guard("planning", self._events):
            labelled = state.read_scored(todo)
        unlabelled = [split for split in todo if split.id not in labelled]
        logger.info("first pass: %d of %d splits are labelled already", len(labelled), len(todo))
        if unlabelled:
            self._pass(unlabelled, "label", None)
        with self._watch.guard("settling the filters", self._events):
            settled = _read_bounds(state.output) or self._settle_bounds()
        logger.info("second pass: filters come to %s", json.dumps(asdict(settled)))
        return self._pass(todo, "filter", settled)

    def retry(self, splits: Sequence[InputSplit]) -> dict[str, dict[str, Any]]:
        """Try the quarantined records of done splits again; the new done records by id."""
        logger.info("trying the quarantined records of %d splits again", len(splits))
        with self._watch.guard("planning", self._events):
            bounds = _read_bounds(self._run.state.output) or self._settle_bounds()
        return self._pass(splits, "retry", bounds)

    def _settle_bounds(self) -> PairBounds:
        """What the filters come to over all that is planned, for the output's life."""
        run = self._run
        if run.done:
            raise MoosError(
                f"{run.output.url}/{BOUNDS} is gone, although splits were filtered by it; put it "
                "back, or label into another output.path"
            )
        figures: list[PairFigures] = []
        for record in run.state.read_scored(run.plan.splits).values():
            if record["data"] is not None:
                data = run.state.output.get(record["data"]["name"])
                figures.extend(read_figures(pq.read_table(pa.BufferReader(data))))
        bounds = resolve_bounds(run.config.filters.to_filters(), figures)
        run.state.output.put(BOUNDS, dump_json(asdict(bounds)))
        return bounds

    def _pass(
        self, todo: Sequence[InputSplit], task: LabelTask, bounds: PairBounds | None
    ) -> dict[str, dict[str, Any]]:
        run, resources = self._run, self._resources
        assert resources is not None, "resources are settled where there is work"
        spec = LabelSpec(
            config=run.config,
            signature=run.state.signature,
            input_schema=run.plan.input_schema.serialize().to_pybytes(),
            driver=self._lease.owner,
            device=resources.device,
            threads=resources.threads,
            task=task,
            bounds=bounds,
        )
        worked, num_labelled = run_pass(
            spec, todo, run.plan.splits, resources, self._lease, self._events, unit="words"
        )
        self.num_labelled += num_labelled
        return worked


def _read_bounds(output: Storage) -> PairBounds | None:
    """What the filters come to, or None before a run has settled it."""
    try:
        return PairBounds(**json.loads(output.get(BOUNDS)))
    except FileNotFoundError:
        return None
