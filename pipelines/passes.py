"""One pass over splits: given out, watched, and gathered as records, for every job."""

import logging
from collections.abc import Sequence
from typing import Any

from moos.splits import InputSplit
from pipelines.config import JobConfig
from pipelines.events import EventLog
from pipelines.executors import connect_ray, describe_cluster, work_locally, work_on_ray
from pipelines.job_spec import JobSpec
from pipelines.lease import Lease
from pipelines.metrics import PassMetrics
from pipelines.monitor import PassMonitor
from pipelines.progress import ProgressReport
from pipelines.resources import Resources, local_resources, reserve_for_tasks, resolve_resources
from pipelines.split_watch import SplitWatch
from pipelines.stall import StallGuard

logger = logging.getLogger(__name__)


def reserve_resources(config: JobConfig, *, beside_tasks: bool) -> Resources:
    """What each replica gets, checked against what there is before anything starts.

    Args:
        config: The job.
        beside_tasks: Tasks run while replicas hold their CPUs, so one's share is set aside.

    Raises:
        ConfigError: The cluster cannot hold the pool.
    """
    if config.executor == "local":
        return local_resources(config.pool)
    nodes = connect_ray()
    if not beside_tasks:
        return resolve_resources(config.pool, nodes)
    reserved = config.cpu_stages.cpus_per_task
    return resolve_resources(
        config.pool,
        reserve_for_tasks(config.cpu_stages, config.pool, nodes),
        set_aside=f", with cpu_stages.cpus_per_task={reserved:g} set aside for tasks",
    )


def run_pass(
    spec: JobSpec,
    todo: Sequence[InputSplit],
    planned: Sequence[InputSplit],
    resources: Resources,
    lease: Lease,
    events: EventLog,
    *,
    unit: str = "tokens",
) -> tuple[dict[str, dict[str, Any]], int]:
    """Work splits; their records by id, and how many documents a model scored for them.

    Args:
        spec: What is made of them.
        todo: The splits to work.
        planned: All splits of the run, for the share that is done.
        resources: Who works.
        lease: Checked at every record.
        events: The run's log.
        unit: What documents are counted in.

    Raises:
        StalledError: No split made progress for `stall_timeout_s`.
        MoosError: Work failed.
    """
    sizes = {split.id: split.size for split in planned}
    done = sum(sizes.values()) - sum(split.size for split in todo)
    progress = ProgressReport(sum(sizes.values()), done, unit=unit)
    watch = SplitWatch(todo)
    metrics = None
    if spec.job.executor == "ray":
        metrics = PassMetrics(
            job=spec.signature.get("job", "compress"),
            run=events.run,
            pass_name=spec.pass_name,
            unit=unit,
            num_splits=len(todo),
        )
    monitor = PassMonitor(spec, todo, progress, events, watch, metrics)
    worked: dict[str, dict[str, Any]] = {}
    num_scored = 0
    if spec.job.executor == "ray" and spec.needs_model:
        watch.look = lambda: describe_cluster(resources, watch.num_replicas)
    with StallGuard(watch, spec.job.stall_limit_s, events), progress:
        records = (
            work_locally(todo, spec, monitor)
            if spec.job.executor == "local"
            else work_on_ray(todo, spec, resources, monitor)
        )
        for record in records:
            lease.check()
            num_scored += record.pop("documents_scored")
            worked[record["split"]] = monitor.finish(record)
    logger.info("%s", progress.describe()[1])
    return worked, num_scored
