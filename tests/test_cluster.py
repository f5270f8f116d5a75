"""The manifests of configs/cluster: valid, consistent with the configs, and with each other."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.command import EXIT_FAILED, EXIT_USAGE
from moos.config import load_config
from moos.training import check_workers
from pipelines.config import CompressConfig, ReplicaRange
from pipelines.resources import Node, resolve_resources
from pipelines.train_config import TrainConfig
from tests.commands import check_command

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "configs" / "cluster"
MANIFESTS = sorted(
    path.name for path in CLUSTER.glob("*.yaml") if path.name != "kustomization.yaml"
)
RAYJOBS = [name for name in MANIFESTS if name.startswith("rayjob.")]
KUBERNETES = "1.37"
IN_IMAGE = "/opt/moos/"

# The fields of ray.io/v1 RayJob, as KubeRay 1.6 names them, with the types of their values.
RAYJOB_SPEC = {
    "activeDeadlineSeconds": int,
    "authOptions": dict,
    "backoffLimit": int,
    "clusterSelector": dict,
    "deletionStrategy": dict,
    "entrypoint": str,
    "entrypointNumCpus": float,
    "entrypointNumGpus": float,
    "entrypointResources": str,
    "jobId": str,
    "managedBy": str,
    "metadata": dict,
    "preRunningDeadlineSeconds": int,
    "rayClusterSpec": dict,
    "runtimeEnvYAML": str,
    "shutdownAfterJobFinishes": bool,
    "submissionMode": str,
    "submitterConfig": dict,
    "submitterPodTemplate": dict,
    "suspend": bool,
    "ttlSecondsAfterFinished": int,
}
CLUSTER_SPEC = {
    "authOptions": dict,
    "autoscalerOptions": dict,
    "enableInTreeAutoscaling": bool,
    "headGroupSpec": dict,
    "rayVersion": str,
    "workerGroupSpecs": list,
}
HEAD_SPEC = {"rayStartParams": dict, "serviceType": str, "template": dict}
WORKER_SPEC = {
    "groupName": str,
    "maxReplicas": int,
    "minReplicas": int,
    "rayStartParams": dict,
    "replicas": int,
    "template": dict,
}


def read(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def read_rayjob(name: str) -> dict[str, Any]:
    (manifest,) = read(name)
    return manifest


def groups(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def entrypoint(rayjob: dict[str, Any]) -> str:
    """The command, with the image's files where the repository has them."""
    return rayjob["spec"]["entrypoint"].replace(IN_IMAGE, f"{ROOT}/")


def pod_specs() -> Iterator[dict[str, Any]]:
    for name in RAYJOBS:
        yield from (group["template"]["spec"] for group in groups(read_rayjob(name)))
    (cronjob,) = read("cronjob.yaml")
    yield cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name not in RAYJOBS])
def test_objects_of_kubernetes_are_valid(name):
    for document in read(name):
        validate(document)


@pytest.mark.parametrize("name", RAYJOBS)
def test_the_pods_of_rayjobs_are_valid(name):
    for group in groups(read_rayjob(name)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        validate(pod)


def test_the_validation_can_fail():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    (cronjob,) = read("cronjob.yaml")
    cronjob["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
        validate(cronjob)


@pytest.mark.parametrize("name", RAYJOBS)
def test_rayjobs_have_only_fields_that_kuberay_has(name):
    rayjob = read_rayjob(name)
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = rayjob["spec"], rayjob["spec"]["rayClusterSpec"]
    for part, fields in (
        (spec, RAYJOB_SPEC),
        (cluster, CLUSTER_SPEC),
        (cluster["headGroupSpec"], HEAD_SPEC),
        *((group, WORKER_SPEC) for group in cluster["workerGroupSpecs"]),
    ):
        assert {key: type(value) for key, value in part.items()}.items() <= fields.items()
    assert spec["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"}
    assert cluster["authOptions"]["mode"] in {"token", "disabled"}
    for group in groups(rayjob):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("name", RAYJOBS)
def test_the_commands_of_rayjobs_are_valid(name):
    check_command(entrypoint(read_rayjob(name)))


@pytest.mark.parametrize("name", RAYJOBS)
def test_a_cluster_has_the_ray_of_the_image_and_goes_away(name):
    rayjob = read_rayjob(name)
    (version,) = re.findall(r"ARG RAY_VERSION=(\S+)", (CLUSTER / "Dockerfile").read_text())
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True


def read_config(cls, rayjob):
    _, _, path, *overrides = entrypoint(rayjob).split()
    return load_config(cls, path, overrides)


def make_nodes(rayjob: dict[str, Any], count_key: str) -> list[Node]:
    """The cluster as Ray sees it, with so many workers of each group."""
    nodes = []
    for group in groups(rayjob):
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        cpus = float(group["rayStartParams"].get("num-cpus", limits["cpu"]))
        node = Node(cpus, float(limits.get("nvidia.com/gpu", 0)))
        nodes.extend([node] * group.get(count_key, 1))
    return nodes


def test_the_pool_of_replicas_fits_the_cluster_of_the_manifest():
    rayjob = read_rayjob("rayjob.compress.yaml")
    pool = read_config(CompressConfig, rayjob).pool
    assert isinstance(pool.replicas, ReplicaRange)
    for count_key in ("minReplicas", "maxReplicas"):
        nodes = make_nodes(rayjob, count_key)
        sized = pool.model_copy(update={"replicas": "auto", "device": "cuda"})
        room = resolve_resources(sized, nodes).max_replicas
        if count_key == "maxReplicas":
            assert room == pool.replicas.max
        assert room >= pool.replicas.min


def test_the_training_workers_fit_the_cluster_of_the_manifest():
    rayjob = read_rayjob("rayjob.train.yaml")
    config = read_config(TrainConfig, rayjob)
    check_workers(config.training, config.workers.num_workers)
    nodes = [node for node in make_nodes(rayjob, "minReplicas") if node.gpus]
    assert len(nodes) == config.workers.num_workers
    assert all(node.cpus > config.workers.cpus_per_worker for node in nodes)
    mounts = [c["volumeMounts"][0]["mountPath"] for spec in pod_specs_of(rayjob) for c in spec]
    assert all(config.training.base.startswith(f"{mount}/") for mount in mounts)


def pod_specs_of(rayjob):
    return [group["template"]["spec"]["containers"] for group in groups(rayjob)]


def test_no_pod_is_root_or_holds_a_secret():
    for spec in pod_specs():
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")
            secret = re.compile("key|secret|token|password", re.IGNORECASE)
            plain = [env["name"] for env in container.get("env", []) if "value" in env]
            assert [name for name in plain if secret.search(name)] == []


def test_accounts_that_pods_name_exist():
    accounts = {
        document["metadata"]["name"]
        for document in read("accounts.yaml")
        if document["kind"] == "ServiceAccount"
    }
    assert {spec["serviceAccountName"] for spec in pod_specs()} == accounts


def test_one_nightly_run_at_a_time_is_tried_again_only_where_that_helps():
    (cronjob,) = read("cronjob.yaml")
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    job = cronjob["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy needs it
    by_action = {
        rule["action"]: rule["onExitCodes"]
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert {rule["containerName"] for rule in by_action.values()} == {pod["containers"][0]["name"]}
    assert by_action["FailJob"]["values"] == [EXIT_USAGE, 3]
    assert by_action["Count"]["values"] == [EXIT_FAILED]
    # The RayJob itself does not try again, which it would do whatever the code.
    assert read_rayjob("rayjob.compress.yaml")["spec"]["backoffLimit"] == 0


def test_the_nightly_run_finds_its_script_and_its_manifest():
    (cronjob,) = read("cronjob.yaml")
    pod = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    _, script, manifest = pod["containers"][0]["command"]
    assert (ROOT / script.removeprefix(IN_IMAGE)).is_file()
    kustomization = yaml.safe_load((CLUSTER / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert pod["volumes"][0]["configMap"]["name"] == generated["name"]
    assert generated["files"] == [Path(manifest).name]
    assert str(Path(manifest).parent) == pod["containers"][0]["volumeMounts"][0]["mountPath"]
    named = [*kustomization["resources"], *generated["files"]]
    assert [name for name in named if not (CLUSTER / name).is_file()] == []


def test_kustomize_builds_the_nightly_run():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    built = subprocess.run(
        ["kubectl", "kustomize", str(CLUSTER)], capture_output=True, text=True, check=True
    )
    kinds = [document["kind"] for document in yaml.safe_load_all(built.stdout)]
    assert sorted(kinds) == sorted(
        ["ServiceAccount", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "CronJob"]
    )


def test_the_image_is_made_of_what_is_there():
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        source
        for line in re.findall(r"^COPY (.*)$", dockerfile, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"moos", "pipelines", "jobs", "configs", "pyproject.toml"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{source}" for source in copied} == {line for line in ignored if line[:1] == "!"}
    assert re.findall(r"^USER (\S+)$", dockerfile, flags=re.MULTILINE) == ["10001"]
    assert [
        arg for arg in re.findall(r"^ARG (.*)$", dockerfile, flags=re.MULTILINE) if "=" not in arg
    ] == []
    assert {spec["securityContext"]["runAsUser"] for spec in pod_specs()} == {10001}
