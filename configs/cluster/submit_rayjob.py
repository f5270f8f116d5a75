"""Create a RayJob from a manifest, wait for its end, and end with its command's own exit code.

    python submit_rayjob.py MANIFEST

What a CronJob's pod runs (cronjob.yaml), with moos's image and nothing besides. KubeRay tells only
that a command failed; Ray's message, which it passes on, has the code. A pod that is started again
for the same Job takes an unfinished RayJob over, so there is one at a time.

Environment: NAMESPACE, JOB_NAME and JOB_UID of the Job that owns the RayJob; the address and the
account's token are where Kubernetes puts them for every pod.
"""

import json
import logging
import os
import re
import ssl
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml

logger = logging.getLogger("submit_rayjob")

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OWNER_LABEL = "moos/job"
FINISHED = {"Complete", "Failed", "ValidationFailed"}
EXIT_FAILED, EXIT_USAGE = 1, 2

_EXIT_CODE = re.compile(r"failed with exit code (\d+)")


@dataclass(frozen=True, slots=True)
class Api:
    """The RayJobs of one namespace, as the API server shows them.

    Attributes:
        url: Of the collection of RayJobs.
        account: Directory of the account's token, which changes while a pod lives, and the server's
            certificate.
        patience_s: How long a server that cannot be reached is tried again.
    """

    url: str
    account: Path = ACCOUNT
    patience_s: float = 600.0

    def list(self, job: str) -> list[dict[str, Any]]:
        """The RayJobs that were created for a Job, the oldest first."""
        found = self._call("GET", f"?labelSelector={OWNER_LABEL}%3D{job}")["items"]
        return sorted(found, key=lambda rayjob: rayjob["metadata"]["creationTimestamp"])

    def get(self, name: str) -> dict[str, Any] | None:
        """A RayJob; None if there is none of that name any more."""
        try:
            return self._call("GET", f"/{name}")
        except HTTPError as error:
            if error.code == 404:
                return None
            raise

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create a RayJob, or take the one that an earlier try of this very call created."""
        try:
            return self._call("POST", "", manifest)
        except HTTPError as error:
            found = self.get(manifest["metadata"]["name"]) if error.code == 409 else None
            if found is None:
                raise
            return found

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        until = time.monotonic() + self.patience_s
        wait_s = 0.5
        while True:
            try:
                return self._call_once(method, path, body)
            except HTTPError as error:
                if (error.code < 500 and error.code != 429) or time.monotonic() > until:
                    raise
                logger.warning("the API server answers %s; trying again", error)
            except (URLError, TimeoutError, ConnectionError) as error:
                if time.monotonic() > until:
                    raise
                logger.warning("the API server cannot be reached: %s; trying again", error)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 30.0)

    def _call_once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        certificate = self.account / "ca.crt"
        context = ssl.create_default_context(cafile=certificate) if certificate.exists() else None
        token = (self.account / "token").read_text(encoding="utf-8").strip()
        request = Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30, context=context) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def name_attempt(
    manifest: dict[str, Any], job: str, uid: str, taken: Collection[str]
) -> dict[str, Any]:
    """The manifest under a name that is not taken yet; deleted when its Job is."""
    name = next(name for n in count(1) if (name := f"{job}-{n}") not in taken)
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "generateName"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid}
    metadata["name"] = name
    metadata["labels"] = {**metadata.get("labels", {}), OWNER_LABEL: job}
    metadata["ownerReferences"] = [owner]
    return {**manifest, "metadata": metadata}


def is_finished(rayjob: dict[str, Any]) -> bool:
    """Whether KubeRay is through with it."""
    return rayjob.get("status", {}).get("jobDeploymentStatus") in FINISHED


def find_exit_code(rayjob: dict[str, Any]) -> int:
    """The exit code of a finished RayJob's command; 1 where it never came to one."""
    status = rayjob.get("status", {})
    if status.get("jobStatus") == "SUCCEEDED":
        return 0
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        return EXIT_USAGE
    found = _EXIT_CODE.search(status.get("message", ""))
    # A negative or large code, as of a signal, is an interruption.
    return int(found[1]) if found and int(found[1]) in (1, 2, 3) else EXIT_FAILED


def run(api: Api, manifest: dict[str, Any], job: str, uid: str, *, poll_s: float = 10.0) -> int:
    """Start a RayJob, or find that of an earlier pod, and wait for its exit code.

    One that ended before this pod came up is followed by another only after exit code 1.
    """
    earlier = api.list(job)
    unfinished = [rayjob for rayjob in earlier if not is_finished(rayjob)]
    if not unfinished and earlier and (code := find_exit_code(earlier[-1])) != EXIT_FAILED:
        logger.info("RayJob %s has ended already", earlier[-1]["metadata"]["name"])
        return code
    if unfinished:
        name = unfinished[0]["metadata"]["name"]
        logger.info("RayJob %s is at work already; waiting for it", name)
    else:
        taken = {rayjob["metadata"]["name"] for rayjob in earlier}
        created = api.create(name_attempt(manifest, job, uid, taken))
        name = created["metadata"]["name"]
        logger.info("RayJob %s created", name)
    shown = None
    while True:
        rayjob = api.get(name)
        if rayjob is None:
            logger.error("RayJob %s was deleted", name)
            return EXIT_FAILED
        status = rayjob.get("status", {})
        now = (status.get("jobDeploymentStatus"), status.get("jobStatus"))
        if now != shown:
            shown = now
            logger.info("RayJob %s: %s", name, ", ".join(str(part) for part in now if part))
        if is_finished(rayjob):
            if message := status.get("message"):
                logger.info("%s: %s", status.get("reason", "message"), message)
            return find_exit_code(rayjob)
        time.sleep(poll_s)


def main() -> int:
    """Run in a pod of a Job; the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    if len(sys.argv) != 2:
        logger.error("usage: %s MANIFEST", sys.argv[0])
        return EXIT_USAGE
    manifest = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    path = f"/apis/ray.io/v1/namespaces/{os.environ['NAMESPACE']}/rayjobs"
    address = f"[{host}]" if ":" in host else host
    api = Api(f"https://{address}:{port}{path}")
    try:
        return run(api, manifest, os.environ["JOB_NAME"], os.environ["JOB_UID"])
    except HTTPError as error:
        # 400, 403, 422: the manifest or the account's rights, which trying again does not change.
        logger.error("the API server says %s: %s", error, error.read().decode(errors="replace"))
        return EXIT_USAGE if error.code < 500 else EXIT_FAILED
    except (URLError, OSError) as error:
        logger.error("the API server cannot be reached: %s", error)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
