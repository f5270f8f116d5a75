"""How many floating-point operations an encoder needs for a window, from its config alone."""

from collections.abc import Iterable, Mapping
from typing import Any

_PLAIN = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})


def window_flop(config: Mapping[str, Any], length: int) -> int | None:
    """Multiplications and additions of one forward pass over one window, without padding.

    Counted are matrix products: projections, feed-forward, both products of the attention, and the
    classifier of two classes. Norms, activations and look-ups are a per cent or two besides.

    Args:
        config: Contents of the checkpoint's `config.json`.
        length: Positions of the window, special tokens included.

    Returns:
        None for an encoder of another kind than BERT's and XLM-RoBERTa's.
    """
    if config.get("model_type") not in _PLAIN:
        return None
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    projections = 4 * 2 * length * hidden * hidden
    feed_forward = 2 * 2 * length * hidden * inner
    attention = 2 * 2 * length * length * hidden
    classifier = 2 * length * hidden * 2
    return int(config["num_hidden_layers"]) * (projections + feed_forward + attention) + classifier


def total_flop(config: Mapping[str, Any], lengths: Iterable[int]) -> int | None:
    """The same over many windows; None where one of them is."""
    total = 0
    for length in lengths:
        flop = window_flop(config, length)
        if flop is None:
            return None
        total += flop
    return total
