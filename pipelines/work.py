"""One split from input to done record: the function that every executor shares."""

import platform
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from moos.compressor import Compressor
from moos.document import CompressedDocument
from moos.errors import DataError, MoosError
from moos.records import BadRecord, RecordGroup, RecordReader
from moos.selector import Selector
from moos.source_files import DamagedFileError
from moos.splits import InputSplit
from moos.storage import Storage, describe_file
from moos.tokens import TextTokenizer
from pipelines.commit import JsonlRows, ParquetRows, put_object, quarantine_line
from pipelines.config import CompressConfig
from pipelines.run_state import BUDGET_TOKENIZER, RunState, describe_source

T = TypeVar("T")
PREFETCHED_GROUPS = 2
RATE_BINS = 20
"""Equal bins over [0, 1] for the histogram of documents' rates."""


@dataclass(slots=True)
class SplitCounts:
    """Sums over a split, or over what is done of it."""

    documents: int = 0
    quarantined: int = 0
    damaged_files: int = 0
    chars: int = 0
    tokens: int = 0
    kept_tokens: int = 0
    encoder_tokens: int = 0
    unknown_tokens: int = 0
    non_latin_chars: int = 0
    over_budget: int = 0
    input_bytes: int = 0

    def add(self, other: "SplitCounts") -> None:
        """Add another's sums to these."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


ProgressCallback = Callable[[str, dict[str, int]], None]
"""Called with a split's id and its counts so far."""


@dataclass(frozen=True, slots=True)
class WorkSpec:
    """What a replica needs to work splits; plain settings, loaded where the work is done.

    Attributes:
        config: The run's config.
        signature: The run's signature.
        input_schema: The input's columns, serialised.
        device: Device of the model.
        threads: CPU threads of the model.
    """

    config: CompressConfig
    signature: dict[str, Any]
    input_schema: bytes
    device: str
    threads: int


@dataclass(slots=True)
class SplitWorker:
    """A loaded compressor with its places to read and write."""

    spec: WorkSpec
    compressor: Compressor
    selector: Selector
    reader: RecordReader
    output: Storage
    state: RunState
    schema: pa.Schema
    numerics: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, spec: WorkSpec) -> "SplitWorker":
        """Load the compressor.

        Raises:
            ModelError: The checkpoint cannot be loaded, or is not the one the run was planned with.
        """
        config = spec.config
        compressor = Compressor.load(
            config.checkpoint,
            scoring=config.scoring,
            window=config.window,
            device=spec.device,
            threads=spec.threads,
        )
        if compressor.checkpoint.sha256 != spec.signature["checkpoint_sha256"]:
            raise MoosError(
                f"checkpoint {config.checkpoint!r} on this node is not the one the run was planned "
                "with; give all nodes the same files"
            )
        settings = config.input
        reader = RecordReader(
            Storage(settings.paths[0], settings.storage_options).filesystem,
            settings.text_column,
            settings.id_column,
            settings.max_document_chars,
        )
        output = Storage(config.output.path, config.output.storage_options)
        return cls(
            spec,
            compressor,
            Selector(config.selection, reader_tokenizer(config, output)),
            reader,
            output,
            RunState(output, spec.signature),
            pa.ipc.read_schema(pa.BufferReader(spec.input_schema)),
            describe_numerics(compressor, spec),
        )

    def work(self, split: InputSplit, report: ProgressCallback) -> dict[str, Any]:
        """Read, compress and commit a split; its done record.

        Raises:
            MoosError: The source changed since it was planned.
        """
        self._check_source(split)
        try:
            counts, rates, data, quarantine = self._compress(split, report)
        except DamagedFileError as error:
            bad = BadRecord(0, str(error), b"", "file")
            counts = SplitCounts(quarantined=1, damaged_files=1, input_bytes=split.size)
            rates, data, quarantine = [0] * RATE_BINS, None, quarantine_line(split, bad)
        self._check_source(split)
        record: dict[str, Any] = {
            "split": split.id,
            "source": describe_source(split),
            "counts": asdict(counts),
            "rate_histogram": rates,
            "numerics": self.numerics,
            "data": None,
            "quarantine": None,
        }
        if data is not None:
            extension = self._rows_class().extension
            record["data"] = put_object(self.output, "data", split.id, extension, data)
        if quarantine:
            record["quarantine"] = put_object(
                self.output, "quarantine", split.id, "jsonl", quarantine
            )
        self.state.write_done(record)
        return record

    def _rows_class(self) -> type[ParquetRows] | type[JsonlRows]:
        return ParquetRows if self.spec.config.output.format == "parquet" else JsonlRows

    def _check_source(self, split: InputSplit) -> None:
        try:
            now = describe_file(self.reader.filesystem, split.path)
        except FileNotFoundError:
            now = None
        if now != (split.file_size, split.etag):
            raise MoosError(
                f"input file {split.relative} changed while the run was on; run again to plan anew"
            )

    def _compress(
        self, split: InputSplit, report: ProgressCallback
    ) -> tuple[SplitCounts, list[int], bytes | None, bytes]:
        counts = SplitCounts()
        rates = np.zeros(RATE_BINS, dtype=np.int64)
        rows = self._rows_class()(self.schema, self.spec.config.output.annotations)
        quarantine: list[bytes] = []
        # Reading ahead and encoding rows run beside the model, each in a thread of its own.
        with ThreadPoolExecutor(1, "moos-encode") as encoder:
            encoding: Future[None] | None = None
            for group in prefetch(self.reader.read(split), PREFETCHED_GROUPS):
                good, documents, bad = self._compress_group(group)
                if encoding is not None:
                    encoding.result()
                encoding = encoder.submit(rows.add, group, good, documents) if good else None
                quarantine.extend(quarantine_line(split, record) for record in bad)
                rates += np.histogram([d.rate for d in documents], RATE_BINS, (0.0, 1.0))[0]
                counts.add(_count(group, good, documents, len(bad)))
                report(split.id, asdict(counts))
            if encoding is not None:
                encoding.result()
        data = rows.finish()
        return (
            counts,
            rates.tolist(),
            data if counts.documents else None,
            b"".join(quarantine),
        )

    def _compress_group(
        self, group: RecordGroup
    ) -> tuple[list[int], list[CompressedDocument], list[BadRecord]]:
        """The rows that were compressed, their documents, and the records that were not."""
        good: list[int] = []
        documents: list[CompressedDocument] = []
        bad = list(group.bad)
        results = self.compressor.compress_each(group.texts, self.selector)
        for row, result in enumerate(results):
            if isinstance(result, DataError):
                bad.append(group.reject(row, str(result), self.reader.id_column))
            else:
                good.append(row)
                documents.append(result)
        return good, documents, sorted(bad, key=lambda record: record.position)


def _count(
    group: RecordGroup, good: list[int], documents: list[CompressedDocument], num_bad: int
) -> SplitCounts:
    texts = [group.texts[row] for row in good]
    return SplitCounts(
        documents=len(documents),
        quarantined=num_bad,
        chars=sum(map(len, texts)),
        tokens=sum(d.num_tokens for d in documents),
        kept_tokens=sum(d.num_kept_tokens for d in documents),
        encoder_tokens=sum(d.num_encoder_tokens for d in documents),
        unknown_tokens=sum(d.num_unknown_tokens for d in documents),
        non_latin_chars=sum(d.num_non_latin_chars for d in documents),
        over_budget=sum(d.over_budget for d in documents),
        input_bytes=group.num_bytes,
    )


def reader_tokenizer(config: CompressConfig, output: Storage) -> TextTokenizer | None:
    """The reader's tokenizer as the run's output holds it, wherever the replica runs."""
    if config.selection.budget_tokenizer is None:
        return None
    return TextTokenizer(output.get(BUDGET_TOKENIZER).decode("utf-8"))


def describe_numerics(compressor: Compressor, spec: WorkSpec) -> dict[str, Any]:
    """Everything besides the plan that the output's bytes may depend on."""
    import torch
    import transformers

    if spec.device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(spec.device)
    else:
        hardware = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "engine": compressor.engine.name,
        "device": spec.device.split(":")[0],
        "hardware": hardware,
        "threads": spec.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "pyarrow": pa.__version__,
    }


def prefetch(source: Iterator[T], depth: int) -> Iterator[T]:
    """The items of `source`, read ahead by a thread that holds at most `depth` of them."""
    ahead: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in source:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # noqa: BLE001  raised again in the consumer's thread
            put(("error", error))

    thread = threading.Thread(target=fill, name="moos-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ahead.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
