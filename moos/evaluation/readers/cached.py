"""A reader's answers on storage: a run goes on where it was stopped, and scoring again is free.

Answers are appended in parts: objects of many lines, each written whole under the hash of its
content, never changed. So a kill at any point loses at most the answers since the last part, two
runs may write at once, and a part whose content is not what its name says is as if it were absent.
"""

import hashlib
import json
import logging
import posixpath
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from moos.evaluation.example import Reader, ReaderAnswer, ReaderPrompt
from moos.storage import Storage
from moos.teachers.answer_cache import AnswerKey

logger = logging.getLogger(__name__)

FLUSH_ANSWERS = 500
"""Answers in a part, at most."""
FLUSH_S = 60.0
"""Seconds after which a part is written with the next answer, however few it holds."""
LOADING_THREADS = 16
_FORMAT = "reader-1"  # another one would ask anew


class CachedReader:
    """A reader that is asked only for what it has not answered before.

    An answer depends on the reader's name, the prompt's text and how it is to be answered; where
    the text is cut into shared and own parts makes no difference. Seconds of a cached answer are
    those that it took when it was made.
    """

    def __init__(
        self,
        reader: Reader,
        storage: Storage,
        directory: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the answers of this reader so far.

        Args:
            reader: Who is asked; its name must tell apart all that answers otherwise.
            storage: Where the directory is.
            directory: Path of the cache, relative to the storage; several readers may share it.
            clock: Seconds, for writing parts in time.
        """
        self.name = reader.name
        self._reader = reader
        self._storage = storage
        readable = re.sub(r"[^\w.]+", "-", reader.name).strip("-")[:40]
        self._directory = posixpath.join(directory, f"{readable}-{_sha256(reader.name)[:8]}")
        self._clock = clock
        self._pending: list[bytes] = []
        self._pending_since = 0.0
        self._answers = self._load()

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        return self._reader.count(text)

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        """Answer prompts; the answers in their order. Equal prompts are asked for once.

        Args:
            prompts: The prompts.
            on_answer: Told each answer with its position: the cached ones first.

        Raises:
            MoosError: The reader does not answer; its answers so far are kept.
        """
        keys = [self._key(prompt) for prompt in prompts]
        report = on_answer or (lambda index, answer: None)
        missing: dict[str, list[int]] = {}
        for index, key in enumerate(keys):
            if key.digest in self._answers:
                report(index, self._answers[key.digest])
            else:
                missing.setdefault(key.digest, []).append(index)
        asked = list(missing.values())

        def take(at: int, answer: ReaderAnswer) -> None:
            self._keep(keys[asked[at][0]], answer)
            for index in asked[at]:
                report(index, answer)

        try:
            if asked:
                self._reader.answer([prompts[indices[0]] for indices in asked], take)
        finally:
            self._flush()
        return [self._answers[key.digest] for key in keys]

    def _key(self, prompt: ReaderPrompt) -> AnswerKey:
        settings = {
            "chat": prompt.chat,
            "max_new_tokens": prompt.max_new_tokens,
            "stop": list(prompt.stop),
        }
        return AnswerKey.of(_FORMAT, self.name, prompt.shared + prompt.own, settings)

    def _keep(self, key: AnswerKey, answer: ReaderAnswer) -> None:
        self._answers[key.digest] = answer
        if not self._pending:
            self._pending_since = self._clock()
        record = {**key.to_json(), "answer": asdict(answer)}
        self._pending.append(json.dumps(record).encode() + b"\n")
        waited_s = self._clock() - self._pending_since
        if len(self._pending) >= FLUSH_ANSWERS or waited_s >= FLUSH_S:
            self._flush()

    def _flush(self) -> None:
        """Write what is pending as a part."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._storage.put(posixpath.join(self._directory, f"{_sha256(data)}.jsonl"), data)
        self._pending.clear()

    def _load(self) -> dict[str, ReaderAnswer]:
        """The answers of every part that is whole, by the digests of their keys."""
        found = self._storage.list(self._directory)
        names = [name for name in found if name.endswith(".jsonl")]
        answers: dict[str, ReaderAnswer] = {}
        with ThreadPoolExecutor(LOADING_THREADS, "moos-cache") as pool:
            for name, part in zip(names, pool.map(self._read_part, names), strict=True):
                if part is None:
                    logger.warning(
                        "%s is damaged; its answers are asked for again",
                        self._storage.path(posixpath.join(self._directory, name)),
                    )
                else:
                    answers |= part
        return answers

    def _read_part(self, name: str) -> dict[str, ReaderAnswer] | None:
        """The answers of a part; None if it is not what was written."""
        try:
            data = self._storage.get(posixpath.join(self._directory, name))
            if f"{_sha256(data)}.jsonl" != name:
                return None
            return dict(_read_line(json.loads(line)) for line in data.splitlines())
        except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
            return None


def _read_line(record: dict[str, Any]) -> tuple[str, ReaderAnswer]:
    settings = json.dumps(record["settings"], sort_keys=True)
    key = AnswerKey(record["prompt"], record["model"], record["content_sha256"], settings)
    return key.digest, ReaderAnswer(**record["answer"])


def _sha256(content: str | bytes) -> str:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()
