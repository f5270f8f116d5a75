"""The rounds on one corpus, and the figures that they come to."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from moos.benchmark.contestants import Turn
from moos.benchmark.figures import (
    describe_stages,
    describe_turns,
    shares_of_ceilings,
    speed_ratio,
    spread,
    tokens_per_s,
)
from moos.benchmark.flop import total_flop
from moos.benchmark.turns import ContestantError, ContestantProcess
from moos.checkpoint import Checkpoint, resolve_scoring
from moos.config import ScoringConfig, WindowConfig
from moos.errors import DataError
from moos.preparation import TextPreparer
from moos.tokens import TextTokenizer

logger = logging.getLogger(__name__)

REFERENCES = ("llmlingua2", "llmlingua2-tuned", "library")
"""Whom others are compared with."""

SETTLE_S = 0.3
"""Between turns: thread pools spin for a while after their work."""

Processes = dict[str, ContestantProcess]


@dataclass(slots=True)
class CorpusRun:
    """What comes of one corpus.

    Attributes:
        rounds: The turns of each round by contestant.
        ceilings: The machine's rates in each round.
        settings: What each contestant chose for this corpus.
        stages: Stages of the contestants that can tell.
        errors: Why a contestant has no turn, or not all.
    """

    rounds: list[dict[str, Turn]] = field(default_factory=list)
    ceilings: list[dict[str, float]] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def run_rounds(
    corpus: str,
    texts: Sequence[str],
    processes: Processes,
    ceiling: ContestantProcess,
    *,
    num_rounds: int,
    with_stages: bool,
    failed: Mapping[str, str],
) -> CorpusRun:
    """Let every contestant compress a corpus once a round, then once with its stages timed.

    Args:
        corpus: The corpus's name, for the log.
        texts: Its documents.
        processes: The contestants.
        ceiling: What measures the machine.
        num_rounds: Rounds.
        with_stages: Whether stages are timed.
        failed: Contestants that could not be loaded, and why.
    """
    run = CorpusRun(errors=dict(failed))
    for name, process in processes.items():
        with _noting(run, name, corpus):
            run.settings[name] = process.ask("prepare", list(texts))
    for number in range(num_rounds):
        run.ceilings.append(ceiling.ask("measure"))
        turns: dict[str, Turn] = {}
        for name in _rotate([who for who in processes if who not in run.errors], number):
            time.sleep(SETTLE_S)
            with _noting(run, name, corpus):
                turns[name] = processes[name].ask("run")
                rate = f"{tokens_per_s(turns[name]):,.0f}"
                at = f"{number + 1} of {num_rounds}"
                logger.info("%s, round %s: %s %s tokens/s", corpus, at, name, rate)
        run.rounds.append(turns)
    for name in ("library", "local", "ray") if with_stages else ():
        if name in processes and name not in run.errors:
            with _noting(run, name, corpus):
                times = processes[name].ask("time_stages")
                run.stages[name] = describe_stages(times, in_order=name == "library")
    return run


@contextmanager
def _noting(run: CorpusRun, name: str, corpus: str) -> Iterator[None]:
    try:
        yield
    except ContestantError as error:
        logger.error("%s failed on %s: %s", name, corpus, error)
        run.errors[name] = str(error)


def _rotate(names: list[str], by: int) -> list[str]:
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]


def describe_corpus(
    name: str, texts: Sequence[str], run: CorpusRun, checkpoint: Checkpoint
) -> dict[str, Any]:
    """All figures of a corpus, as they go into the JSON."""
    tokens, lengths = _measure_windows(texts, checkpoint)
    flop = total_flop(checkpoint.config, lengths)
    rates = run.ceilings[0] if run.ceilings else {}
    return {
        "name": name,
        "documents": len(texts),
        "chars": sum(map(len, texts)),
        "tokens": tokens,
        "windows": len(lengths),
        "mflop_per_token": None if flop is None else round(flop / max(1, tokens) / 1e6, 2),
        "ceilings": {key: spread([r[key] for r in run.ceilings if key in r]) for key in rates},
        "contestants": {
            who: _describe_contestant(who, run, flop) for who in {**run.settings, **run.errors}
        },
        "stages": run.stages,
        "turns": [{who: asdict(turn) for who, turn in turns.items()} for turns in run.rounds],
    }


def _describe_contestant(name: str, run: CorpusRun, flop: int | None) -> dict[str, Any]:
    ratios = {other: speed_ratio(run.rounds, name, other) for other in REFERENCES if other != name}
    return {
        **describe_turns([turns[name] for turns in run.rounds if name in turns]),
        "speed_ratio": {other: ratio for other, ratio in ratios.items() if ratio is not None},
        "share_of_ceiling": shares_of_ceilings(run.rounds, name, flop, run.ceilings),
        "settings": run.settings.get(name, {}),
        "error": run.errors.get(name),
    }


def _measure_windows(texts: Sequence[str], checkpoint: Checkpoint) -> tuple[int, list[int]]:
    """Tokens of the texts, and the lengths of the windows that the library cuts them into."""
    scoring = resolve_scoring(checkpoint, ScoringConfig(), WindowConfig())
    tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
    preparer = TextPreparer(tokenizer, scoring.max_length, scoring.context_tokens)
    tokens = 0
    lengths: list[int] = []
    for text in texts:
        (part,) = preparer.prepare([text])
        if isinstance(part, DataError):
            continue
        tokens += len(part.token_words)
        lengths.extend(len(window.ids) for window in part.inputs)
    return tokens, lengths
