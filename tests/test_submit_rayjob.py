"""The CronJob's waiting pod, against a server that answers as Kubernetes does."""

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest

ROOT = Path(__file__).parents[1]
MANIFEST = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"generateName": "moos-compress-", "labels": {"app": "moos"}},
    "spec": {"entrypoint": "moos compress"},
}
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}


def failed(code):
    message = f"Job entrypoint command failed with exit code {code}, last available logs:\n..."
    return {
        "jobDeploymentStatus": "Failed",
        "jobStatus": "FAILED",
        "reason": "AppFailed",
        "message": message,
    }


@pytest.fixture(scope="module")
def submit():
    spec = importlib.util.spec_from_file_location(
        "submit_rayjob", ROOT / "configs/cluster/submit_rayjob.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server(ThreadingHTTPServer):
    """RayJobs by name, whose status goes one step on each time that it is asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.rayjobs, self.steps, self.troubles, self.created = {}, [], [], []

    def add(self, name, job, status, steps=()):
        self.rayjobs[name] = {
            "metadata": {
                "name": name,
                "labels": {"moos/job": job},
                "creationTimestamp": f"2026-11-26T00:00:{len(self.rayjobs):02d}Z",
            },
            "status": status,
        }
        self.steps = list(steps) or self.steps


class Handler(BaseHTTPRequestHandler):
    def answer(self, code, body):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        assert self.headers["Authorization"] == "Bearer secret"
        if self.server.troubles:
            self.answer(self.server.troubles.pop(0), {})
            return
        path, _, query = self.path.partition("?labelSelector=moos/job%3D")
        rayjobs = self.server.rayjobs
        if path == "/rayjobs":
            items = [r for r in rayjobs.values() if r["metadata"]["labels"]["moos/job"] == query]
            self.answer(200, {"items": items})
            return
        name = path.removeprefix("/rayjobs/")
        if name not in rayjobs:
            self.answer(404, {})
            return
        if self.server.steps:
            step = self.server.steps.pop(0)
            if step is None:
                del rayjobs[name]
                self.answer(404, {})
                return
            rayjobs[name]["status"] = step
        self.answer(200, rayjobs[name])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "entrypoint" not in body["spec"]:
            self.answer(422, {"message": "spec.entrypoint"})
            return
        metadata = body["metadata"]
        self.server.created.append(body)
        self.server.add(metadata["name"], metadata["labels"]["moos/job"], {})
        self.answer(201, body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(submit, server, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    url = f"http://127.0.0.1:{server.server_port}/rayjobs"
    api = submit.Api(url, account=tmp_path, patience_s=5)
    return lambda manifest=MANIFEST: submit.run(api, manifest, "nightly-1", "uid", poll_s=0.01)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (SUCCEEDED, 0),
        (failed(1), 1),
        (failed(2), 2),
        (failed(3), 3),
        (failed(137), 1),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "late"}, 1),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, 1),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "spec"}, 2),
        (None, 1),  # deleted
    ],
)
def test_it_ends_with_the_code_of_the_command(run, server, end, code):
    server.steps = [{}, RUNNING, RUNNING, end]
    assert run() == code


def test_a_rayjob_is_named_for_its_job_and_leaves_with_it(run, server):
    server.steps = [SUCCEEDED]
    run()
    (created,) = server.created
    assert created["metadata"] == {
        "name": "nightly-1-1",
        "labels": {"app": "moos", "moos/job": "nightly-1"},
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1", "uid": "uid"}
        ],
    }
    assert created["spec"] == MANIFEST["spec"]


def test_a_pod_that_comes_back_waits_for_the_rayjob_that_is_at_work(run, server):
    server.add("nightly-1-1", "nightly-1", RUNNING, steps=[RUNNING, failed(3)])
    assert run() == 3
    assert server.created == []


@pytest.mark.parametrize(("end", "code"), [(SUCCEEDED, 0), (failed(2), 2), (failed(3), 3)])
def test_a_pod_that_comes_back_too_late_tells_how_its_rayjob_ended(run, server, end, code):
    server.add("nightly-1-1", "nightly-1", failed(1))
    server.add("nightly-1-2", "nightly-1", end)
    assert run() == code
    assert server.created == []


def test_after_a_failure_the_next_try_is_a_new_rayjob(run, server):
    server.add("nightly-1-1", "nightly-1", failed(1))
    server.add("nightly-0-1", "nightly-0", RUNNING)  # of another Job
    server.steps = [SUCCEEDED]
    assert run() == 0
    assert [created["metadata"]["name"] for created in server.created] == ["nightly-1-2"]


def test_a_server_in_trouble_is_asked_again(run, server):
    server.steps = [SUCCEEDED]
    server.troubles = [503, 429]
    assert run() == 0


def test_a_manifest_that_is_refused_is_not_tried_again(run, server):
    with pytest.raises(HTTPError, match="422"):
        run({**MANIFEST, "spec": {}})


def test_the_manifest_that_ships_can_be_named_for_a_job(submit):
    import yaml

    manifest = yaml.safe_load((ROOT / "configs/cluster/rayjob.compress.yaml").read_text())
    named = submit.name_attempt(
        manifest, "moos-compress-29401230", "uid", ["moos-compress-29401230-1"]
    )
    assert named["metadata"]["name"] == "moos-compress-29401230-2"
    assert len(named["metadata"]["name"]) <= 47  # KubeRay's limit
