"""From turns to figures: rates, ratios within rounds, shares of a ceiling.

Contestants of one round ran within minutes of each other, so their ratio is taken within it: what
else the machine does changes from round to round, and mostly falls out.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from moos.benchmark.contestants import StageTimes, Turn

Rounds = Sequence[Mapping[str, Turn]]
"""For each round the turns of the contestants that got through it, by name."""


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float] | None:
    """Median, least and most; None of nothing."""
    if not values:
        return None
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def tokens_per_s(turn: Turn) -> float:
    """Tokens of the documents per second of work."""
    return turn.tokens / turn.seconds


def speed_ratio(rounds: Rounds, name: str, reference: str) -> dict[str, float] | None:
    """How many times as fast as the reference a contestant is, over rounds that have both."""
    both = [turns for turns in rounds if name in turns and reference in turns]
    return spread([tokens_per_s(turns[name]) / tokens_per_s(turns[reference]) for turns in both])


def shares_of_ceilings(
    rounds: Rounds, name: str, flop: int | None, ceilings: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """A contestant's encoder operations per second over each measured matrix rate.

    Args:
        rounds: The rounds.
        name: The contestant.
        flop: Operations that the corpus needs at the library's windows, without padding; None where
            that is not known.
        ceilings: The rates of each round, as `Ceilings.measure` names them.

    Returns:
        The median over rounds by data type, such as `fp32`; an int8 engine may pass 1 of `fp32`.
    """
    shares: dict[str, list[float]] = {}
    for turns, rates in zip(rounds, ceilings, strict=True):
        if flop is None or name not in turns:
            continue
        rate = flop / turns[name].seconds / 1e9
        for key, ceiling in rates.items():
            if key.endswith("_gflop_s"):
                shares.setdefault(key.removesuffix("_gflop_s"), []).append(rate / ceiling)
    return {dtype: round(statistics.median(values), 4) for dtype, values in shares.items()}


def describe_turns(turns: Sequence[Turn]) -> dict[str, Any]:
    """What a contestant's turns come to, and each of them."""
    if not turns:
        return {}
    names = turns[0].starts
    tokens = sum(turn.tokens for turn in turns)
    return {
        "tokens_per_s": spread([tokens_per_s(turn) for turn in turns], 1),
        "tokens_per_s_with_starts": spread(
            [turn.tokens / (turn.seconds + sum(turn.starts.values())) for turn in turns], 1
        ),
        "cores_used": spread([t.cpu_s / t.seconds for t in turns if t.cpu_s is not None], 2),
        "kept_rate": round(sum(turn.kept_tokens for turn in turns) / max(1, tokens), 4),
        "failed_documents": max(turn.failed_documents for turn in turns),
        "starts_s": {name: spread([turn.starts[name] for turn in turns], 2) for name in names},
        "bytes_written": turns[-1].bytes_written,
        "data_bytes": turns[-1].data_bytes,
        "turns_s": [round(turn.seconds, 4) for turn in turns],
    }


def describe_stages(times: StageTimes, *, in_order: bool) -> dict[str, Any]:
    """Seconds of each stage and its share of them all.

    Args:
        times: The stages of one turn.
        in_order: Stages follow one another, so that the turn's other time is known, too.
    """
    seconds = dict(times.seconds)
    if in_order:
        seconds["other"] = max(0.0, times.wall_s - sum(seconds.values()))
    total = sum(seconds.values()) or 1.0
    score = seconds.get("score")
    return {
        "wall_s": round(times.wall_s, 4),
        "seconds": _rounded(seconds),
        "share": {name: round(value / total, 4) for name, value in seconds.items()},
        "share_besides_score": None if score is None else round(1 - score / total, 4),
        "in_turn_s": None if times.in_turn is None else _rounded(times.in_turn),
        "cpu_s": None if times.cpu_s is None else _rounded(times.cpu_s),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}
