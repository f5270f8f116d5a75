"""Over-smoothing is measured on the hidden states that the encoder has, head or no head."""

import numpy as np
import pytest
import torch

from moos.errors import DataError, ModelError
from moos.evaluation.smoothing import (
    label_by_compressor,
    load_encoder,
    measure_smoothing,
    measure_token_similarity,
)
from moos.labels import read_labelled

TEXT = (
    "The committee met on Tuesday and decided that no further action was needed before the next "
    "report. Prices rose by 3.5 percent, and the model keeps the words that matter most. "
)


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint):
    return load_encoder(str(tiny_checkpoint), max_length=64)


def similarity_by_hand(hidden, is_preserved):
    unit = hidden / hidden.norm(dim=-1, keepdim=True)
    return float((unit[is_preserved] @ unit[~is_preserved].T).mean())


def test_similarity_per_layer_is_the_mean_cosine_between_the_classes(encoder, tiny_compressor):
    text = "the committee met on the next test"  # every word is one token
    (document,) = label_by_compressor(tiny_compressor, [text])
    figures = measure_smoothing(encoder, [document])
    ids = [*encoder.tokenizer.prefix_ids, *encoder.tokenizer.tokenize([text])[0].ids.tolist()]
    ids = torch.tensor([[*ids, *encoder.tokenizer.suffix_ids]])
    with torch.inference_mode():
        _, hidden = encoder.model(ids, torch.ones_like(ids), None)
    is_preserved = torch.tensor(document.labels >= 0.5)
    expected = [similarity_by_hand(layer[0, 1:-1], is_preserved) for layer in hidden]
    assert figures.num_windows == 1
    np.testing.assert_allclose(figures.layer_similarity, expected, atol=1e-5)


def test_windows_without_both_classes_do_not_count(encoder, tiny_compressor):
    both, other = label_by_compressor(tiny_compressor, ["a b c d e f", "g h"], rate=0.5)
    other.labels[:] = 1.0
    alone, together = (measure_smoothing(encoder, part) for part in ([both], [both, other]))
    assert together.num_windows == alone.num_windows == 1
    np.testing.assert_allclose(together.layer_similarity, alone.layer_similarity, atol=1e-5)
    with pytest.raises(DataError, match="no window"):
        measure_smoothing(encoder, [other])
    with pytest.raises(DataError, match="no window"):
        measure_smoothing(encoder, [])


def test_a_long_text_is_measured_in_windows_whatever_the_batch(encoder, tiny_compressor):
    (long,) = label_by_compressor(tiny_compressor, [TEXT * 8])
    figures = measure_smoothing(encoder, [long])
    assert figures.num_windows > 2
    assert len(figures.layer_similarity) == 3  # embeddings and two layers
    assert all(-1 <= value <= 1 for value in figures.layer_similarity)


def test_a_bare_encoder_has_figures_too(training_base, labelled_jsonl):
    state = torch.random.get_rng_state()
    bare = load_encoder(str(training_base), max_length=64)
    assert torch.equal(torch.random.get_rng_state(), state)
    figures = measure_smoothing(bare, read_labelled(str(labelled_jsonl)))
    assert len(figures.layer_similarity) == 3
    again = measure_smoothing(
        load_encoder(str(training_base), max_length=64), read_labelled(str(labelled_jsonl))
    )
    assert figures == again  # whatever its head was drawn to be


def test_an_encoder_that_is_built_for_less_is_refused(tiny_checkpoint, training_base, tmp_path):
    with pytest.raises(ModelError, match="exceeds the 64 positions"):
        load_encoder(str(tiny_checkpoint))
    with pytest.raises(ModelError, match="exceeds the 64 positions"):
        load_encoder(str(training_base))
    with pytest.raises(ModelError, match="is not a directory"):
        load_encoder(str(tmp_path / "missing"))


def test_a_compressor_labels_what_it_keeps(tiny_compressor):
    text = "It rose 3.5 percent, and no more. " * 4
    (document,) = label_by_compressor(tiny_compressor, [text], rate=0.25)
    kept = tiny_compressor.compress(text, rate=0.25, protect=[]).word_table.kept
    assert (document.labels == kept).all()
    assert document.text[document.starts[2] : document.ends[2]] == "3.5"


def test_token_similarity_is_a_cosine_of_every_two_tokens(encoder):
    similarity = measure_token_similarity(encoder, "The test, the reader.")
    assert similarity.tokens == ("The", "test", ",", "the", "reader", ".")
    cosine = similarity.cosine
    assert cosine.shape == (6, 6)
    np.testing.assert_allclose(np.diag(cosine), 1.0, atol=1e-5)
    np.testing.assert_allclose(cosine, cosine.T, atol=1e-6)
    assert (np.abs(cosine) <= 1 + 1e-5).all()


def test_token_similarity_shows_the_first_window_of_a_long_text(encoder):
    similarity = measure_token_similarity(encoder, TEXT * 8)
    num_tokens = len(similarity.tokens)
    assert 20 < num_tokens <= 62
    (tokens,) = encoder.tokenizer.tokenize([TEXT * 8])
    alone = measure_token_similarity(encoder, (TEXT * 8)[: tokens.ends[num_tokens - 1]])
    assert similarity.tokens == alone.tokens
    np.testing.assert_allclose(similarity.cosine, alone.cosine, atol=1e-5)
    with pytest.raises(DataError, match="no tokens"):
        measure_token_similarity(encoder, " ")
