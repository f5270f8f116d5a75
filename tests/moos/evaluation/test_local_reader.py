"""A tiny random model as reader: its answers are those of plain generation, one by one."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from moos.config import ConfigModel, load_config
from moos.errors import ConfigError, DataError, ModelError
from moos.evaluation.example import ReaderPrompt
from moos.evaluation.reader_config import LocalReaderConfig, ReaderConfig
from moos.evaluation.readers import load_reader, row_groups
from moos.evaluation.readers.batches import TokenizedPrompt, WaitingPrompts
from moos.evaluation.readers.local import LocalReader
from moos.evaluation.readers.row_groups import RowGroup
from tests.tiny_teacher import make_model, make_tokenizer

SIZES = {
    "vocab_size": 98,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.6,
}
# Tokens that a random model comes across now and then, so that answers differ in length.
ENDS = list(range(0, 98, 12))
CONTEXTS = ["The cat sat on the mat.", "Three dogs, 12 birds; nobody else came to the party!", ""]
QUESTIONS = ["Who sat?", "Where?", "How many birds were there, and how many dogs?"]
PROMPTS = [
    ReaderPrompt(f"Text: {context}", f" Q: {question}", chat, 24, ())
    for chat in (True, False)
    for context in CONTEXTS
    for question in QUESTIONS
]


def make(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


KINDS = {
    "llama": lambda: make_model("sdpa"),
    "llama-eager": lambda: make_model("eager"),
    "qwen2": lambda: make(Qwen2Config(**SIZES, intermediate_size=16, num_key_value_heads=2)),
    "sliding-window": lambda: make(
        MistralConfig(**SIZES, intermediate_size=16, num_key_value_heads=2, sliding_window=8)
    ),
    "learned-positions": lambda: make(GPT2Config(**SIZES, n_positions=256)),
}


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def model():
    model = make_model("sdpa")
    model.generation_config.eos_token_id = ENDS
    return model


def text_of(tokenizer, prompt):
    text = prompt.shared + prompt.own
    if not prompt.chat:
        return text
    turns = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def generate(model, tokenizer, prompt):
    """The new tokens that plain generation gives, without the end."""
    ids = tokenizer(text_of(tokenizer, prompt), add_special_tokens=not prompt.chat).input_ids
    ends = model.generation_config.eos_token_id
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=prompt.max_new_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    new = output[0, len(ids) :].tolist()
    ends = ends if isinstance(ends, list) else [ends]
    return len(ids), list(itertools.takewhile(lambda token: token not in ends, new))


def note_shapes(model):
    """The shapes of what the model is given from now on."""
    shapes = []

    def note(_, args, kwargs):
        shapes.append(tuple(kwargs["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return shapes


@pytest.mark.parametrize(
    ("kind", "batch_tokens"), [("llama", 1), *((kind, 600) for kind in KINDS), ("llama", 100_000)]
)
def test_answers_are_those_of_plain_generation(tokenizer, kind, batch_tokens):
    model = KINDS[kind]()
    model.generation_config.eos_token_id = ENDS
    reader = LocalReader(model, tokenizer, name="tiny", batch_tokens=batch_tokens)
    told = {}
    answers = reader.answer(PROMPTS, told.__setitem__)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        num_prompt_tokens, ids = generate(model, tokenizer, prompt)
        assert answer.text == tokenizer.decode(ids)
        assert (answer.num_prompt_tokens, answer.num_answer_tokens) == (num_prompt_tokens, len(ids))
    assert [told[index] for index in range(len(PROMPTS))] == answers
    assert len({answer.num_answer_tokens for answer in answers}) > 3


def test_equal_prompts_and_prompts_that_begin_like_others_have_their_own_answers(model, tokenizer):
    texts = ["a", "a", "ab", "abc", "ab"]
    prompts = [ReaderPrompt("", text, False, 8, ()) for text in texts]
    answers = LocalReader(model, tokenizer, name="tiny").answer(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == tokenizer.decode(generate(model, tokenizer, prompt)[1])


def test_no_prompts_have_no_answers(model, tokenizer):
    assert LocalReader(model, tokenizer, name="tiny").answer([]) == []


def make_merging_tokenizer():
    """One that reads `ab` and `abc` as one token each."""
    pieces = ["</s>", *(chr(code) for code in range(32, 127)), "ab", "abc"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("a", "b"), ("ab", "c")]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)), eos_token="</s>"
    )


def test_a_token_that_reaches_across_the_cut_is_read_as_in_the_whole_text(model):
    tokenizer = make_merging_tokenizer()
    prompts = [ReaderPrompt("xyza", own, False, 8, ()) for own in ("bcx", "bx", "c", "")]
    separately = [len(tokenizer(part).input_ids) for part in ("xyza", "bcx")]
    assert sum(separately) > len(tokenizer("xyzabcx").input_ids)
    shapes = note_shapes(model)
    answers = LocalReader(model, tokenizer, name="tiny").answer(prompts)
    assert shapes[0] == (1, 3)  # xyz: what follows it differs from prompt to prompt
    for prompt, answer in zip(prompts, answers, strict=True):
        num_prompt_tokens, ids = generate(model, tokenizer, prompt)
        assert answer.text == tokenizer.decode(ids)
        assert answer.num_prompt_tokens == num_prompt_tokens


def test_what_prompts_share_is_read_once(model, tokenizer):
    prompts = [ReaderPrompt(40 * letter, f"?{n}", False, 4, ()) for letter in "xy" for n in "123"]
    shapes = note_shapes(model)
    LocalReader(model, tokenizer, name="tiny").answer(prompts)
    assert shapes[:2] == [(2, 41), (6, 1)]  # "?" is shared as well
    assert all(width == 1 for _, width in shapes[2:])


def test_a_model_of_full_attention_shares_what_one_with_windows_reads_alone(tokenizer):
    prompts = [ReaderPrompt(9 * "x", f"?{n}", False, 1, ()) for n in "123"]
    for kind, read in (("qwen2", [(1, 10), (3, 1)]), ("sliding-window", [(3, 11)])):
        model = KINDS[kind]()
        shapes = note_shapes(model)
        LocalReader(model, tokenizer, name=kind).answer(prompts)
        assert shapes == read


def test_a_row_that_has_ended_leaves_the_batch(model, tokenizer):
    prompts = [
        dataclasses.replace(prompt, max_new_tokens=most, stop=())
        for prompt, most in zip(PROMPTS[:4], (1, 2, 2, 5), strict=True)
    ]
    model.generation_config.eos_token_id = None
    shapes = note_shapes(model)
    answers = LocalReader(model, tokenizer, name="tiny").answer(prompts)
    assert [answer.num_answer_tokens for answer in answers] == [1, 2, 2, 5]
    assert [rows for rows, _ in shapes[1:]] == [4, 3, 1, 1, 1]


def test_an_answer_ends_before_its_first_stop_string(model, tokenizer):
    model.generation_config.eos_token_id = None
    plain = PROMPTS[0]
    reader = LocalReader(model, tokenizer, name="tiny")
    whole = reader.answer([plain])[0].text
    stop = (whole[-3:], whole[6:11], "never")
    shapes = note_shapes(model)
    # The other row goes on, as long as it would alone.
    answers = reader.answer([dataclasses.replace(plain, stop=stop), plain])
    assert [answer.text for answer in answers] == [whole[: whole.find(stop[1])], whole]
    assert answers[0].num_answer_tokens < answers[1].num_answer_tokens
    assert {rows for rows, _ in shapes} == {1, 2}


@pytest.mark.parametrize("kind", ["bos", "pad"])
def test_a_token_that_begins_or_fills_texts_ends_an_answer(model, tokenizer, kind):
    model.generation_config.eos_token_id = 0
    reader = LocalReader(model, tokenizer, name="tiny")
    whole = reader.answer(PROMPTS[:1])[0]
    assert whole.num_answer_tokens > 5
    token = tokenizer(whole.text).input_ids[4]
    setattr(model.generation_config, f"{kind}_token_id", token)
    answer = LocalReader(model, tokenizer, name="tiny").answer(PROMPTS[:1])[0]
    assert whole.text.startswith(answer.text)
    assert answer.num_answer_tokens <= 4


def test_seconds_add_up_to_the_time_the_model_took(model, tokenizer, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    prompts = [dataclasses.replace(PROMPTS[0], max_new_tokens=most) for most in (1, 3)]
    model.generation_config.eos_token_id = None
    answers = LocalReader(model, tokenizer, name="tiny").answer(prompts)
    assert [answer.seconds for answer in answers] == [0.5, 2.5]


def test_a_prompt_without_room_for_its_answer_is_refused_before_anything_is_read(model, tokenizer):
    model.config.max_position_embeddings = 64
    shapes = note_shapes(model)
    reader = LocalReader(model, tokenizer, name="tiny")
    fits = ReaderPrompt("", 40 * "x", False, 24, ())
    too_long = ReaderPrompt("", 41 * "x", False, 24, ())
    with pytest.raises(DataError, match=r"prompt 1 has 41 tokens and its answer up to 24, .* 64 "):
        reader.answer([fits, too_long])
    assert shapes == []
    assert len(reader.answer([fits])) == 1


def test_a_prompt_without_tokens_is_refused(model, tokenizer):
    reader = LocalReader(model, tokenizer, name="tiny")
    with pytest.raises(DataError, match="prompt 0 has no tokens"):
        reader.answer([ReaderPrompt("", "", False, 4, ())])


def test_a_chat_needs_a_template(model):
    reader = LocalReader(model, make_tokenizer(None), name="tiny")
    with pytest.raises(ModelError, match="no chat template"):
        reader.answer([PROMPTS[0]])
    assert reader.answer([dataclasses.replace(PROMPTS[0], chat=False)])


def test_a_model_without_an_end_is_refused(model):
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(ModelError, match="eos_token_id"):
        LocalReader(model, tokenizer, name="tiny")


def test_tokens_are_counted_without_special_ones(model, tokenizer):
    reader = LocalReader(model, tokenizer, name="tiny")
    assert [reader.count(text) for text in ("", "abc")] == [0, 3]
    with pytest.raises(DataError, match="surrogate"):
        reader.count("\ud800")


def test_the_name_tells_models_apart_that_are_called_the_same(model, tokenizer):
    def name():
        return LocalReader(model, tokenizer, name="tiny").name

    first = name()
    assert first.startswith("tiny (float32, ")
    assert name() == first
    model.generation_config.eos_token_id = 0
    other_ends = name()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.add_(0.01)
    other_weights = name()
    model.to(torch.bfloat16)
    assert len({first, other_ends, other_weights, name()}) == 4


def test_a_reader_is_loaded_from_a_directory(teacher_directory):
    config = LocalReaderConfig(kind="local", path=str(teacher_directory), dtype="float32")
    reader = load_reader(config, device="cpu")
    assert reader.name.startswith(f"{teacher_directory.name} (float32, ")
    prompt = PROMPTS[0]
    ids = generate(make_model("sdpa"), make_tokenizer(), prompt)[1]
    assert reader.answer([prompt])[0].text == make_tokenizer().decode(ids)


def test_a_directory_without_a_model_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_reader(LocalReaderConfig(kind="local", path=str(tmp_path)))


def test_reading_a_config_loads_no_torch():
    script = (
        "import sys, moos.evaluation.reader_config, moos.evaluation.readers; "
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"


def test_the_kind_of_a_reader_says_which_keys_it_takes():
    class Wrapper(ConfigModel):
        reader: ReaderConfig

    config = load_config(Wrapper, None, ["reader.kind=local", "reader.path=m"])
    assert isinstance(config.reader, LocalReaderConfig)
    with pytest.raises(ConfigError, match="one of local, endpoint"):
        load_config(Wrapper, None, ["reader.path=m"])
    with pytest.raises(ConfigError, match=r"reader\.url"):
        load_config(Wrapper, None, ["reader.kind=local", "reader.path=m", "reader.url=http://h"])


tokenized_prompts = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers(0, 1), min_size=1, max_size=9)), max_size=12
).map(
    lambda drawn: [
        TokenizedPrompt(index, group, np.array(ids, dtype=np.int32), 1 + index % 3)
        for index, (group, ids) in enumerate(drawn)
    ]
)


def count_cache_tokens(stay):
    """Of the rows that go on, counting them as the longest of their stay."""
    rows = [(part, prompt) for part in stay.parts for prompt in part.prompts][: stay.num_going]
    prompts = [prompt for part in stay.parts for prompt in part.prompts]
    own = max(len(own) for part in stay.parts for own in part.own)
    own += max(prompt.max_new_tokens for prompt in prompts)
    beginnings = [part.num_shared for part in stay.parts if part.held_once]
    copied = [part.num_shared for part, _ in rows if not part.held_once]
    return sum(beginnings) + len(rows) * own + len(copied) * max(copied, default=0)


@settings(max_examples=200, deadline=None)
@given(tokenized_prompts, st.integers(1, 60), st.booleans(), st.randoms())
def test_every_prompt_is_admitted_once_and_within_the_bound(prompts, max_tokens, may_join, random):
    waiting = WaitingPrompts(prompts, max_tokens, may_join=may_join)
    going, admitted = [], []
    while (stay := waiting.admit()) is not None or going:
        if stay is not None:
            assert may_join or not going
            assert stay.num_going == sum(len(part.prompts) for part in stay.parts)
            going.append(stay)
            admitted += [prompt.index for part in stay.parts for prompt in part.prompts]
            for part in stay.parts:
                for prompt in part.prompts:
                    assert len(prompt.ids) > part.num_shared
                    assert part.shared.tolist() == prompt.ids[: part.num_shared].tolist()
                    assert part.prompts[0].group == prompt.group
            assert sum(each.num_going for each in going) == 1 or (
                sum(map(count_cache_tokens, going)) <= max_tokens
            )
        else:
            random.choice(going).num_going -= 1
            going = [each for each in going if each.num_going]
    assert sorted(admitted) == list(range(len(prompts)))


def test_others_come_where_rows_have_left(model, tokenizer):
    model.generation_config.eos_token_id = None
    plain = dataclasses.replace(PROMPTS[9], stop=(), max_new_tokens=4)
    long = dataclasses.replace(plain, own=plain.own + "!", max_new_tokens=12)
    shapes = note_shapes(model)
    reader = LocalReader(model, tokenizer, name="tiny", batch_tokens=110)
    prompts = [long, *(dataclasses.replace(plain, own=f" {n}?") for n in range(8))]
    answers = reader.answer(prompts)
    read = list(shapes)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == tokenizer.decode(generate(model, tokenizer, prompt)[1])
    # While the long one went on, some ended, and were followed by others.
    steps = [rows for rows, width in read if width == 1]
    assert 1 < max(steps) < len(prompts)
    assert len(steps) == 11, steps


@pytest.mark.parametrize("num_heads_of_keys", [1, 4])
def test_a_long_beginning_lies_in_memory_once(tokenizer, num_heads_of_keys, monkeypatch):
    """With rows of other beginnings beside it, and scores worked two rows at a time."""
    monkeypatch.setattr(row_groups, "_SCORES_AT_ONCE", {"cpu": 600})
    config = Qwen2Config(**SIZES, intermediate_size=16, num_key_value_heads=num_heads_of_keys)
    model = make(config)
    model.generation_config.eos_token_id = ENDS
    prompts = [
        ReaderPrompt(shared, own, False, 24, ())
        for shared in (50 * "The cat. ", "Three", 40 * "No. ")
        for own in ("?", " Who sat?", " How many?", "x")
    ]
    sizes = []
    monkeypatch.setattr(
        RowGroup, "begin", lambda *args: sizes.append(begin(*args)) or sizes[-1], raising=True
    )
    answers = LocalReader(model, tokenizer, name="tiny").answer(prompts)
    assert sorted(group.num_shared for group in sizes) == [160, 450]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == tokenizer.decode(generate(model, tokenizer, prompt)[1])


begin = RowGroup.begin


def test_the_longest_prompts_are_read_first():
    prompts = [
        TokenizedPrompt(length, length, np.arange(length, dtype=np.int32), 1)
        for length in (3, 9, 5)
    ]
    waiting = WaitingPrompts(prompts, 1, may_join=True)
    for index in (9, 5, 3):
        stay = waiting.admit()
        assert [prompt.index for part in stay.parts for prompt in part.prompts] == [index]
        assert waiting.admit() is None
        stay.num_going = 0
