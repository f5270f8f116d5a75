"""What evaluation passes around: examples of tasks, prompts for readers, their answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Scorer = Callable[[str, "Example"], float]
"""From a reader's answer, as it came, and its example to a score in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question to a reader.

    Attributes:
        id: Unique within its task.
        context: What is compressed; examples of one task that share a context share its
            compression.
        before: What the prompt holds before the context.
        after: What it holds after the context: the question.
        question: The question alone, for reports.
        answers: Accepted answers, at least one.
        classes: The labels that a classification task allows; empty for others.
    """

    id: str
    context: str
    before: str
    after: str
    question: str
    answers: tuple[str, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark's examples, with its own way of asking and of scoring.

    Attributes:
        name: Such as `xquad-en` or `longbench/hotpotqa`.
        group: Tasks that are averaged together in reports, such as `single-document QA`.
        metric: Name of the score, such as `F1`.
        score: The scorer.
        examples: The examples.
        max_new_tokens: Longest answer, in the reader's tokens.
        stop: An answer ends before the first of these.
        chat: The prompt is a chat turn; False gives it to the model as it stands.
        source: Where prompt, answer extraction and metric are from.
        max_context_tokens: Contexts with more of the reader's tokens lose their middle, as
            LongBench does it; None: none do.
    """

    name: str
    group: str
    metric: str
    score: Scorer
    examples: tuple[Example, ...]
    max_new_tokens: int
    stop: tuple[str, ...]
    chat: bool
    source: str
    max_context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ReaderPrompt:
    """A prompt in two parts; the text is `shared + own`.

    Attributes:
        shared: The beginning, which other prompts may have too: it is then read once.
        own: The rest.
        chat: As in `Task`.
        max_new_tokens: As in `Task`.
        stop: As in `Task`.
    """

    shared: str
    own: str
    chat: bool
    max_new_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReaderAnswer:
    """What a reader made of a prompt.

    Attributes:
        text: The answer, without what stopped it.
        num_prompt_tokens: Tokens of the prompt, as the reader counts them.
        num_answer_tokens: Tokens of the answer.
        seconds: Time it took: of its batch, shared evenly.
    """

    text: str
    num_prompt_tokens: int
    num_answer_tokens: int
    seconds: float


class Reader(Protocol):
    """A language model that answers, greedily: the same prompt has the same answer."""

    name: str

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        ...

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        """Answer prompts; the answers in their order.

        Args:
            prompts: The prompts.
            on_answer: Told each answer with its position, as soon as it is there.

        Raises:
            MoosError: The reader does not answer.
        """
        ...


class Method(Protocol):
    """A way to make contexts shorter."""

    name: str

    def compress(self, contexts: Sequence[str], budgets: Sequence[int]) -> list[str]:
        """The contexts' compressions, in order.

        Args:
            contexts: Different texts.
            budgets: The most tokens of each compression, as the reader counts them; what the
                method must keep anyway may exceed it.
        """
        ...
