"""Extractive decoding with a tiny random model: what holds whatever the model says."""

import numpy as np
import pytest
import torch

from moos.errors import ModelError
from moos.teachers.extractive import ExtractiveTeacher, Rules
from moos.teachers.prompts import FACTS, Prompt
from moos.teachers.shared_prefix import ATTENTION
from tests.tiny_teacher import make_model, make_tokenizer

PROMPT = Prompt("test", "Delete words.", (("one two three", "one three"),))
SENTENCE = "The cat sat on the mat, and 3 dogs looked at it for an hour."
TEXTS = [SENTENCE.split(), [], ["word"], list("abcdefghabcdefgh")]


def label(texts, **settings):
    teacher = ExtractiveTeacher(make_model(ATTENTION), make_tokenizer(), PROMPT, **settings)
    return dict(teacher.label(texts))


def test_examples_only_delete_words():
    for original, compressed in FACTS.examples:
        words = iter(original.split())
        assert all(word in words for word in compressed.split())


def test_every_word_gets_one_label_and_gaps_stay_within_reach():
    labels = label(TEXTS, rules=Rules(skip=3))
    assert sorted(labels) == [0, 1, 2, 3]
    for index, words in enumerate(TEXTS):
        assert labels[index].keep.shape == labels[index].labels.shape == (len(words),)
        assert np.isfinite(labels[index].labels).all()
        assert ((labels[index].labels >= 0) & (labels[index].labels <= 1)).all()
        kept = np.flatnonzero(np.append(labels[index].keep, True))
        assert (np.diff(np.append(-1, kept)) <= 4).all()


def test_the_batch_changes_no_label():
    alone = label(TEXTS, batch_size=1)
    together = label(TEXTS, batch_size=4)
    for index in alone:
        np.testing.assert_allclose(alone[index].labels, together[index].labels, atol=1e-4)
        np.testing.assert_array_equal(alone[index].keep, together[index].keep)


def test_first_label_is_the_hazard_under_the_plain_model():
    words = TEXTS[0]
    found = label([words], rules=Rules(gain=0.0, skip=len(words)))[0]
    tokenizer = make_tokenizer()
    chat = tokenizer.apply_chat_template(
        PROMPT.messages(" ".join(words)), tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([tokenizer(chat, add_special_tokens=False).input_ids])
    logits = make_model("eager")(ids).logits[0, -1].double()
    firsts = list(dict.fromkeys(tokenizer(word).input_ids[0] for word in words))
    mass = logits.detach()[[*firsts, tokenizer.eos_token_id]].softmax(dim=0)
    assert found.labels[0] == pytest.approx(float(mass[0]), abs=1e-4)


def test_the_bar_rises_with_kept_words_and_falls_with_dropped_ones():
    rules = Rules(rate=0.5, gain=0.2, lowest=-1.0, highest=1.0)
    assert rules.move_bar(0.0, True) == pytest.approx(0.1)
    assert rules.move_bar(0.0, False) == pytest.approx(-0.1)
    assert rules.move_bar(1.0, True) == 1.0
    assert rules.move_bar(-1.0, False) == -1.0


def test_a_model_without_chat_template_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        ExtractiveTeacher(make_model(ATTENTION), make_tokenizer(None), PROMPT)
