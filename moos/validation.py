"""What a trained classifier is worth on held-out documents, and the constants it ships with.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, C classes (0 discard,
1 preserve).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from moos.engines import EncoderInput
from moos.engines.batching import plan_micro_batches
from moos.labelled_inputs import LabelledInputs
from moos.loss import PRESERVE_AT, class_similarity
from moos.model import TokenClassifier
from moos.outlier import OutlierConstants, reduce_z_scores, score_outliers
from moos.scores import combine_scores, reduce_to_words
from moos.training_data import pad_windows, split_by_window

ALPHAS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
RANGE_QUANTILES = (0.001, 0.999)
NOISE = 0.002
"""A smaller difference in AUC, about that between two seeds, decides nothing."""

_MICRO_BATCH_TOKENS = 4096
Statistics = Literal["window", "checkpoint"]


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """A labelled document with what the model says of each of its T tokens.

    Attributes:
        document: The document.
        preserve_probability: Shape (T,).
        outlier_score: Shape (T,), by the source of its statistics.
        similarities: L_CS of each window that holds both classes.
    """

    document: LabelledInputs
    preserve_probability: NDArray[np.float32]
    outlier_score: dict[Statistics, NDArray[np.float32]]
    similarities: list[float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The scoring settings that validation chose.

    Attributes:
        alpha: Weight of the preserve probability.
        statistics: Where the outlier score's statistics come from.
        auc: AUC over words with both.
        table: AUC by statistics, then by alpha.
    """

    alpha: float
    statistics: Statistics
    auc: float
    table: dict[Statistics, dict[float, float]]


def area_under_curve(scores: NDArray[np.floating], is_preserved: NDArray[np.bool_]) -> float:
    """Chance that a preserve word scores above a discard word, a tie being half; else NaN."""
    num_preserved = int(is_preserved.sum())
    num_pairs = num_preserved * (len(is_preserved) - num_preserved)
    if num_pairs == 0:
        return float("nan")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    below = ranks[is_preserved].sum() - num_preserved * (num_preserved + 1) / 2
    return float(below / num_pairs)


def word_auc(
    documents: Sequence[LabelledInputs], token_scores: Sequence[NDArray[np.float32]]
) -> float:
    """AUC over the labelled words of all documents together; a word's score is its tokens' mean."""
    scores, labels = labelled_words(documents, token_scores)
    return area_under_curve(scores, labels >= PRESERVE_AT)


def labelled_words(
    documents: Sequence[LabelledInputs], token_scores: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score and label of every labelled word; a word's score is the mean of its tokens'."""
    scores, labels = [], []
    for document, values in zip(documents, token_scores, strict=True):
        scores.append(reduce_to_words(values, document.token_words, len(document.word_labels)))
        labels.append(document.word_labels)
    all_labels = np.concatenate(labels)
    labelled = ~np.isnan(all_labels)
    return np.concatenate(scores)[labelled], all_labels[labelled]


@torch.inference_mode()
def encode_windows(
    model: TokenClassifier, inputs: Sequence[EncoderInput]
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Position of each window; its own tokens' preserve probability (T,) and hidden states (T, D).

    Windows come out grouped by length, not in order. The model is put in evaluation mode.
    """
    model.eval()
    for batch in plan_micro_batches([len(item.ids) for item in inputs], _MICRO_BATCH_TOKENS):
        ids_BT, attention_BT = pad_windows([inputs[index] for index in batch])
        device = next(model.parameters()).device
        logits_BTC, hidden_BTD = model(ids_BT.to(device), attention_BT.to(device))
        p_BT, hidden_BTD = logits_BTC.float().softmax(dim=-1)[..., 1].cpu(), hidden_BTD.cpu()
        for row, index in enumerate(batch):
            own = slice(inputs[index].own_start, inputs[index].own_end)
            yield index, p_BT[row, own], hidden_BTD[row, own]


def join_windows(
    documents: Sequence[LabelledInputs], by_window: dict[int, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Each document's values, shape (T,), from those of the windows, counted over all documents."""
    position = 0
    joined = []
    for document in documents:
        parts = [by_window[position + offset] for offset in range(len(document.inputs))]
        position += len(document.inputs)
        joined.append(np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32))
    return joined


def measure_outlier_constants(
    model: TokenClassifier, inputs: Sequence[EncoderInput]
) -> OutlierConstants:
    """Mean, deviation and range of the windows' own tokens, for outlier statistics "checkpoint".

    Mean and population deviation per dimension; the range is that of the middle 99.8 % of the
    tokens' L2 norms of z-scores, so that a few freaks do not press all others together. The
    windows are encoded twice, so that memory does not grow with them.
    """
    count, total_D, squares_D = 0, torch.zeros(()), torch.zeros(())
    for _, _, hidden_TD in encode_windows(model, inputs):
        count += len(hidden_TD)
        total_D = total_D + hidden_TD.double().sum(dim=0)
        squares_D = squares_D + hidden_TD.double().square().sum(dim=0)
    mean_D = total_D / count
    std_D = (squares_D / count - mean_D.square()).clamp(min=0.0).sqrt()
    spread_D = torch.where(std_D > 0, std_D, torch.inf)
    norms = [
        reduce_z_scores((hidden_TD - mean_D.float()) / spread_D.float(), "l2")
        for _, _, hidden_TD in encode_windows(model, inputs)
    ]
    low, high = np.quantile(torch.cat(norms).numpy(), RANGE_QUANTILES).tolist()
    return OutlierConstants(mean_D.float(), std_D.float(), low, high)


def encode_documents(
    model: TokenClassifier, documents: Sequence[LabelledInputs], constants: OutlierConstants
) -> list[EncodedDocument]:
    """Everything that scoring settings are chosen by, for each document, encoded once."""
    inputs = [item for document in documents for item in document.inputs]
    labels = [
        torch.from_numpy(part)
        for document in documents
        for part in split_by_window(document, document.token_labels)
    ]
    p_by_window: dict[int, NDArray[np.float32]] = {}
    s_by_window: dict[Statistics, dict[int, NDArray[np.float32]]] = {"window": {}, "checkpoint": {}}
    similarity: dict[int, float] = {}
    for index, p_T, hidden_TD in encode_windows(model, inputs):
        hidden_1TD, label_1T = hidden_TD.unsqueeze(0), labels[index].unsqueeze(0)
        owned_1T = torch.ones_like(label_1T, dtype=torch.bool)
        p_by_window[index] = p_T.numpy()
        for name, stored in (("window", None), ("checkpoint", constants)):
            s_1T = score_outliers(hidden_1TD, owned_1T, constants=stored)
            s_by_window[name][index] = s_1T[0].numpy()  # type: ignore[index]
        if (label_1T >= PRESERVE_AT).any() and (label_1T < PRESERVE_AT).any():
            similarity[index] = float(class_similarity(hidden_1TD, label_1T))
    p = join_windows(documents, p_by_window)
    s = {name: join_windows(documents, parts) for name, parts in s_by_window.items()}
    encoded, position = [], 0
    for row, document in enumerate(documents):
        windows = range(position, position + len(document.inputs))
        position += len(document.inputs)
        encoded.append(
            EncodedDocument(
                document,
                p[row],
                {name: parts[row] for name, parts in s.items()},
                [similarity[index] for index in windows if index in similarity],
            )
        )
    return encoded


def choose_scoring(encoded: Sequence[EncodedDocument]) -> Choice:
    """Sweep alpha under both statistics, and choose by word AUC.

    What is worth having for another reason is chosen unless it costs more than noise: statistics
    from the checkpoint, which thresholds need; and the smallest alpha, since the outlier score
    keeps rare words in kinds of text that the labels do not cover.
    """
    documents = [item.document for item in encoded]
    table: dict[Statistics, dict[float, float]] = {}
    statistics: tuple[Statistics, ...] = ("checkpoint", "window")
    for name in statistics:
        table[name] = {
            alpha: word_auc(
                documents,
                [
                    combine_scores(item.preserve_probability, item.outlier_score[name], alpha)
                    for item in encoded
                ],
            )
            for alpha in ALPHAS
        }
    best = {name: max(row.values()) for name, row in table.items()}
    chosen: Statistics = "checkpoint"
    if best["window"] > best["checkpoint"] + NOISE:
        chosen = "window"
    row = table[chosen]
    alpha = min(alpha for alpha, auc in row.items() if auc >= best[chosen] - NOISE)
    return Choice(alpha, chosen, row[alpha], table)


def auc_by_domain(encoded: Sequence[EncodedDocument]) -> dict[str, float]:
    """AUC over words of the preserve probability, within each kind of text."""
    domains = sorted({item.document.domain for item in encoded})
    figures = {}
    for domain in domains:
        members = [item for item in encoded if item.document.domain == domain]
        figures[domain] = word_auc(
            [item.document for item in members], [item.preserve_probability for item in members]
        )
    return figures
