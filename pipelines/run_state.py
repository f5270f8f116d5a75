"""What a run keeps under `_run/`: its signature, its schema, its done records.

* `config.yaml`: the config that began the run, for people
* `signature.json`: everything that decides the output; another one is refused
* `schema.arrow`: the input's columns, settled once for the output's life
* `tokenizer.json`: the compressor's tokenizer, for `moos verify`
* `budget_tokenizer.json`: the reader's, where the budget is in its tokens
* `plan.parquet`: the splits of the latest plan
* `done/<signature>/<split>.json`: written last for each split; names the objects that count
* `attempts/<signature>/<split>-<stage>.json`: which drivers' processes have begun on a split
* `scored/<signature>/<split>.json`, `scores/`: the first of two passes
* `ids/`: hashes of the documents' ids, an object for each split, as data is
* `threshold.json`: the corpus's threshold, settled by the first run that scored all it planned
* `bounds.json`: what a labelling run's filters come to, likewise
* `answers/`: answers of a labelling run's endpoint
* `lease.json`: who works on this output now
* `events.jsonl`, `events/`: what happened in runs on this output (`pipelines.events`)
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from moos.corpus import CorpusThreshold
from moos.errors import ConfigError
from moos.splits import InputSplit, splits_from_table, splits_to_table
from moos.storage import Storage
from pipelines.config import JobConfig

CONTRACT_VERSION = 3
"""Changes when the same input and settings would give other output."""

SIGNATURE = "_run/signature.json"
SCHEMA = "_run/schema.arrow"
PLAN = "_run/plan.parquet"
TOKENIZER = "_run/tokenizer.json"
BUDGET_TOKENIZER = "_run/budget_tokenizer.json"
CONFIG = "_run/config.yaml"
MANIFEST = "manifest.json"
SUCCESS = "_SUCCESS"
THRESHOLD = "_run/threshold.json"
SCORES = "_run/scores"
IDS = "_run/ids"
OBJECT_DIRECTORIES = ("data", "quarantine", IDS)


def signature_id(signature: Mapping[str, Any]) -> str:
    """Short name of a signature, for paths."""
    return hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()[:16]


def is_output(storage: Storage) -> bool:
    """Whether a run keeps its state there."""
    return storage.exists(SIGNATURE)


class RunState:
    """The state of one run in its output; nothing here is written but by its methods."""

    def __init__(self, output: Storage, signature: Mapping[str, Any]) -> None:
        """Name the state; reads and writes nothing."""
        self.output = output
        self.signature = dict(signature)
        name = signature_id(signature)
        self.done_directory = f"_run/done/{name}"
        self.scored_directory = f"_run/scored/{name}"
        self.attempts_directory = f"_run/attempts/{name}"

    def check_owner(self) -> None:
        """Refuse an output that another run, or somebody else, began.

        Raises:
            ConfigError: The differing keys are named with both values, or the directory holds
                files that are no run's.
        """
        try:
            found = json.loads(self.output.get(SIGNATURE))
        except FileNotFoundError:
            # A run that died before its signature leaves nothing outside _run/.
            strangers = [n for n in self.output.list("", directories=True) if n != "_run"]
            if strangers:
                raise ConfigError(
                    f"output.path={self.output.url!r} already holds files that are no moos run's "
                    f"({', '.join(strangers[:3])}); give an empty or new directory"
                ) from None
            return
        differing = [
            f"  {key}: was {found.get(key)!r}, now {self.signature.get(key)!r}"
            for key in sorted(found.keys() | self.signature.keys())
            if found.get(key) != self.signature.get(key)
        ]
        if differing:
            raise ConfigError(
                f"output.path={self.output.url!r} holds another run; what differs:\n"
                + "\n".join(differing)
                + "\ngive another output.path, or the same settings to resume"
            )

    def read_schema(self) -> pa.Schema | None:
        """The input schema that this output settled on, or None before its first run."""
        try:
            return pa.ipc.read_schema(pa.BufferReader(self.output.get(SCHEMA)))
        except FileNotFoundError:
            return None

    def begin(
        self, config: JobConfig, schema: pa.Schema, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Write what a first run settles, the signature last; a later run finds it there.

        Args:
            config: The run's config.
            schema: The input's columns.
            files: Contents of what else the run keeps, by name.
        """
        if self.output.exists(SIGNATURE):
            return
        dumped = config.model_dump(mode="json")
        self.output.put(CONFIG, yaml.safe_dump(dumped, sort_keys=False).encode())
        self.output.put(SCHEMA, schema.serialize().to_pybytes())
        for name, content in (files or {}).items():
            self.output.put(name, content)
        self.output.put(SIGNATURE, dump_json(self.signature))

    def write_plan(self, splits: list[InputSplit]) -> None:
        """Write the latest plan."""
        sink = pa.BufferOutputStream()
        pq.write_table(splits_to_table(splits), sink, compression="zstd")
        self.output.put(PLAN, sink.getvalue().to_pybytes())

    def write_done(self, record: Mapping[str, Any]) -> None:
        """Commit a split: from here on, the objects that its record names count."""
        self.output.put(f"{self.done_directory}/{record['split']}.json", dump_json(record))

    def write_scored(self, record: Mapping[str, Any]) -> None:
        """Commit a split's scores: from here on, the table that its record names counts."""
        self.output.put(f"{self.scored_directory}/{record['split']}.json", dump_json(record))

    def read_plan(self) -> list[InputSplit]:
        """The splits of the latest plan; none before the first."""
        try:
            return read_plan(self.output)
        except FileNotFoundError:
            return []

    def read_scored_record(self, split: InputSplit) -> dict[str, Any]:
        """The scored record of one split, as it stands.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._read_record(self.scored_directory, split)

    def read_done_record(self, split: InputSplit) -> dict[str, Any]:
        """The done record of one split, as it stands.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._read_record(self.done_directory, split)

    def _read_record(self, directory: str, split: InputSplit) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.output.get(f"{directory}/{split.id}.json"))
        return record

    def read_done(self, splits: Iterable[InputSplit]) -> dict[str, dict[str, Any]]:
        """The valid done records by split id."""
        return self._read_records(self.done_directory, splits, OBJECT_DIRECTORIES)

    def read_scored(self, splits: Iterable[InputSplit]) -> dict[str, dict[str, Any]]:
        """The valid scored records by split id."""
        return self._read_records(self.scored_directory, splits, (SCORES,))

    def _read_records(
        self, directory: str, splits: Iterable[InputSplit], objects: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """The valid records of a directory by split id.

        Valid are those whose source is still what was planned, and whose objects are still there:
        a file that vanished from the input had its objects removed, and may come back.
        """
        listed = set(self.output.list(directory))
        wanted = [split for split in splits if f"{split.id}.json" in listed]
        with ThreadPoolExecutor(16) as threads:
            paths = [f"{directory}/{split.id}.json" for split in wanted]
            contents = threads.map(self.output.get, paths)
            records = {
                split.id: json.loads(data) for split, data in zip(wanted, contents, strict=True)
            }
        present = {f"{place}/{name}" for place in objects for name in self.output.list(place)}
        return {
            split.id: records[split.id]
            for split in wanted
            if records[split.id]["source"] == describe_source(split)
            and named_objects(records[split.id]) <= present
        }

    def read_threshold(self) -> CorpusThreshold | None:
        """The corpus's threshold, or None before a run has scored all it planned."""
        try:
            return CorpusThreshold.from_json(json.loads(self.output.get(THRESHOLD)))
        except FileNotFoundError:
            return None

    def write_threshold(self, threshold: CorpusThreshold) -> None:
        """Settle the corpus's threshold for the output's life."""
        self.output.put(THRESHOLD, dump_json(threshold.to_json()))


def named_objects(record: Mapping[str, Any]) -> set[str]:
    """Names of the objects that a record, or a manifest's entry, says count."""
    parts = (record.get(kind) for kind in ("data", "quarantine", "scores", "ids"))
    return {part["name"] for part in parts if part is not None}


def read_plan(output: Storage) -> list[InputSplit]:
    """The splits of the latest plan of an output."""
    return splits_from_table(pq.read_table(pa.BufferReader(output.get(PLAN))))


def describe_source(split: InputSplit) -> dict[str, Any]:
    """What a done record says of the part of the input it covers."""
    return {
        "path": split.relative,
        "kind": split.kind,
        "start": split.start,
        "stop": split.stop,
        "file_size": split.file_size,
        "etag": split.etag,
    }


def dump_json(value: Any) -> bytes:
    """Deterministic, readable JSON."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
