"""The package itself is not needed here: a fake of it stands in for what it is asked."""

from types import SimpleNamespace

import pytest
import torch

from moos.benchmark.llmlingua2 import LLMLingua2Contestant, LLMLingua2Spec
from moos.checkpoint import read_checkpoint
from moos.errors import ModelError
from moos.tokens import TextTokenizer


class FakePackage:
    """Keeps every other word; fails on blank texts, as the package does."""

    def __init__(self):
        self.max_batch_size = 50
        self.model = SimpleNamespace()
        self.calls = []

    def compress_prompt(self, context, rate, use_context_level_filter=True):
        texts = [context] if isinstance(context, str) else context
        self.calls.append((len(texts), use_context_level_filter, self.max_batch_size))
        if any(not text.strip() or "bad" in text for text in texts):
            raise IndexError("list index out of range")
        compressed = [" ".join(text.split()[::2]) for text in texts]
        return {"compressed_prompt": "\n".join(compressed), "compressed_prompt_list": compressed}


@pytest.fixture
def make_contestant(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("moos.benchmark.llmlingua2._data_types", lambda device: ["float32"])

    def make(*, is_tuned):
        spec = LLMLingua2Spec(
            checkpoint=str(tiny_checkpoint), device="cpu", threads=1, rate=0.5, is_tuned=is_tuned
        )
        tokenizer = TextTokenizer.from_file(read_checkpoint(str(tiny_checkpoint)).tokenizer_path)
        return LLMLingua2Contestant(FakePackage(), tokenizer, spec)

    return make


def test_its_users_call_it_once_a_document_with_its_defaults(make_contestant):
    contestant = make_contestant(is_tuned=False)
    texts = ["the committee met on tuesday"] * 3
    assert contestant.prepare(texts) == {"max_batch_size": 50, "dtype": "float32"}
    turn = contestant.run()
    assert contestant._package.calls[-3:] == [(1, True, 50)] * 3
    assert turn.tokens > turn.kept_tokens > 0
    assert turn.failed_documents == 0


def test_tuned_it_gets_all_documents_in_a_call_with_the_fastest_batch_size(make_contestant):
    contestant = make_contestant(is_tuned=True)
    settings = contestant.prepare(["the committee met on tuesday"] * 30)
    assert set(settings["tried"]) == {"float32/4", "float32/16", "float32/50"}
    contestant.run()
    assert contestant._package.calls[-1] == (30, False, settings["max_batch_size"])


@pytest.mark.parametrize("is_tuned", [False, True])
def test_documents_on_which_it_fails_are_counted_and_not_credited(make_contestant, is_tuned):
    contestant = make_contestant(is_tuned=is_tuned)
    contestant.prepare(["the committee met", " ", "on tuesday"])
    turn = contestant.run()
    assert turn.failed_documents == 1
    contestant.prepare(["the committee met", "bad"])
    assert contestant.run().failed_documents == 1
    contestant.prepare(["fine", *["bad"] * 3])
    contestant._texts = ["bad"]
    with pytest.raises(ModelError, match="nothing for any of 1"):
        contestant.run()


def test_a_half_precision_model_gives_logits_that_numpy_can_take(make_contestant):
    contestant = make_contestant(is_tuned=True)
    model = torch.nn.Module()
    model.classifier = torch.nn.Linear(4, 2)
    contestant._models["float32"] = model
    contestant._set("bfloat16", 16)
    logits = contestant._package.model.classifier(torch.ones(1, 4, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert model.classifier.weight.dtype == torch.float32
