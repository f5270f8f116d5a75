"""What a model in training is worth on the held-out documents, measured by all ranks together.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, L layers and the
embeddings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moos.engines.batching import plan_micro_batches
from moos.labelled_inputs import LabelledInputs
from moos.loss import PRESERVE_AT, count_labels, sum_cross_entropy, window_similarity
from moos.model import TokenClassifier
from moos.ranks import Ranks
from moos.training_config import TrainingConfig
from moos.training_data import TrainingWindow, label_windows, make_batch
from moos.training_step import precision_of
from moos.validation import area_under_curve, join_windows, labelled_words

_MICRO_BATCH_TOKENS = 4096

# Of one window: preserve probability of its own tokens, sum of the cross entropy, labelled tokens,
# and S of each layer where it holds both classes.
_Measured = tuple[NDArray[np.float32], float, int, list[float] | None]


@torch.inference_mode()
def validate(
    model: TokenClassifier,
    documents: Sequence[LabelledInputs],
    config: TrainingConfig,
    ranks: Ranks,
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures over all documents, the same on every rank and for any number of them.

    Args:
        model: What is in training.
        documents: Those held out.
        config: The run.
        ranks: This worker's place.
        on_progress: Called after each micro-batch.

    Returns:
        `precision`, `recall` and `f1` of class preserve over words at probability 0.5; `auc` over
        words; `loss`, `cross_entropy` and `similarity` as in training; `layer_similarity`, the mean
        S of the embeddings and of each layer over windows with both classes (over-smoothing shows
        as a rise). The model is left in evaluation mode.
    """
    model.eval()
    windows = label_windows(documents)
    plan = plan_micro_batches([len(item.input.ids) for item in windows], _MICRO_BATCH_TOKENS)
    measured: dict[int, _Measured] = {}
    for start in range(0, len(plan), ranks.world_size):
        # Sharded models gather their weights together: a rank without a share runs along.
        position = start + ranks.rank
        found = _measure(model, windows, plan[position % len(plan)], config, ranks)
        if position < len(plan):
            measured |= found
        on_progress()
    merged = {index: item for part in ranks.gather(measured) for index, item in part.items()}
    return _summarise(documents, [merged[index] for index in range(len(windows))], config)


def _measure(
    model: TokenClassifier,
    windows: Sequence[TrainingWindow],
    indices: Sequence[int],
    config: TrainingConfig,
    ranks: Ranks,
) -> dict[int, _Measured]:
    batch = make_batch([windows[index] for index in indices]).to(ranks.device)
    with precision_of(config, ranks.device):
        logits_BTC, hidden_LBTD = model(batch.ids, batch.attention, None)
    p_BT = logits_BTC.float().softmax(dim=-1)[..., 1].cpu().numpy()
    similarity_LB = torch.stack([window_similarity(h, batch.labels) for h in hidden_LBTD]).cpu()
    measured = {}
    for row, index in enumerate(indices):
        item = windows[index].input
        labels_1T = batch.labels[row : row + 1]
        counts = count_labels(labels_1T)
        entropy = float(sum_cross_entropy(logits_BTC[row : row + 1], labels_1T))
        similar = similarity_LB[:, row].tolist() if int(counts.both) else None
        own = p_BT[row, item.own_start : item.own_end].copy()
        measured[index] = (own, entropy, int(counts.labelled), similar)
    return measured


def _summarise(
    documents: Sequence[LabelledInputs], measured: Sequence[_Measured], config: TrainingConfig
) -> dict[str, Any]:
    p = join_windows(documents, {index: item[0] for index, item in enumerate(measured)})
    scores, labels = labelled_words(documents, p)
    is_preserved, is_kept = labels >= PRESERVE_AT, scores >= 0.5
    num_right = int((is_preserved & is_kept).sum())
    precision = num_right / max(1, int(is_kept.sum()))
    recall = num_right / max(1, int(is_preserved.sum()))
    entropy = sum(item[1] for item in measured) / max(1, sum(item[2] for item in measured))
    layers = [item[3] for item in measured if item[3] is not None]
    similarity = np.mean(layers, axis=0).tolist() if layers else []
    layer = similarity[config.similarity_layer] if similarity else 0.0
    return {
        "auc": area_under_curve(scores, is_preserved),
        "f1": 2 * num_right / max(1, int(is_kept.sum() + is_preserved.sum())),
        "precision": precision,
        "recall": recall,
        "loss": entropy + config.beta * layer,
        "cross_entropy": entropy,
        "similarity": layer,
        "layer_similarity": similarity,
    }
