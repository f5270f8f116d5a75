"""From documents to a label per word, by one of three teachers: pairs, an endpoint, a local model.

Every teacher's answer comes down to words of the original: half-open ranges of its characters, each
with the probability that it is to be kept.
"""

import logging
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moos.alignment import PairFigures, align_pair, hard_labels
from moos.chat_client import read_key
from moos.devices import has_bf16_tiles
from moos.errors import DataError
from moos.label_config import (
    EndpointTeacherConfig,
    LocalTeacherConfig,
    PairsConfig,
    TeacherConfig,
    to_prompt,
)
from moos.storage import Storage
from moos.teachers.answer_cache import AnswerCache, version_of
from moos.teachers.chunks import cut_chunks
from moos.teachers.endpoint import EndpointTeacher, TeacherFailure
from moos.teachers.rules import Rules
from moos.tokens import check_text

logger = logging.getLogger(__name__)

# The standard library's \s agrees with str.split, by which teachers count words.
_SPACED_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class TeacherInput:
    """A document to label.

    Attributes:
        text: The original.
        compressed: Its compression, where there is one already.
    """

    text: str
    compressed: str | None = None


@dataclass(frozen=True, slots=True)
class WordLabels:
    """What a teacher made of a text of W white-space-separated words.

    Attributes:
        starts: First character of each word, in code points, shape (W,).
        ends: One past the last character of each word, shape (W,).
        labels: Probability that the word is to be kept, NaN where there is none, shape (W,).
        compressed: The teacher's compression.
        figures: How well it could be aligned with the original.
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    labels: NDArray[np.float32]
    compressed: str
    figures: PairFigures


@dataclass(slots=True)
class Labelled:
    """How far a teacher is with what it was given.

    Attributes:
        documents: Documents that are labelled.
        chars: Characters of text that are labelled.
        words: Words, likewise.
        kept_words: Those that it keeps.
    """

    documents: int = 0
    chars: int = 0
    words: int = 0
    kept_words: int = 0


Report = Callable[[Labelled], None]


class Labeller(Protocol):
    """A teacher, ready to label."""

    name: str

    def label(
        self, inputs: Sequence[TeacherInput], report: Report | None = None
    ) -> list[WordLabels | DataError]:
        """Label documents, in their order; why not, where one cannot be labelled.

        Args:
            inputs: The documents.
            report: Told how far the teacher is with them, where that may take long.

        Raises:
            ModelError: The teacher refuses its task.
            MoosError: The teacher does not answer.
        """
        ...


class PairLabeller:
    """Aligns compressions that are there already."""

    def __init__(self, config: PairsConfig, on_progress: Callable[[], None]) -> None:
        """Name the teacher."""
        self.name = config.name
        self._config = config
        self._on_progress = on_progress

    def label(
        self, inputs: Sequence[TeacherInput], report: Report | None = None
    ) -> list[WordLabels | DataError]:
        """Label documents, in their order."""
        return [self._align(document) for document in inputs]

    def _align(self, document: TeacherInput) -> WordLabels | DataError:
        self._on_progress()
        assert document.compressed is not None, "a pair has a compression"
        return align_answer(document.text, document.compressed, self._config.aligner)


class EndpointLabeller:
    """Asks an endpoint for compressions, and aligns them."""

    def __init__(
        self, config: EndpointTeacherConfig, output: Storage, on_progress: Callable[[], None]
    ) -> None:
        """Read the key; nothing is sent yet.

        Args:
            config: The teacher.
            output: Holds the cache of answers, unless the config names a place.
            on_progress: Called as answers come in.

        Raises:
            ConfigError: The environment variable of the key holds none.
        """
        prompt = to_prompt(config.prompt)
        self.name = f"{config.model}, prompt {version_of(prompt)}"
        self._aligner = config.aligner
        cache = (
            AnswerCache(output, "_run/answers")
            if config.cache_path is None
            else AnswerCache(Storage(config.cache_path), "")
        )
        self._teacher = EndpointTeacher(config, prompt, cache, on_progress=on_progress)

    def label(
        self, inputs: Sequence[TeacherInput], report: Report | None = None
    ) -> list[WordLabels | DataError]:
        """Label documents, in their order."""
        so_far = Labelled()
        texts = [document.text for document in inputs]
        labelled: dict[int, WordLabels | DataError] = {}
        for index, answer in self._teacher.compress(texts):
            if isinstance(answer, TeacherFailure):
                labelled[index] = DataError(answer.reason)
            else:
                labelled[index] = align_answer(texts[index], answer, self._aligner)
            item = labelled[index]
            so_far.documents += 1
            so_far.chars += len(texts[index])
            if isinstance(item, WordLabels):
                so_far.words += len(item.labels)
                so_far.kept_words += int((item.labels >= 0.5).sum())
            if report is not None:
                report(so_far)
        return [labelled[index] for index in range(len(texts))]


class LocalLabeller:
    """Lets a local model decide about every word, chunk by chunk."""

    def __init__(
        self, config: LocalTeacherConfig, device: str, on_progress: Callable[[], None]
    ) -> None:
        """Load the model.

        Args:
            config: The teacher.
            device: Device of the model.
            on_progress: Called at every step of decoding.

        Raises:
            ModelError: The model cannot be loaded, or lacks what constrained decoding needs.
        """
        from moos.teachers.extractive import ExtractiveTeacher  # loads torch

        prompt = to_prompt(config.prompt)
        self.dtype = choose_dtype(config.dtype, device)
        self.name = f"{name_model(config)}, extractive, prompt {version_of(prompt)}"
        self._max_words = config.max_words
        self._teacher = ExtractiveTeacher.load(
            config.path,
            prompt,
            gguf_file=config.gguf_file,
            device=device,
            dtype=self.dtype,
            rules=Rules(**config.rules.model_dump()),
            batch_size=config.batch_size,
            on_progress=on_progress,
        )

    def label(
        self, inputs: Sequence[TeacherInput], report: Report | None = None
    ) -> list[WordLabels | DataError]:
        """Label documents, in their order."""
        so_far = Labelled()
        spans = [_word_spans(document.text) for document in inputs]
        labels = [np.full(len(part), np.nan, dtype=np.float32) for part in spans]
        kept = [np.zeros(len(part), dtype=np.bool_) for part in spans]
        chunks: list[tuple[int, slice]] = []
        for index, document in enumerate(inputs):
            starts = spans[index][:, 0]
            for start, end in cut_chunks(document.text, self._max_words):
                first, stop = np.searchsorted(starts, (start, end)).tolist()
                chunks.append((index, slice(first, stop)))
        texts = [
            [inputs[index].text[start:end] for start, end in spans[index][words].tolist()]
            for index, words in chunks
        ]
        left = Counter(index for index, _ in chunks)
        for at, found in self._teacher.label(texts):
            index, words = chunks[at]
            labels[index][words], kept[index][words] = found.labels, found.keep
            left[index] -= 1
            so_far.documents += left[index] == 0
            so_far.chars += sum(map(len, texts[at])) + len(texts[at])
            so_far.words += len(found.labels)
            so_far.kept_words += int((found.labels >= 0.5).sum())
            if report is not None:
                report(so_far)
        return [
            _extracted(document.text, word_spans, word_labels, keep)
            for document, word_spans, word_labels, keep in zip(
                inputs, spans, labels, kept, strict=True
            )
        ]


def load_labeller(
    config: TeacherConfig, output: Storage, device: str, on_progress: Callable[[], None]
) -> PairLabeller | EndpointLabeller | LocalLabeller:
    """The teacher of a config, ready to label; see the classes for what may be raised."""
    if isinstance(config, PairsConfig):
        return PairLabeller(config, on_progress)
    if isinstance(config, EndpointTeacherConfig):
        return EndpointLabeller(config, output, on_progress)
    return LocalLabeller(config, device, on_progress)


def check_teacher(config: TeacherConfig) -> None:
    """Refuse a teacher that cannot work, before anything is loaded or sent.

    Raises:
        ConfigError: The environment variable of the key holds none.
    """
    if isinstance(config, EndpointTeacherConfig):
        read_key(config.api_key_env)


def align_answer(text: str, compressed: str, aligner: str) -> WordLabels | DataError:
    """The labels of a text by its compression; why there are none, if that is of no use."""
    if text.strip() and not compressed.strip():
        return DataError("the compression is empty, although the text is not")
    try:
        check_text(compressed)
    except DataError as error:
        return DataError(f"the compression's {error}")
    alignment = align_pair(text, compressed, aligner="lcs" if aligner == "lcs" else "greedy")
    return WordLabels(
        alignment.starts,
        alignment.ends,
        hard_labels(alignment),
        compressed,
        alignment.figures,
    )


def name_model(config: LocalTeacherConfig) -> str:
    """What labels call a local model."""
    return config.name or posixpath.basename(config.path.rstrip("/")) or config.path


def choose_dtype(setting: str, device: str) -> str:
    """Name of the torch type to compute in; `auto` looks at the device."""
    if setting != "auto":
        return setting
    # oneDNN computes in bfloat16 by conversion on other CPUs, slower than in float32.
    return "bfloat16" if device.startswith("cuda") or has_bf16_tiles() else "float32"


def _word_spans(text: str) -> NDArray[np.int32]:
    spans = [match.span() for match in _SPACED_WORD.finditer(text)]
    return np.array(spans, dtype=np.int32).reshape(-1, 2)


def _extracted(
    text: str, spans: NDArray[np.int32], labels: NDArray[np.float32], kept: NDArray[np.bool_]
) -> WordLabels:
    """The labels of a teacher that can only delete: nothing varies, and nothing is missed."""
    words = [text[start:end] for start, end in spans[kept].tolist()]
    rate = len(words) / max(len(spans), 1)
    figures = PairFigures(
        num_words=len(spans),
        num_compressed_words=len(words),
        keep_rate=rate,
        variation_rate=0.0,
        matching_rate=rate,
        hitting_rate=rate,
        alignment_gap=0.0,
    )
    return WordLabels(spans[:, 0].copy(), spans[:, 1].copy(), labels, " ".join(words), figures)
