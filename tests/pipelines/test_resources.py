"""What a replica and a task get, and what is refused because it could never be scheduled."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.config import load_config
from moos.errors import ConfigError
from pipelines.config import CompressConfig, CpuStagesConfig, PoolConfig
from pipelines.resources import (
    Node,
    Resources,
    local_resources,
    reserve_for_tasks,
    resolve_resources,
)

LAPTOP = [Node(8.0, 0.0)]
GPU_BOX = [Node(16.0, 4.0)]
CLUSTER = [Node(4.0, 0.0), Node(16.0, 2.0), Node(16.0, 2.0)]
ZONES = [
    Node(16.0, 2.0, {"zone": "a", "role": "gpu"}),
    Node(16.0, 1.0, {"zone": "a"}),
    Node(64.0, 8.0),
]
MIXED = [
    Node(2.0, 0.0, {"role": "cpu"}),
    Node(2.0, 0.0, {"role": "cpu"}),
    Node(32.0, 4.0, {"role": "gpu"}),
]


@pytest.mark.parametrize(
    ("pool", "nodes", "expected"),
    [
        ({}, LAPTOP, Resources(2, 2, 4.0, 0.0, "cpu")),
        ({}, [Node(2.0, 0.0)], Resources(1, 1, 2.0, 0.0, "cpu")),
        ({}, [Node(1.0, 0.0)], Resources(1, 1, 1.0, 0.0, "cpu")),
        ({}, GPU_BOX, Resources(4, 4, 1.0, 1.0, "cuda")),
        ({}, CLUSTER, Resources(4, 4, 1.0, 1.0, "cuda")),
        ({"gpus_per_replica": 0}, GPU_BOX, Resources(4, 4, 4.0, 0.0, "cpu")),
        ({"gpus_per_replica": 0.25}, GPU_BOX, Resources(16, 16, 1.0, 0.25, "cuda")),
        ({"gpus_per_replica": 0.3}, GPU_BOX, Resources(12, 12, 1.0, 0.3, "cuda")),  # 3 to a GPU
        (
            {"gpus_per_replica": 0.5, "cpus_per_replica": 3},
            GPU_BOX,
            Resources(5, 5, 3.0, 0.5, "cuda"),
        ),
        ({"gpus_per_replica": 2}, CLUSTER, Resources(2, 2, 1.0, 2.0, "cuda")),
        ({"gpus_per_replica": 0.6}, [Node(9.0, 2.0)], Resources(2, 2, 1.0, 0.6, "cuda")),
        ({"cpus_per_replica": 0.5}, [Node(2.0, 0.0)], Resources(4, 4, 0.5, 0.0, "cpu")),
        ({"cpus_per_replica": 0.1}, [Node(1.0, 0.0)], Resources(10, 10, 0.1, 0.0, "cpu")),
        ({"cpus_per_replica": 3}, CLUSTER, Resources(4, 4, 3.0, 1.0, "cuda")),
        ({"replicas": 1}, LAPTOP, Resources(1, 1, 4.0, 0.0, "cpu")),
        ({"replicas": 3}, CLUSTER, Resources(3, 3, 1.0, 1.0, "cuda")),
        (
            {"replicas": {"min": 1, "max": 8}},
            LAPTOP,
            Resources(1, 8, 4.0, 0.0, "cpu"),
        ),  # may autoscale
        ({"replicas": {"min": 2, "max": 2}}, LAPTOP, Resources(2, 2, 4.0, 0.0, "cpu")),
        ({"labels": {"zone": "a"}}, ZONES, Resources(3, 3, 1.0, 1.0, "cuda")),
        ({"labels": {"zone": "a", "role": "gpu"}}, ZONES, Resources(2, 2, 1.0, 1.0, "cuda")),
        # Only nodes that may hold a replica decide what `auto` is.
        ({"labels": {"role": "cpu"}}, MIXED, Resources(2, 2, 2.0, 0.0, "cpu")),
        ({"labels": {"role": "gpu"}}, MIXED, Resources(4, 4, 1.0, 1.0, "cuda")),
        ({"device": "cpu"}, GPU_BOX, Resources(4, 4, 1.0, 1.0, "cpu")),  # a layout tried out
        ({"device": "cuda", "gpus_per_replica": 0}, LAPTOP, Resources(2, 2, 4.0, 0.0, "cuda")),
    ],
)
def test_what_a_replica_gets(pool, nodes, expected):
    assert resolve_resources(PoolConfig.model_validate(pool), nodes) == expected


@pytest.mark.parametrize(
    ("pool", "nodes", "told"),
    [
        ({"replicas": 3}, LAPTOP, "pool.replicas=3 .* cannot be scheduled: 2 fit on 1 node"),
        ({"replicas": 5}, CLUSTER, "pool.replicas=5 .*: 4 fit on 3 node.*16 CPUs and 2 GPUs"),
        ({"cpus_per_replica": 9}, LAPTOP, "cpus_per_replica=9 .* 0 fit on 1 node"),
        ({"gpus_per_replica": 1}, LAPTOP, "gpus_per_replica=1 cannot be scheduled: 0 fit"),
        ({"gpus_per_replica": 4}, CLUSTER, "gpus_per_replica=4 cannot be scheduled: 0 fit"),
        ({"cpus_per_replica": 20}, CLUSTER, "cpus_per_replica=20"),  # enough in sum, on no node
        ({"replicas": {"min": 5, "max": 9}}, GPU_BOX, "pool.replicas.min=5 .* 4 fit"),
        ({"replicas": {"min": 2, "max": 1}}, GPU_BOX, "pool.replicas.max=1 is below .*min=2"),
        ({}, [], "none of the 0 node"),
        ({"labels": {"role": "gpu"}}, GPU_BOX, r"pool\.labels=.*gpu.* none of the 1 node"),
        ({"labels": {"zone": "b"}}, ZONES, "none of the 3 node.*'zone': 'a'"),
        ({"labels": {"zone": "a"}, "replicas": 4}, ZONES, "3 fit on 2 node"),
    ],
)
def test_what_can_never_be_scheduled_is_refused_with_the_key_and_the_number(pool, nodes, told):
    with pytest.raises(ConfigError, match=told):
        resolve_resources(PoolConfig.model_validate(pool), nodes)


@pytest.mark.parametrize(
    "override",
    [
        "pool.gpus_per_replica=1.5",
        "pool.cpus_per_replica=0",
        "pool.replicas=0",
        "pool.replicas=many",
        "pool.replicas={min: 1}",
        "pool.gpus_per_replica=-1",
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(override):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        load_config(CompressConfig, None, ["input.path=a", "output.path=b", override])


def test_torch_threads_of_a_replica_are_its_whole_cpus():
    found = [Resources(1, 1, cpus, 0, "cpu").threads for cpus in (0.5, 1.0, 2.9, 8.0)]
    assert found == [1, 1, 2, 8]


def test_one_process_uses_the_cpus_it_may_use():
    found = local_resources(PoolConfig(gpus_per_replica=0))
    assert found == Resources(1, 1, float(len(os.sched_getaffinity(0))), 0.0, "cpu")
    assert local_resources(PoolConfig(cpus_per_replica=3, gpus_per_replica=0)).threads == 3


@pytest.mark.parametrize(
    ("pool", "device"),
    [
        ({"gpus_per_replica": 0}, "cpu"),
        ({"gpus_per_replica": 1}, "cuda"),
        ({"gpus_per_replica": 1, "device": "cpu"}, "cpu"),
        ({"gpus_per_replica": 0, "device": "cuda"}, "cuda"),
    ],
)
def test_one_process_runs_its_model_where_it_is_told(pool, device):
    assert local_resources(PoolConfig.model_validate(pool)).device == device


def test_a_node_has_labels_when_it_has_them_all():
    node = Node(1.0, 0.0, {"role": "cpu", "zone": "a"})
    assert node.has({})
    assert node.has({"role": "cpu"})
    assert node.has({"role": "cpu", "zone": "a"})
    assert not node.has({"role": "cpu", "zone": "b"})
    assert not node.has({"rank": "1"})


NODES = st.lists(
    st.builds(
        Node,
        cpus=st.integers(0, 12).map(float),
        gpus=st.integers(0, 4).map(float),
        labels=st.sampled_from([{}, {"role": "cpu"}, {"role": "gpu"}]),
    ),
    min_size=1,
    max_size=5,
)
LABELS = st.sampled_from([{}, {"role": "cpu"}, {"role": "gpu"}])


def count_places(nodes, labels, cpus, gpus):
    """Replicas that can be placed, by placing them one after the other."""
    placed = 0
    for node in nodes:
        left_cpus, left_gpus = node.cpus, node.gpus
        while node.has(labels) and left_cpus >= cpus and left_gpus >= gpus:
            left_cpus, left_gpus, placed = left_cpus - cpus, left_gpus - gpus, placed + 1
    return placed


@given(NODES, LABELS, st.integers(1, 5), st.integers(0, 3))
def test_auto_is_as_many_replicas_as_can_be_placed(nodes, labels, cpus, gpus):
    pool = PoolConfig(cpus_per_replica=cpus, gpus_per_replica=gpus, labels=labels)
    places = count_places(nodes, labels, cpus, gpus)
    if places == 0:
        with pytest.raises(ConfigError, match="pool"):
            resolve_resources(pool, nodes)
        return
    found = resolve_resources(pool, nodes)
    assert (found.min_replicas, found.max_replicas) == (places, places)
    fixed = pool.model_copy(update={"replicas": places})
    assert resolve_resources(fixed, nodes) == found
    with pytest.raises(ConfigError, match=f"pool.replicas={places + 1}"):
        resolve_resources(pool.model_copy(update={"replicas": places + 1}), nodes)


@given(NODES, LABELS, st.sampled_from([0.5, 1.0, 3.0]))
def test_one_task_is_set_aside_on_one_node_that_may_hold_it(nodes, labels, cpus):
    tasks = CpuStagesConfig(cpus_per_task=cpus, labels=labels)
    if not any(node.has(labels) and node.cpus >= cpus for node in nodes):
        with pytest.raises(ConfigError, match=r"cpu_stages\.cpus_per_task"):
            reserve_for_tasks(tasks, PoolConfig(), nodes)
        return
    left = reserve_for_tasks(tasks, PoolConfig(), nodes)
    taken = [before for before, after in zip(nodes, left, strict=True) if before != after]
    assert len(taken) == 1
    assert taken[0].has(labels)
    assert sum(node.cpus for node in nodes) - sum(node.cpus for node in left) == cpus
    assert [(n.gpus, n.labels) for n in left] == [(n.gpus, n.labels) for n in nodes]
    assert all(node.cpus >= 0 for node in left)


def test_tasks_and_replicas_go_to_nodes_of_their_own_labels():
    nodes = reserve_for_tasks(CpuStagesConfig(labels={"role": "cpu"}), PoolConfig(), MIXED)
    assert nodes == [Node(1.0, 0.0, {"role": "cpu"}), *MIXED[1:]]
    pool = PoolConfig(labels={"role": "gpu"})
    assert resolve_resources(pool, nodes) == Resources(4, 4, 1.0, 1.0, "cuda")


def test_a_task_goes_where_it_costs_fewest_replicas():
    nodes = [Node(8.0, 0.0), Node(16.0, 4.0)]
    pool = PoolConfig(gpus_per_replica=0.25, cpus_per_replica=1, replicas=16)
    assert reserve_for_tasks(CpuStagesConfig(), pool, nodes) == [Node(7.0, 0.0), nodes[1]]


def test_what_tasks_take_no_replica_gets():
    (laptop,) = reserve_for_tasks(CpuStagesConfig(cpus_per_task=2), PoolConfig(), LAPTOP)
    assert laptop == Node(6.0, 0.0)
    assert resolve_resources(PoolConfig(), [laptop]) == Resources(1, 1, 4.0, 0.0, "cpu")


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ({"cpus_per_task": 9}, r"cpus_per_task=9 .* fits none of the nodes: \[\(8\.0"),
        ({"labels": {"role": "cpu"}}, "with labels {'role': 'cpu'} fits none"),
    ],
)
def test_a_task_that_fits_nowhere_is_refused_with_the_key(tasks, told):
    with pytest.raises(ConfigError, match=told):
        reserve_for_tasks(CpuStagesConfig.model_validate(tasks), PoolConfig(), LAPTOP)
