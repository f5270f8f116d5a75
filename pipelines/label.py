"""The labelling run: plan, label what is not done, filter by the corpus, finish.

Resume is planned minus done, as when compressing. Filters by percentile need the whole corpus: then
a first pass labels every split and keeps the rows under `_run/`, and a second one, which needs no
teacher, writes them with the filters that each fails.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.alignment import PairBounds, PairFigures, resolve_bounds
from moos.errors import ConfigError, MoosError
from moos.label_config import EndpointTeacherConfig, LocalTeacherConfig, to_prompt
from moos.labelled_rows import LabelSums, read_figures
from moos.labelling import check_teacher
from moos.schema import EXTRA_JSON
from moos.splits import InputSplit
from moos.storage import Storage
from moos.teachers.answer_cache import version_of
from moos.text_columns import is_text_type
from pipelines.events import EventLog
from pipelines.finish import build_manifest, finish_run
from pipelines.label_config import LabelConfig
from pipelines.label_report import write_label_report
from pipelines.label_spec import LabelSpec, LabelTask
from pipelines.lease import Lease
from pipelines.passes import reserve_resources, run_pass
from pipelines.plan import check_places, plan_run
from pipelines.prepared_run import PreparedRun, look_again, noted
from pipelines.reasons import add_kinds
from pipelines.resources import Resources
from pipelines.run_state import CONTRACT_VERSION, RunState, dump_json
from pipelines.staged_dataset import stage_dataset
from pipelines.summary import EXIT_COMPLETE, judge

logger = logging.getLogger(__name__)

BOUNDS = "_run/bounds.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedLabelling(PreparedRun):
    """A labelling run that passed every check that needs no teacher.

    Attributes:
        config: The job.
    """

    config: LabelConfig


def prepare_label(config: LabelConfig) -> PreparedLabelling:
    """Plan the run and refuse what cannot work; asks no teacher.

    Raises:
        ConfigError: Input, output, teacher or an earlier run on this output forbids it.
    """
    output = Storage(
        config.output.path, config.output.storage_options, retries=config.output.retries
    )
    state = RunState(output, sign_label(config))
    check_teacher(config.teacher)
    check_places(config.input, output)
    state.check_owner()
    stage_dataset(config.input)
    plan = plan_run(config, state.read_schema(), state.read_plan(), reserved=())
    _check_columns(config, plan.input_schema)
    done = state.read_done(plan.splits)
    return PreparedLabelling(config=config, output=output, state=state, plan=plan, done=done)


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


def sign_label(config: LabelConfig) -> dict[str, Any]:
    """Everything that decides the labels, as dotted keys.

    Where work runs, where a model is served, and how much may fail, is not part of it.
    """
    signature: dict[str, Any] = {"contract_version": CONTRACT_VERSION, "job": "label"}
    left_out = {"storage_options", "retries", "dataset", "path"}
    if config.input.partitioning == "auto":  # as it was before there was such a key
        left_out.add("partitioning")
    parts = {
        "input": config.input.model_dump(mode="json", exclude=left_out),
        "filters": config.filters.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
        "teacher": _sign_teacher(config),
    }
    for part, values in parts.items():
        signature.update({f"{part}.{name}": value for name, value in values.items()})
    return {**signature, "input.path": list(config.input.paths)}


def _sign_teacher(config: LabelConfig) -> dict[str, Any]:
    teacher = config.teacher
    if isinstance(teacher, EndpointTeacherConfig):
        fields = {
            "kind",
            "model",
            "temperature",
            "max_tokens",
            "max_words",
            "extra_body",
            "aligner",
        }
        prompt = version_of(to_prompt(teacher.prompt))
        return {**teacher.model_dump(mode="json", include=fields), "prompt": prompt}
    if isinstance(teacher, LocalTeacherConfig):
        values = teacher.model_dump(mode="json", exclude={"path"})
        prompt = version_of(to_prompt(teacher.prompt))
        return {**values, "prompt": prompt, "model_sha256": _hash_model(teacher)}
    return teacher.model_dump(mode="json")


def _hash_model(teacher: LocalTeacherConfig) -> str | None:
    """Hash of a model directory's small files and the sizes of its large ones; None for a hub id.

    Weights of gigabytes are not read only to be told from others: their size, with the config and
    the tokenizer, tells them in practice.
    """
    directory = Path(teacher.path)
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(item for item in directory.iterdir() if item.is_file()):
        content = path.read_bytes() if path.suffix == ".json" else b""
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + content)
    return digest.hexdigest()


def run_label(config: LabelConfig) -> dict[str, Any]:
    """Run the job to its end; the summary, whose `exit_code` says how it went.

    Raises:
        ConfigError: The run cannot start as configured.
        ModelError: The teacher cannot be loaded, or refuses its task.
        MoosError: Work failed, or another run works on the output; the same command resumes.
    """
    began = time.monotonic()
    run = prepare_label(config)
    resources = None
    if run.todo:
        sized = config.model_copy(update={"pool": config.sized_pool})
        resources = reserve_resources(sized, beside_tasks=False)
    with Lease(run.output) as lease:
        run = look_again(run)
        return _run_leased(run, lease, resources, began)


def _run_leased(
    run: PreparedLabelling, lease: Lease, resources: Resources | None, began: float
) -> dict[str, Any]:
    state, todo = run.state, run.todo
    state.begin(run.config, run.plan.input_schema)
    with noted(run, lease, job="label", unit="words") as events:
        passes = _Passes(run, lease, resources, events)
        worked = passes.run(todo) if todo else {}
        done = {**run.done, **worked}
        sums = sum_labels(done, _read_bounds(run.output))
        manifest = build_manifest(state, run.plan.splits, done, sums)
        write_label_report(run.output, manifest)
        finish_run(state, manifest, lease.confirm)
        summary = summarise_labels(run, manifest, worked, passes.num_labelled, began)
        events.note("finished", **summary)
    return summary


class _Passes:
    """The splits of one run being worked, in one pass or in the two of percentile filters."""

    def __init__(
        self,
        run: PreparedLabelling,
        lease: Lease,
        resources: Resources | None,
        events: EventLog,
    ) -> None:
        self._run = run
        self._lease = lease
        self._resources = resources
        self._events = events
        self.num_labelled = 0

    def run(self, todo: Sequence[InputSplit]) -> dict[str, dict[str, Any]]:
        """Work the splits; their done records by id."""
        filters = self._run.config.filters
        if not filters.needs_corpus:
            bounds = resolve_bounds(filters.to_filters(), [])
            self._run.output.put(BOUNDS, dump_json(asdict(bounds)))
            return self._pass(todo, "label", bounds)
        labelled = self._run.state.read_scored(todo)
        unlabelled = [split for split in todo if split.id not in labelled]
        logger.info("first pass: %d of %d splits are labelled already", len(labelled), len(todo))
        if unlabelled:
            self._pass(unlabelled, "label", None)
        settled = _read_bounds(self._run.output) or self._settle_bounds()
        logger.info("second pass: filters come to %s", json.dumps(asdict(settled)))
        return self._pass(todo, "filter", settled)

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
                data = run.output.get(record["data"]["name"])
                figures.extend(read_figures(pq.read_table(pa.BufferReader(data))))
        bounds = resolve_bounds(run.config.filters.to_filters(), figures)
        run.output.put(BOUNDS, dump_json(asdict(bounds)))
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


def sum_labels(done: Mapping[str, Mapping[str, Any]], bounds: PairBounds | None) -> dict[str, Any]:
    """What the manifest says of all splits together, from their done records."""
    sums = LabelSums()
    counts = {"documents": 0, "quarantined": 0, "damaged_files": 0, "input_bytes": 0}
    for record in done.values():
        sums.add(LabelSums(**record["sums"]))
        counts = {name: value + record["counts"][name] for name, value in counts.items()}
    names = ("chars", "words", "labelled_words", "kept_words", "passed")
    return {
        "totals": {**counts, **{name: sums.counts.get(name, 0) for name in names}},
        "quarantined_by_reason": add_kinds(
            record.get("quarantined_by_reason", {}) for record in done.values()
        ),
        "domains": sums.domains,
        "histograms": sums.histograms,
        "bounds": None if bounds is None else asdict(bounds),
    }


def summarise_labels(
    run: PreparedLabelling,
    manifest: Mapping[str, Any],
    worked: Mapping[str, Mapping[str, Any]],
    num_labelled: int,
    began: float,
) -> dict[str, Any]:
    """What the job prints, its exit code in it; warnings are logged."""
    totals = manifest["totals"]
    exit_code = judge(run.config, run.output, manifest)
    if totals["documents"] and totals["passed"] < totals["documents"] / 2:
        logger.warning(
            "only %d of %d documents pass the filters (%s); see %s/report.html",
            totals["passed"],
            totals["documents"],
            json.dumps(manifest["bounds"]),
            run.config.output.path,
        )
    seconds = time.monotonic() - began
    words = sum(record["counts"]["words"] for record in worked.values())
    return {
        "status": "complete" if exit_code == EXIT_COMPLETE else "quarantined",
        "exit_code": exit_code,
        "output": run.config.output.path,
        **totals,
        "quarantined_by_reason": manifest["quarantined_by_reason"],
        "keep_rate": round(totals["kept_words"] / max(1, totals["labelled_words"]), 6),
        "splits": len(manifest["splits"]),
        "splits_resumed": len(run.done),
        "documents_labelled": num_labelled,
        "seconds": round(seconds, 1),
        "words_per_s": round(words / max(seconds, 1e-9)),
    }
