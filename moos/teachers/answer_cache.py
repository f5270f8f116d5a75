"""A teacher's answers on storage, so that none is paid for twice: by any process, in any run."""

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moos.storage import Storage
from moos.teachers.prompts import Prompt


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """All that an answer depends on; make one with `of`.

    Attributes:
        prompt: Name or hash of the prompt.
        model: Name of the model.
        content_sha256: Hash of the text that the model was given.
        settings: How it was asked to decode, as JSON with sorted keys.
    """

    prompt: str
    model: str
    content_sha256: str
    settings: str

    @classmethod
    def of(cls, prompt: str, model: str, content: str, settings: Mapping[str, Any]) -> "AnswerKey":
        """The key of an answer.

        Args:
            prompt: Name or hash of the prompt, such as `version_of` gives.
            model: Name of the model.
            content: The text to compress.
            settings: Everything else that changes the answer, as plain JSON values.
        """
        content_sha256 = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(prompt, model, content_sha256, json.dumps(settings, sort_keys=True))

    @property
    def digest(self) -> str:
        """SHA-256 of the key, in hex: the answer's name."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they stand beside the answer."""
        return {
            "prompt": self.prompt,
            "model": self.model,
            "content_sha256": self.content_sha256,
            "settings": json.loads(self.settings),
        }


def version_of(prompt: Prompt) -> str:
    """A prompt's name and a hash of its wording: a name alone may be left as it was."""
    chat = json.dumps(prompt.messages(""))
    return f"{prompt.name}-{hashlib.sha256(chat.encode()).hexdigest()[:16]}"


class AnswerCache:
    """Answers below one directory of a storage, one small object each; safe between threads.

    An object is written whole or not at all. Two writers of one key both write; either answer is
    as good, and the last stays.
    """

    def __init__(self, storage: Storage, directory: str) -> None:
        """Name the place; nothing is read or written yet.

        Args:
            storage: Where the directory is.
            directory: Path of the cache, relative to the storage.
        """
        self._storage = storage
        self._directory = directory

    def get(self, key: AnswerKey) -> str | None:
        """The answer of a key; None if there is none, or if its object is damaged."""
        try:
            record = json.loads(self._storage.get(self._name(key)))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        answer = record.pop("answer", None)
        return answer if isinstance(answer, str) and record == key.to_json() else None

    def put(self, key: AnswerKey, answer: str) -> None:
        """Keep an answer, in place of another or a damaged one."""
        record = {**key.to_json(), "answer": answer}
        self._storage.put(self._name(key), json.dumps(record).encode())

    def _name(self, key: AnswerKey) -> str:
        digest = key.digest
        return posixpath.join(self._directory, digest[:2], f"{digest}.json")
