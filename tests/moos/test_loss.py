import itertools

import pytest
import torch

from moos.loss import IGNORE, class_similarity, combined_loss, sum_cross_entropy


def double_sum(hidden, labels):
    """S of one sequence, written as the paper does."""
    preserve = [h for h, y in zip(hidden, labels, strict=True) if y >= 0.5]
    discard = [h for h, y in zip(hidden, labels, strict=True) if y < 0.5]
    pairs = list(itertools.product(preserve, discard))
    return sum(torch.cosine_similarity(a, b, dim=0) for a, b in pairs) / len(pairs)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    hidden = torch.randn(3, 7, 5)
    labels = torch.rand(3, 7)
    labels[:, 0], labels[:, 1] = 0.9, 0.1
    labels[1, 3] = IGNORE
    return torch.randn(3, 7, 2), hidden, labels


def test_similarity_equals_the_double_sum_over_pairs(batch):
    _, hidden, labels = batch
    expected = torch.stack([double_sum(h, y) for h, y in zip(hidden, labels, strict=True)]).mean()
    torch.testing.assert_close(class_similarity(hidden, labels), expected)


def test_classes_part_at_a_soft_label_of_one_half():
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    labels = torch.tensor([[0.5, 0.49, 0.0]])
    torch.testing.assert_close(class_similarity(hidden, labels), torch.tensor(0.5**0.5 / 2))


def test_padding_changes_neither_part_of_the_loss(batch):
    logits, hidden, labels = batch
    plain = combined_loss(logits, hidden, labels, beta=0.5)
    padded = combined_loss(
        torch.cat([logits, torch.full((3, 4, 2), 9.0)], dim=1),
        torch.cat([hidden, torch.full((3, 4, 5), -7.0)], dim=1),
        torch.cat([labels, torch.full((3, 4), IGNORE)], dim=1),
        beta=0.5,
    )
    torch.testing.assert_close(padded.cross_entropy, plain.cross_entropy)
    torch.testing.assert_close(padded.similarity, plain.similarity)
    torch.testing.assert_close(padded.total, plain.cross_entropy + 0.5 * plain.similarity)


@pytest.mark.parametrize("label", [0.0, 1.0, IGNORE])
def test_a_sequence_without_both_classes_has_similarity_zero(label):
    hidden = torch.randn(2, 4, 3, requires_grad=True)
    similarity = class_similarity(hidden, torch.full((2, 4), label))
    similarity.backward()
    assert similarity.item() == 0.0
    assert hidden.grad.isfinite().all()


def test_sequences_of_one_class_do_not_thin_the_mean(batch):
    _, hidden, labels = batch
    with_extra = class_similarity(
        torch.cat([hidden, hidden[:1]]), torch.cat([labels, torch.ones(1, 7)])
    )
    torch.testing.assert_close(with_extra, class_similarity(hidden, labels))


def test_the_gradient_pushes_the_classes_apart(batch):
    _, hidden, labels = batch
    hidden.requires_grad_()
    before = class_similarity(hidden, labels)
    before.backward()
    after = class_similarity(hidden.detach() - 0.5 * hidden.grad, labels)
    assert after < before


def test_similarity_is_computed_in_fp32_even_for_half_precision_states(batch):
    _, hidden, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        similarity = class_similarity(hidden.bfloat16(), labels)
    assert similarity.dtype == torch.float32
    torch.testing.assert_close(similarity, class_similarity(hidden.bfloat16().float(), labels))


@pytest.mark.parametrize("ignored", [IGNORE, -100.0])
def test_cross_entropy_counts_labelled_tokens_only(ignored):
    logits = torch.tensor([[[3.0, -1.0], [0.0, 0.0], [-2.0, 5.0]]])
    labels = torch.tensor([[ignored, 1.0, ignored]])
    torch.testing.assert_close(sum_cross_entropy(logits, labels), torch.tensor(2.0).log())


def test_cross_entropy_of_a_soft_label_is_least_at_that_probability():
    logits = torch.zeros(1, 1, 2, requires_grad=True)
    sum_cross_entropy(logits, torch.tensor([[0.5]])).backward()
    assert logits.grad.abs().max() < 1e-7
    low = sum_cross_entropy(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[0.8]]))
    high = sum_cross_entropy(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.8]]))
    assert low < high


def test_a_batch_without_labels_has_loss_zero():
    logits = torch.randn(1, 3, 2, requires_grad=True)
    loss = combined_loss(logits, torch.randn(1, 3, 4), torch.full((1, 3), IGNORE), beta=1.0)
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert logits.grad.isfinite().all()
