"""Shared fixtures: tiny checkpoints of every geometry, fake engines, and text of any kind.

Nothing here needs a network: vocabularies are written below, weights are random and seeded.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Ray's workers are as urgent as the tests that wait for them; by default all else comes first.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  Ray spells it so

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jobs.command import LOGGERS

# Int8 models of tiny checkpoints: shared by all processes of a session, and gone with it.
IS_XDIST_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not IS_XDIST_WORKER:  # which shares that of the process that started it
    os.environ["MOOS_CACHE"] = tempfile.mkdtemp(prefix="moos-test-cache-")

# Derandomised, so that a run on a laptop and one in CI try the same inputs;
# `--hypothesis-profile=thorough` tries other and more of them.
_PROFILE = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("moos", max_examples=15, derandomize=True, database=None, **_PROFILE)
settings.register_profile("thorough", max_examples=2000, database=None, **_PROFILE)
settings.load_profile("moos")

ENGLISH = (
    "The committee met on Tuesday and decided that no further action was needed before the next "
    "report. Prices rose by 3.5 percent, and the model keeps the words that matter most for the "
    "reader. This is not a test of memory; it is a test of what can be left out without harm."
)
WORDS = sorted({word.strip(".,;").lower() for word in ENGLISH.split()} - {""})
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = (
    LETTERS
    + "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    + "ßøæđ’‘“”–—…€£°αβγδεабвгдежзилнорст"
    + "ابتحدرسلمنهويאבגד的一是不了人我在有他。，のはにをアイウエกขคงนร"
    + "😀👍❤"
)
"""Lower case without accents: what the uncased vocabulary knows beside whole words."""


# Tokenizers of each geometry, with the special tokens and pieces that the real ones have.


def _wordpiece() -> Tokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*CHARACTERS, *("##" + letter for letter in CHARACTERS), "##ing", "##ed", "##er"]
    long_words = [word for word in WORDS if len(word) > 1]
    vocabulary = {piece: index for index, piece in enumerate([*specials, *pieces, *long_words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return _enclose(tokenizer, "[CLS]", "[SEP]")


def _unigram(specials: Sequence[str], unknown: str) -> Tokenizer:
    # Like the real ones, the model's own vocabulary holds the special tokens, with score 0.
    pieces = [(name, 0.0) for name in specials]
    pieces += [("▁", -2.0), *((letter, -6.0) for letter in CHARACTERS + LETTERS.upper())]
    pieces += [("▁" + word, -7.0) for word in WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=list(specials).index(unknown)))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return tokenizer


def _xlm_roberta() -> Tokenizer:
    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    return _enclose(tokenizer, "<s>", "</s>")


def _deberta() -> Tokenizer:
    tokenizer = _unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return _enclose(tokenizer, "[CLS]", "[SEP]")


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([ENGLISH], trainer)
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    tokenizer.add_tokens([AddedToken("|||EMAIL|||", special=False)])
    return _enclose(tokenizer, "[CLS]", "[SEP]")


def _enclose(tokenizer: Tokenizer, first: str, last: str) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (first, last)],
    )
    return tokenizer


_TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bert": _wordpiece,
    "xlm-r": _xlm_roberta,
    "llmlingua2": _xlm_roberta,
    "modernbert": _byte_level,
    "deberta-v2": _deberta,
}
_WINDOW_TOKENS = 64


def _model_config(kind: str, tokenizer: Tokenizer):
    import transformers

    common = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        # Wide enough that the scores of an untrained model differ from token to token.
        "initializer_range": 0.4,
    }
    if kind != "llmlingua2":
        common |= {"id2label": {0: "discard", 1: "preserve"}}
        common |= {"label2id": {"discard": 0, "preserve": 1}}
    if kind == "bert":
        return transformers.BertConfig(**common, max_position_embeddings=_WINDOW_TOKENS)
    if kind in ("xlm-r", "llmlingua2"):
        ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
        return transformers.XLMRobertaConfig(
            **common, **ids, type_vocab_size=1, max_position_embeddings=_WINDOW_TOKENS + 2
        )
    ids = {"pad_token_id": tokenizer.token_to_id("[PAD]")}
    if kind == "modernbert":
        ids |= {"bos_token_id": tokenizer.token_to_id("[CLS]")}
        ids |= {"cls_token_id": tokenizer.token_to_id("[CLS]")}
        ids |= {"eos_token_id": tokenizer.token_to_id("[SEP]")}
        ids |= {"sep_token_id": tokenizer.token_to_id("[SEP]")}
        return transformers.ModernBertConfig(
            **common, **ids, max_position_embeddings=_WINDOW_TOKENS, local_attention=16
        )
    return transformers.DebertaV2Config(
        **common,
        **ids,
        max_position_embeddings=_WINDOW_TOKENS,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
    )


def write_checkpoint(kind: str, directory: Path) -> None:
    import torch
    import transformers

    tokenizer = _TOKENIZERS[kind]()
    config = _model_config(kind, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForTokenClassification.from_config(config)
        # Scores neither all undecided nor all certain.
        torch.nn.init.normal_(model.classifier.weight, std=0.3)
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    sharp = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
    square = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    names = sharp if kind in ("xlm-r", "llmlingua2") else square
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _WINDOW_TOKENS,
        **dict(zip(roles, names, strict=True)),
    }
    _write_json(directory / "tokenizer_config.json", tokenizer_config)
    if kind != "llmlingua2":
        _write_json(directory / "moos.json", {"alpha": 0.9})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


WAITING = {"test_train.py", "test_faults.py", "test_train_your_own.py"}
"""Files that mostly wait for other processes: begun first, they wait while the rest is worked."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in WAITING)  # stable


@pytest.fixture(autouse=True)
def _restore_loudness():
    """A command's `--quiet` is for that command, not for the tests after it."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _remove_cache():
    yield
    if not IS_XDIST_WORKER:
        shutil.rmtree(os.environ["MOOS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """`make_checkpoint(kind)`: a read-only directory of that geometry, made once per session.

    Kinds: bert, xlm-r, modernbert, deberta-v2, and llmlingua2 (XLM-R without label names or
    `moos.json`). Every one reads 64 tokens, special tokens included.
    """
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            directory = tmp_path_factory.mktemp(kind)
            write_checkpoint(kind, directory)
            made[kind] = directory
        return made[kind]

    return make


@pytest.fixture
def copy_checkpoint(make_checkpoint, tmp_path):
    """`copy_checkpoint(kind, config={...}, moos={...})`: a private copy with other JSON values.

    A value of None removes the key.
    """

    def copy(kind: str = "bert", *, config: dict | None = None, moos: dict | None = None) -> Path:
        directory = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(make_checkpoint(kind), directory)
        for name, changes in (("config.json", config), ("moos.json", moos)):
            if changes:
                path = directory / name
                content = json.loads(path.read_text()) if path.exists() else {}
                content = {k: v for k, v in {**content, **changes}.items() if v is not None}
                _write_json(path, content)
        return directory

    return copy


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint) -> Path:
    """BERT, 2 layers, hidden 32, uncased WordPiece, 64 positions, alpha 0.9. Read-only."""
    return make_checkpoint("bert")


@pytest.fixture(scope="session")
def tiny_compressor(tiny_checkpoint):
    """`Compressor.load(tiny_checkpoint)` on the CPU."""
    from moos import Compressor

    return Compressor.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def plain_compressor(tiny_checkpoint):
    """The same with alpha 1: the plain classifier, whose scores no window changes."""
    from moos import Compressor
    from moos.config import ScoringConfig

    return Compressor.load(tiny_checkpoint, scoring=ScoringConfig(alpha=1.0), device="cpu")


class FakeEngine:
    """An engine whose scores the test chooses: a function from token ids to probabilities."""

    name = "fake"

    def __init__(self, choose: Callable[[np.ndarray], np.ndarray], outlier: float = 0.0) -> None:
        self.choose = choose
        self.outlier = outlier
        self.inputs: list = []

    def begin(self, inputs):
        scores = self.score(inputs)
        return lambda: scores

    def score(self, inputs):
        from moos.engines import TokenScores

        self.inputs.extend(inputs)
        results = []
        for item in inputs:
            probability = np.asarray(self.choose(item.ids[item.own_start : item.own_end]))
            outlier = np.full(len(probability), self.outlier, dtype=np.float32)
            results.append(TokenScores(probability.astype(np.float32), outlier))
        return results


@pytest.fixture(scope="session")
def fake_engine() -> type[FakeEngine]:
    """The class `FakeEngine`: `fake_engine(lambda ids: probabilities)`."""
    return FakeEngine


@pytest.fixture
def chosen_compressor(tiny_checkpoint, fake_engine):
    """`chosen_compressor({"a": 0.9}, alpha=1.0)`: scores chosen by vocabulary piece.

    Other pieces score 0.5. `compressor.engine.inputs` holds what the engine was given.
    """
    from moos import Compressor
    from moos.checkpoint import read_checkpoint, resolve_scoring
    from moos.config import ScoringConfig, WindowConfig
    from moos.tokens import TextTokenizer

    def make(
        scores: dict[str, float],
        *,
        alpha: float = 1.0,
        outlier: float = 0.0,
        context_tokens: int = 0,
    ) -> Compressor:
        checkpoint = read_checkpoint(str(tiny_checkpoint))
        vocabulary = Tokenizer.from_file(str(checkpoint.tokenizer_path)).get_vocab()
        table = np.full(len(vocabulary), 0.5, dtype=np.float32)
        for piece, score in scores.items():
            table[vocabulary[piece]] = score
        scoring = resolve_scoring(
            checkpoint, ScoringConfig(alpha=alpha), WindowConfig(context_tokens=context_tokens)
        )
        tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
        engine = fake_engine(lambda ids: table[ids], outlier)
        return Compressor(checkpoint, scoring, tokenizer, engine)

    return make


HOSTILE = (
    "",
    " ",
    "\n\t \u2028\u2029\u00a0\u3000",
    "word",
    "  padded  ",
    "!?.,;:—…()[]{}",
    "的一是不了人我在有他。，這是中文沒有空格的文章，真的。",
    "กขคงนร ภาษาไทยไม่มีช่องว่าง",
    "السلام عليكم ورحمة الله، كيف حالك؟",
    "שלום \u202eabc\u202c עולם",
    "👩🏽‍🚀👨‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿🇩🇪🇫🇷❤️👍🏿 1️⃣",
    "e\u0301\u0323a\u0300\u0301\u0302\u0303 \u0301 Z͑ͫ̓a̴l͟g҉o̡ c\u0327a",
    "nul\x00 bell\x07 esc\x1b[0m del\x7f \x1c\x1d\x1e\x1f \x85 end",
    "line\u2028paragraph\u2029form\x0cvertical\x0bend\r\n\r\n",
    "[CLS] a [SEP] b [PAD] [MASK] <s> c </s> <pad> <unk> <mask> <|endoftext|> |||EMAIL|||",
    "\ufeffbom \u200bzero\u200cwidth\u200djoiner \u00adsoft\u00adhyphen \ufffd \ufffe \U0010ffff",
    "ﬁﬂ ½ ² Ⅷ ㍿ ǅ ﷺ İ ẞ ß ı",
    "x" * 200 + " " + "的" * 200 + " " + "!" * 200,
)


@pytest.fixture(scope="session", params=HOSTILE, ids=lambda text: ascii(text)[:40])
def hostile_text(request) -> str:
    """Each text that a careless text tool trips over."""
    return request.param


_FRAGMENTS = (
    "The committee met. ",
    "don't ",
    "isn’t",
    "1,234.5",
    "$2.3 ",
    " -3",
    "15%",
    "foo_bar.py ",
    "e-mail@x.org",
    "https://example.org/a_(b)?q=1.",
    " www.x.org ",
    "的一是",
    "カタカナ",
    "กขค",
    "سلام",
    "👩🏽‍🚀",
    "🇩🇪🇫",
    "\u0301",
    "\u200d",
    "\n",
    "\r\n",
    "\u2028",
    " ",
    "  ",
    "\t",
    "\x00",
    "[SEP]",
    "<s>",
    "```code```",
    "`x`",
    ",",
    ". ",
    ")",
    "no-one ",
    "y" * 130,
    "İ",
    "ﬁ",
)


@pytest.fixture(scope="session")
def any_text() -> st.SearchStrategy[str]:
    """Any text but lone surrogates: any characters, mixed with fragments that rules meet."""
    part = st.one_of(st.sampled_from(_FRAGMENTS), st.text(max_size=12))
    return st.lists(part, max_size=24).map("".join)


_NAMES = ["alice", "bob", "carol", "paris", "rome", "seven", "eleven"]
_FILLERS = ["the", "a", "of", "and", "to", "um", "so", "well"]


def _name_tokenizer():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_NAMES, *_FILLERS, ".", ",", "##s"]
    tokenizer = Tokenizer(
        models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer


def make_labelled(index, generator):
    """A text whose names are to be kept, with some noise, and whose fillers are not."""
    words, soft = [], []
    for _ in range(int(generator.integers(8, 40))):
        keep = bool(generator.random() < 0.5)
        word = str(generator.choice(_NAMES if keep else _FILLERS))
        words.append(word + str(generator.choice(["", "", ",", "."])))
        is_noise = generator.random() < 0.1
        soft.append(None if generator.random() < 0.1 else float(0.9 if keep != is_noise else 0.2))
    domain = ("news", "talk")[index % 2]
    return {"id": str(index), "domain": domain, "text": " ".join(words), "soft": soft}


def write_training_base(path: Path) -> None:
    """An encoder to train from, with the vocabulary of `make_labelled`."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=22,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(path)
    _name_tokenizer().save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text('{"model_max_length": 64, "name_or_path": "x/y"}')


@pytest.fixture(scope="session")
def training_base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    write_training_base(path)
    return path


def write_labels(path: Path, count: int) -> None:
    """So many documents of `make_labelled`, as JSON lines."""
    generator = np.random.default_rng(0)
    path.write_text("".join(json.dumps(make_labelled(i, generator)) + "\n" for i in range(count)))


@pytest.fixture(scope="session")
def labelled_jsonl(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "labels.jsonl"
    write_labels(path, 40)
    return path


@pytest.fixture(scope="session")
def teacher_directory(tmp_path_factory):
    """A tiny causal language model on disk, as `teacher.path` takes it."""
    from tests.tiny_teacher import make_model, make_tokenizer

    path = tmp_path_factory.mktemp("teacher")
    make_model("sdpa").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path
