"""What takes part in a measurement, and the library as one that does.

A spec is plain data that travels into a process of its own and is loaded there. Specs' modules
import torch late, so that the process can first be bound to its cores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moos.benchmark.memory import peak_memory
from moos.benchmark.stage_clock import LIBRARY_STAGES, StageClock
from moos.compressor import Compressor
from moos.errors import MoosError

WARM_UP_CHARS = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One pass over a corpus.

    Attributes:
        seconds: Text to compressed text and spans; for a job, from the first split begun to the
            run's end.
        tokens: Tokens of the documents, by the compressor's tokenizer.
        kept_tokens: Tokens of the compressed documents, by the same.
        cpu_s: CPU seconds of the process meanwhile; None where others do the work. Far below
            `seconds` times the threads, the machine was busy with something else.
        failed_documents: Documents that gave no compression.
        starts: Seconds of what was started for this turn and is not in `seconds`, by name.
        bytes_written: What a job left on disk; None for what writes nothing.
        data_bytes: Of these, the compressed documents.
    """

    seconds: float
    tokens: int
    kept_tokens: int
    cpu_s: float | None = None
    failed_documents: int = 0
    starts: dict[str, float] = field(default_factory=dict)
    bytes_written: int | None = None
    data_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time of one instrumented turn went.

    Attributes:
        wall_s: The turn's seconds.
        seconds: Of each stage, summed over threads; each without those within it.
        in_turn: Of a job, what its workers' own threads did or waited for, one after the other:
            together the turn's seconds, times the number of workers.
        cpu_s: CPU seconds of a job, by who took them; far below the cores' seconds together, they
            waited.
    """

    wall_s: float
    seconds: dict[str, float]
    in_turn: dict[str, float] | None = None
    cpu_s: dict[str, float] | None = None


class Contestant(Protocol):
    """Anything that compresses a corpus in a process of its own."""

    def prepare(self, texts: Sequence[str]) -> dict[str, Any]:
        """Take a corpus and warm up on it; the settings that were chosen for it."""
        ...

    def run(self) -> Turn:
        """Compress the corpus once, timed."""
        ...

    def time_stages(self) -> StageTimes | None:
        """Compress it once with every stage timed, which costs time; None where that cannot be."""
        ...

    def peak_memory(self) -> int:
        """Most bytes of memory that this and its own processes have held at a time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySpec:
    """`moos.Compressor` in one process.

    Attributes:
        checkpoint: As `Compressor.load` takes it.
        engine: What runs the model; `auto` leaves that to the library.
        device: `cpu` or `cuda`.
        threads: CPU threads.
        rate: Share of tokens to keep.
    """

    checkpoint: str
    engine: str
    device: str
    threads: int
    rate: float

    def load(self) -> "LibraryContestant":
        """Load the compressor."""
        options: dict[str, Any] = {} if self.engine == "auto" else {"engine": self.engine}
        try:
            compressor = Compressor.load(
                self.checkpoint, device=self.device, threads=self.threads, **options
            )
        except TypeError as error:  # a version whose `load` has no choice of engine
            raise MoosError(f"engine={self.engine} is not to be had here: {error}") from error
        return LibraryContestant(compressor, self)


class LibraryContestant:
    """A loaded compressor and the corpus at hand."""

    def __init__(self, compressor: Compressor, spec: LibrarySpec) -> None:
        self._compressor = compressor
        self._spec = spec
        self._texts: list[str] = []

    def prepare(self, texts: Sequence[str]) -> dict[str, Any]:
        """Take a corpus and warm up on it."""
        self._texts = list(texts)
        self._compressor.compress(warm_up_texts(texts, self._spec.device), rate=self._spec.rate)
        return {"engine": self._compressor.engine.name}

    def run(self) -> Turn:
        """Compress all texts in one call, as the library is meant to be used."""
        cpu_began, began = time.process_time(), time.perf_counter()
        documents = self._compressor.compress(self._texts, rate=self._spec.rate)
        return Turn(
            seconds=time.perf_counter() - began,
            cpu_s=time.process_time() - cpu_began,
            tokens=sum(document.num_encoder_tokens for document in documents),
            kept_tokens=sum(document.num_kept_tokens for document in documents),
        )

    def time_stages(self) -> StageTimes:
        """The same with the library's own functions wrapped."""
        with StageClock(LIBRARY_STAGES) as clock:
            turn = self.run()
        return StageTimes(turn.seconds, clock.seconds)

    def peak_memory(self) -> int:
        """Most bytes that this process has held."""
        return peak_memory()


def warm_up_texts(texts: Sequence[str], device: str) -> list[str]:
    """What to warm up on: the head of the first text; on a GPU all of them, for their shapes."""
    return list(texts) if device.startswith("cuda") else [texts[0][:WARM_UP_CHARS]]
