"""What each replica and task gets, settled before anything starts.

Ray waits without a word for resources that never come, so what cannot be scheduled is refused here
with the number to change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from moos.devices import has_cuda, num_cpus
from moos.errors import ConfigError
from pipelines.config import CpuStagesConfig, PoolConfig, ReplicaRange

AUTO_CPUS = 4
"""Most CPUs that `auto` gives a replica: the work around the model, 5 to 7 % of the time on 2, is
one thread's for the most part, and would hold up more."""


@dataclass(frozen=True, slots=True)
class Node:
    """A live node of the cluster.

    Attributes:
        cpus: CPUs, as Ray counts them.
        gpus: GPUs, likewise.
        labels: Its Ray labels.
    """

    cpus: float
    gpus: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def has(self, labels: Mapping[str, str]) -> bool:
        """True where the node has all of these labels."""
        return all(self.labels.get(name) == value for name, value in labels.items())

    def without(self, cpus: float) -> "Node":
        """The node with so many CPUs taken."""
        return Node(self.cpus - cpus, self.gpus, self.labels)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a replica gets, and how many replicas there are."""

    min_replicas: int
    max_replicas: int
    cpus: float
    gpus: float
    device: str

    @property
    def threads(self) -> int:
        """Torch threads of a replica: its whole CPUs."""
        return max(1, int(self.cpus))


def resolve_resources(pool: PoolConfig, nodes: Sequence[Node], *, set_aside: str = "") -> Resources:
    """Fill in `auto` from the nodes at hand, and refuse what they cannot hold.

    Args:
        pool: The pool as configured.
        nodes: The live nodes.
        set_aside: What these nodes lack of what they have, in words.

    Raises:
        ConfigError: A replica fits no node, or fewer replicas fit than must.
    """
    fitting = [node for node in nodes if node.has(pool.labels)]
    if not fitting:
        raise ConfigError(
            f"pool.labels={pool.labels} fit none of the {len(nodes)} node(s), whose labels are "
            f"{[dict(node.labels) for node in nodes]}"
        )
    cpus, gpus = _size_replica(pool, fitting)
    room = sum(_fits(node, cpus, gpus) for node in fitting)
    wanted = pool.replicas
    least = 1 if wanted == "auto" else wanted.min if isinstance(wanted, ReplicaRange) else wanted
    if room < least:
        key = "pool.replicas.min" if isinstance(wanted, ReplicaRange) else "pool.replicas"
        shown = ", ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in fitting)
        raise ConfigError(
            f"{key}={least} with cpus_per_replica={cpus:g} and gpus_per_replica={gpus:g} cannot be "
            f"scheduled: {room} fit on {len(fitting)} node(s) with {shown}{set_aside}. Lower "
            f"{key}, pool.cpus_per_replica or pool.gpus_per_replica, or add nodes"
        )
    most = room if wanted == "auto" else wanted.max if isinstance(wanted, ReplicaRange) else wanted
    if most < least:
        raise ConfigError(f"pool.replicas.max={most} is below pool.replicas.min={least}")
    device = pool.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    least = least if wanted != "auto" else most
    return Resources(least, most, cpus, gpus, device)


def reserve_for_tasks(
    config: CpuStagesConfig, pool: PoolConfig, nodes: Sequence[Node]
) -> list[Node]:
    """The nodes with room for one task set aside, on the node where that costs fewest replicas.

    Replicas hold their CPUs as long as they live: were they to take all, tasks would wait for ever.

    Raises:
        ConfigError: A task fits no node.
    """
    fitting = [
        place
        for place, node in enumerate(nodes)
        if node.has(config.labels) and node.cpus >= config.cpus_per_task
    ]
    if not fitting:
        raise ConfigError(
            f"cpu_stages.cpus_per_task={config.cpus_per_task:g} with labels {config.labels} fits "
            f"none of the nodes: {[(node.cpus, dict(node.labels)) for node in nodes]}; lower it, "
            "change cpu_stages.labels, or add nodes"
        )

    def reserved(place: int) -> list[Node]:
        rest = list(nodes)
        rest[place] = rest[place].without(config.cpus_per_task)
        return rest

    def room(place: int) -> int:
        left = [node for node in reserved(place) if node.has(pool.labels)]
        return sum(_fits(node, *_size_replica(pool, left)) for node in left)

    return reserved(max(fitting, key=lambda place: (room(place), nodes[place].cpus)))


def _size_replica(pool: PoolConfig, nodes: Sequence[Node]) -> tuple[float, float]:
    """CPUs and GPUs of a replica, `auto` filled in from the nodes that may hold one."""
    gpus = pool.gpus_per_replica
    if gpus == "auto":
        gpus = 1.0 if sum(node.gpus for node in nodes) >= 1 else 0.0
    cpus = pool.cpus_per_replica
    if cpus == "auto":
        most_cpus = int(max((node.cpus for node in nodes), default=1.0))
        cpus = 1.0 if gpus else float(max(1, min(AUTO_CPUS, most_cpus)))
    return float(cpus), float(gpus)


def _fits(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = max(0, int(node.cpus / cpus + 1e-9))
    if gpus == 0:
        return by_cpu
    if gpus < 1:
        return min(by_cpu, int(node.gpus) * int(1 / gpus + 1e-9))
    return min(by_cpu, int(node.gpus / gpus + 1e-9))


def local_resources(pool: PoolConfig) -> Resources:
    """One replica in this process with its CPUs, on CUDA where there is one."""
    gpus = pool.gpus_per_replica
    if gpus == "auto":
        gpus = 1.0 if has_cuda() else 0.0
    device = pool.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    cpus = pool.cpus_per_replica
    if cpus == "auto":
        cpus = num_cpus()
    return Resources(1, 1, float(cpus), float(gpus), device)
