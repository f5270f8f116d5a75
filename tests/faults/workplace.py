"""What many injections share: corpora, servers, and the runs that nobody disturbs."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import s3fs

from tests.faults.injections import Injection
from tests.faults.inputs import DOCUMENTS, SPLITTING, Corpus, make_corpus
from tests.faults.job import ROOT, Job
from tests.faults.nursery import Nursery
from tests.faults.places import BUCKET, BucketPlace, DiskPlace, open_bucket
from tests.faults.proxy import FaultProxy, run_proxy
from tests.faults.servers import CREDENTIALS, run_s3

NOT_DECIDING = (
    "stages=",
    "executor=",
    "pool.",
    "cpu_stages.",
    "document_limits.",
    "max_quarantined=",
)
"""Overrides that must not change a byte: the run to compare with goes without them."""


class Workplace:
    """Corpora, servers and uninterrupted runs of many injections, each made when first needed."""

    def __init__(
        self,
        directory: Path,
        checkpoint: Path,
        overrides: Sequence[str] = (),
        *,
        documents: int = DOCUMENTS,
    ) -> None:
        """Work in a directory; `overrides` are given to every run, `documents` are its input."""
        self.documents = documents
        self.directory = directory
        self.checkpoint = checkpoint
        self.overrides = tuple(overrides)
        self._resources = ExitStack()
        # Short: Ray puts sockets below it. Its own: no cluster of anybody else is found there.
        self.ray_directory = Path(tempfile.mkdtemp(prefix="mf-", dir="/tmp"))
        self._resources.callback(shutil.rmtree, self.ray_directory, ignore_errors=True)
        self._corpora: dict[str, Corpus] = {}
        self._references: dict[str, dict[str, bytes]] = {}
        self._nursery: Nursery | None = None
        self._bucket: tuple[str, FaultProxy, s3fs.S3FileSystem] | None = None

    def __enter__(self) -> "Workplace":
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    def environment(self, **changes: str) -> dict[str, str]:
        """What a job finds in its environment."""
        inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        return {
            **inherited,
            **CREDENTIALS,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self.ray_directory),
            **changes,
        }

    @property
    def nursery(self) -> Nursery:
        """Where local runs are forked."""
        if self._nursery is None:
            self._nursery = Nursery(self.environment())
            self._resources.callback(self._nursery.close)
        return self._nursery

    def corpus(self, injection: Injection, edition: int = 0) -> Corpus:
        """The injection's input, or what becomes of it."""
        poison = injection.kind if injection.poison else ""
        parts = (injection.shape, poison, str(injection.poison or ""), str(edition or ""))
        name = "-".join(filter(None, parts))
        if name not in self._corpora:
            path = self.directory / "input" / name
            shutil.rmtree(path, ignore_errors=True)
            self._corpora[name] = make_corpus(
                path,
                injection.shape,
                documents=self.documents,
                poison=poison,
                poisonous=injection.poison,
                edition=edition,
            )
        return self._corpora[name]

    def reference(self, injection: Injection, edition: int = 0) -> dict[str, bytes]:
        """What a run that nobody disturbs leaves, by the local executor on a disk."""
        corpus = self.corpus(injection, edition)
        deciding = [o for o in self.overrides if not o.startswith(NOT_DECIDING)]
        name = "-".join((corpus.path.name, injection.output_format))

        def arguments(place: DiskPlace) -> list[str]:
            place = replace(place, source=str(corpus.path))
            return [*self.arguments(injection, place), *deciding, "executor=local"]

        return self.run_once(name, arguments)

    def run_once(
        self, name: str, arguments: Callable[[DiskPlace], list[str]], *, forked: bool = True
    ) -> dict[str, bytes]:
        """What a command leaves that nobody disturbs, run when it is first asked for.

        Args:
            name: Names the run, and its output.
            arguments: The command, with a place to write to.
            forked: Start it from the nursery.
        """
        if name not in self._references:
            output = self.directory / "reference" / name
            shutil.rmtree(output, ignore_errors=True)
            output.parent.mkdir(parents=True, exist_ok=True)
            place = DiskPlace("", str(output), output)
            log = output.parent / f"{name}.log"
            nursery = self.nursery if forked else None
            job = Job(arguments(place), log, self.environment(), nursery=nursery)
            try:
                if job.wait() != 0:
                    raise RuntimeError(f"the uninterrupted run failed: {job.said()[-2000:]}")
            finally:
                job.clean_up()
            self._references[name] = place.read()
        return self._references[name]

    def arguments(self, injection: Injection, place: DiskPlace | BucketPlace) -> list[str]:
        """The command of an injection's runs, without the executor."""
        return [
            "jobs.compress",
            f"input.path={place.source}",
            f"output.path={place.output}",
            f"checkpoint={self.checkpoint}",
            f"output.format={injection.output_format}",
            # One thread each all the same; on Ray, three of them fit two cores beside other tasks.
            f"pool.cpus_per_replica={1 if injection.executor == 'local' else 0.25}",
            "pool.gpus_per_replica=0",
            *SPLITTING,
            *place.options,
        ]

    def bucket_place(
        self, injection: Injection, name: str, source: str | None = None
    ) -> BucketPlace:
        """A place in the bucket, with the input put there; under a name of its own, or `source`."""
        if self._bucket is None:
            endpoint = self._resources.enter_context(run_s3())
            proxy = self._resources.enter_context(run_proxy(endpoint))
            self._bucket = endpoint, proxy, open_bucket(endpoint)
        endpoint, proxy, filesystem = self._bucket
        corpus = self.corpus(injection)
        source = f"{BUCKET}/input/{source or corpus.path.name}"
        for path in corpus.path.iterdir():
            filesystem.put_file(str(path), f"{source}/{path.name}")
        through = json.dumps({"endpoint_url": proxy.url})
        proxy.strike_from_now(None)
        return BucketPlace(
            source=f"s3://{source}",
            output=f"s3://{BUCKET}/{name}",
            options=(f"input.storage_options={through}", f"output.storage_options={through}"),
            verify_options=("--storage-options", json.dumps({"endpoint_url": endpoint})),
            proxy=proxy,
            filesystem=filesystem,
        )
