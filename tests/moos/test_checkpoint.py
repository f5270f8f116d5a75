import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import load_file, save_file

from moos import Compressor
from moos.checkpoint import read_checkpoint, resolve_scoring
from moos.checkpoint_files import INT8_WEIGHTS, OUTLIER_CONSTANTS
from moos.config import OutlierConfig, ScoringConfig, WindowConfig
from moos.errors import ConfigError, ModelError
from moos.model import load_model
from moos.quantize import dequantize, quantize
from moos.scores import GRID
from moos.storage import Storage

TEXT = (
    "The committee met on Tuesday and decided that no further action was needed. "
    "Prices rose by 3.5 percent, and the model keeps the words that matter most. "
)
KINDS = ("bert", "xlm-r", "modernbert", "deberta-v2", "llmlingua2")


def load(path, **scoring) -> Compressor:
    return Compressor.load(path, scoring=ScoringConfig(**scoring), engine="torch", device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_any_geometry_compresses(make_checkpoint, kind):
    compressor = load(make_checkpoint(kind), alpha=1.0)
    document = compressor.compress(TEXT * 5, rate=0.5, protect=[])
    assert 0 < document.num_kept_tokens <= document.num_tokens // 2
    assert len({word.score for word in document.words}) > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_padding_changes_no_decision_in_any_geometry(make_checkpoint, kind, alpha):
    compressor = load(make_checkpoint(kind), alpha=alpha)
    texts = [TEXT[:length] for length in (300, 20, 90, 150, 7, 45)]
    together = compressor.compress(texts, rate=0.5, protect=[])
    for text, document in zip(texts, together, strict=True):
        alone = compressor.compress(text, rate=0.5, protect=[])
        scores = [word.score for word in document.words]
        np.testing.assert_allclose(scores, [word.score for word in alone.words], atol=1e-3)


def test_llmlingua2_names_no_labels_and_its_second_means_preserve(make_checkpoint):
    checkpoint = read_checkpoint(str(make_checkpoint("llmlingua2")))
    assert checkpoint.preserve_index == 1
    assert checkpoint.moos.alpha == 1.0  # without moos.json: the plain classifier
    assert "id2label" not in checkpoint.config


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (("discard", "preserve"), 1),
        (("preserve", "discard"), 0),
        (("KEEP", "other"), 0),
        (("other", "Drop"), 0),
        (("LABEL_0", "LABEL_1"), 1),
    ],
)
def test_the_preserve_class_is_found_by_name(copy_checkpoint, names, index):
    path = copy_checkpoint("bert", config={"id2label": dict(enumerate(names))})
    assert read_checkpoint(str(path)).preserve_index == index


def test_unknown_label_names_are_refused_until_preserve_label_is_set(copy_checkpoint):
    path = copy_checkpoint("bert", config={"id2label": {"0": "O", "1": "B-KEY"}})
    with pytest.raises(ModelError, match=r"\['O', 'B-KEY'\].*set scoring\.preserve_label"):
        read_checkpoint(str(path))
    assert read_checkpoint(str(path), "B-KEY").preserve_index == 1
    assert read_checkpoint(str(path), "0").preserve_index == 0
    with pytest.raises(ModelError, match="preserve_label='KEY' is none of"):
        read_checkpoint(str(path), "KEY")


def test_the_names_in_moos_json_come_first(copy_checkpoint):
    path = copy_checkpoint(
        "bert",
        config={"id2label": {"0": "O", "1": "X"}},
        moos={"label_names": ["preserve", "discard"]},
    )
    assert read_checkpoint(str(path)).preserve_index == 0


def test_setting_preserve_label_flips_the_probabilities(tiny_checkpoint):
    second = load(tiny_checkpoint, alpha=1.0, preserve_label="preserve").compress(TEXT)
    first = load(tiny_checkpoint, alpha=1.0, preserve_label="discard").compress(TEXT)
    sums = [
        a.preserve_probability + b.preserve_probability
        for a, b in zip(first.words, second.words, strict=True)
    ]
    np.testing.assert_allclose(sums, 1.0, atol=2 / 4096)


def test_three_labels_are_refused(copy_checkpoint):
    path = copy_checkpoint("bert", config={"id2label": {"0": "a", "1": "b", "2": "c"}})
    with pytest.raises(ModelError, match=r"has 3 labels \['a', 'b', 'c'\]"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("architectures", [["BertModel"], ["BertForMaskedLM"], [], None])
def test_an_encoder_without_a_head_is_refused(copy_checkpoint, architectures):
    path = copy_checkpoint("bert", config={"architectures": architectures})
    with pytest.raises(ModelError, match="is no token classifier"):
        read_checkpoint(str(path))


def test_a_checkpoint_without_a_fast_tokenizer_is_refused(copy_checkpoint):
    path = copy_checkpoint("bert")
    (path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no fast tokenizer \(tokenizer\.json\)"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("constants", [False, True])
def test_pickled_weights_are_refused(copy_checkpoint, constants):
    path = copy_checkpoint("bert")
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    if constants:  # these are safetensors, but no weights
        save_file({"mean": torch.zeros(32)}, path / OUTLIER_CONSTANTS)
    with pytest.raises(ModelError, match=r"pickled weights \(pytorch_model\.bin\)"):
        read_checkpoint(str(path))


def test_a_checkpoint_without_weights_is_refused(copy_checkpoint):
    path = copy_checkpoint("bert")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        read_checkpoint(str(path))


def test_weights_without_the_head_are_refused(copy_checkpoint):
    path = copy_checkpoint("bert")
    weights = load_file(path / "model.safetensors")
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    save_file(body, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of its token classifier: classifier"):
        load_model(read_checkpoint(str(path)))


def test_damaged_weights_are_refused(copy_checkpoint):
    path = copy_checkpoint("bert")
    (path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 no header")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(read_checkpoint(str(path)))


@pytest.mark.parametrize(
    "location",
    ["./no/such/directory", "/no/such", "nodirectory", "a/b/c", "~/no-such-dir"],
)
def test_a_missing_directory_is_named(location):
    with pytest.raises(ModelError, match="is not a directory"):
        read_checkpoint(location)


def test_a_hub_id_without_a_network_is_a_model_error():
    with pytest.raises(ModelError, match="'owner/name' is no local directory"):
        read_checkpoint("owner/name")


def test_a_file_is_no_checkpoint(tiny_checkpoint):
    with pytest.raises(ModelError, match="is not a directory"):
        read_checkpoint(str(tiny_checkpoint / "config.json"))


def test_an_empty_directory_is_no_checkpoint(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"'])
def test_a_config_that_is_no_json_object_is_refused(copy_checkpoint, content):
    path = copy_checkpoint("bert")
    (path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    "moos",
    [
        {"alpha": 1.5},
        {"aplha": 0.5},
        {"format_version": 2},
        {"max_length": 2},
        {"max_length": -5},
        {"context_tokens": -3},
        {"label_names": ["one"]},
    ],
)
def test_a_wrong_value_in_moos_json_is_named(copy_checkpoint, moos):
    path = copy_checkpoint("bert", moos=moos)
    with pytest.raises(ModelError, match=rf"moos\.json is not valid:\n  {next(iter(moos))}"):
        read_checkpoint(str(path))


def test_a_checkpoint_is_read_from_a_url(tiny_checkpoint):
    checkpoint = read_checkpoint(f"file://{tiny_checkpoint}")
    assert checkpoint.sha256 == read_checkpoint(str(tiny_checkpoint)).sha256
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint("file:///no/such/directory")
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint("nosuchprotocol://bucket/checkpoint")


def test_a_checkpoint_at_a_url_is_tried_again_and_read_through_links(
    tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr("moos.retries._sleep", lambda wait: None)
    linked, remote = tmp_path / "linked", Storage("memory://checkpoint")
    linked.mkdir()
    for path in tiny_checkpoint.iterdir():
        (linked / path.name).symlink_to(path)
        remote.put(path.name, path.read_bytes())
    read, answers = MemoryFileSystem.cat_file, iter([OSError("reset"), b"short"])

    def stumble(self, path, **options):
        answer = next(answers, None)
        if isinstance(answer, OSError):
            raise answer
        return answer or read(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", stumble)
    expected = read_checkpoint(str(tiny_checkpoint)).sha256
    assert read_checkpoint("memory://checkpoint").sha256 == expected
    assert next(answers, None) is None
    assert read_checkpoint(linked.as_uri()).sha256 == expected


class StoreError(Exception):
    """As botocore's: no OSError."""


@pytest.mark.parametrize("method", ["ls", "cat_file"])
def test_a_checkpoint_whose_store_fails_is_a_model_error_and_leaves_nothing(
    tmp_path, monkeypatch, method
):
    def fail(*args, **options):
        raise StoreError("Unable to locate credentials")

    Storage("memory://checkpoint").put("config.json", b"{}")
    monkeypatch.setattr(MemoryFileSystem, method, fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ModelError, match="memory://checkpoint cannot be read: ") as told:
        read_checkpoint("memory://checkpoint")
    assert "StoreError: Unable to locate credentials; check the URL" in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_at_its_url_is_said_to_be_missing():
    with pytest.raises(ModelError, match=r"memory://nowhere cannot be read: .* no \.json or"):
        read_checkpoint("memory://nowhere")


def test_a_copy_of_a_checkpoint_goes_with_its_process(tiny_checkpoint, tmp_path):
    script = (
        "import sys; from moos.checkpoint import read_checkpoint;"
        "path = read_checkpoint(sys.argv[1]).path; print(path, (path / 'config.json').exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tiny_checkpoint.as_uri()],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    path, was_there = done.stdout.split()
    assert was_there == "True"
    assert (Path(path).parent, list(tmp_path.iterdir())) == (tmp_path, [])


def test_the_hash_follows_what_decides_the_output(copy_checkpoint, make_checkpoint):
    original = read_checkpoint(str(make_checkpoint("bert"))).sha256
    copy = copy_checkpoint("bert")
    (copy / "README.md").write_text("notes")
    assert read_checkpoint(str(copy)).sha256 == original
    changed = copy_checkpoint("bert", moos={"alpha": 0.8})
    assert read_checkpoint(str(changed)).sha256 != original


@pytest.mark.parametrize(
    ("kind", "limit"), [("bert", 64), ("xlm-r", 64), ("modernbert", 64), ("deberta-v2", 64)]
)
def test_a_window_holds_at_most_what_the_encoder_was_built_for(copy_checkpoint, kind, limit):
    path = copy_checkpoint(kind)
    for tokenizer_config in (True, False):
        if not tokenizer_config:
            (path / "tokenizer_config.json").unlink()  # then the config alone says it
        checkpoint = read_checkpoint(str(path))
        settings = resolve_scoring(checkpoint, ScoringConfig(), WindowConfig())
        assert settings.max_length == limit
        with pytest.raises(ModelError, match=rf"max_length={limit + 1} exceeds the {limit} pos"):
            resolve_scoring(checkpoint, ScoringConfig(), WindowConfig(max_length=limit + 1))
    compressor = Compressor.load(path, window=WindowConfig(max_length=limit), device="cpu")
    assert compressor.compress(TEXT * 10).num_kept_tokens > 0


@pytest.mark.parametrize("declared", [1e30, 1000000000000000019884624838656, None])
def test_a_tokenizer_that_declares_no_length_does_not_matter(copy_checkpoint, declared):
    path = copy_checkpoint("xlm-r")
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(
        json.dumps({**config, "model_max_length": declared})
    )
    settings = resolve_scoring(read_checkpoint(str(path)), ScoringConfig(), WindowConfig())
    assert settings.max_length == 64


def test_what_the_config_sets_comes_before_what_the_checkpoint_says(copy_checkpoint):
    moos = {"alpha": 0.7, "word_score": "max", "max_length": 32, "context_tokens": 4}
    checkpoint = read_checkpoint(str(copy_checkpoint("bert", moos=moos)))
    stored = resolve_scoring(checkpoint, ScoringConfig(), WindowConfig())
    assert (stored.alpha, stored.word_score) == (0.7, "max")
    assert (stored.max_length, stored.context_tokens) == (32, 4)
    scoring = ScoringConfig(alpha=0.0, word_score="first", outlier=OutlierConfig(reduction="max"))
    chosen = resolve_scoring(checkpoint, scoring, WindowConfig(max_length=16, context_tokens=0))
    assert (chosen.alpha, chosen.word_score, chosen.outlier_reduction) == (0.0, "first", "max")
    assert (chosen.max_length, chosen.context_tokens) == (16, 0)


def test_a_threshold_is_refused_where_scores_are_not_comparable(tiny_checkpoint, tiny_compressor):
    with pytest.raises(
        ConfigError, match=r"alpha=0\.9 .*statistics=checkpoint or scoring\.alpha=1"
    ):
        tiny_compressor.compress(TEXT, threshold=0.5)
    document = load(tiny_checkpoint, alpha=1.0).compress(TEXT, threshold=0.2, protect=[])
    assert all(word.kept == (word.score >= round(0.2 * 4096) / 4096) for word in document.words)


@pytest.fixture
def checkpoint_with_constants(copy_checkpoint):
    path = copy_checkpoint("bert")
    constants = {
        "mean": torch.linspace(-1, 1, 32),
        "std": torch.ones(32),
        "range": torch.tensor([3.0, 9.0]),
    }
    save_file(constants, path / OUTLIER_CONSTANTS)
    return path


def test_stored_outlier_constants_make_scores_comparable(checkpoint_with_constants):
    scoring = ScoringConfig(alpha=0.0, outlier=OutlierConfig(statistics="checkpoint"))
    compressor = Compressor.load(checkpoint_with_constants, scoring=scoring, device="cpu")
    scores = sorted(word.score for word in compressor.compress(TEXT).words)
    document = compressor.compress(TEXT, threshold=scores[len(scores) // 2], protect=[])
    assert all(abs(word.score - word.outlier_score) <= 1 / GRID for word in document.words)
    assert 0 < document.num_kept_tokens < document.num_tokens
    window = load(checkpoint_with_constants, alpha=0.0).compress(TEXT)
    assert [w.outlier_score for w in window.words] != [w.outlier_score for w in document.words]


def test_outlier_constants_that_are_not_there_are_refused(tiny_checkpoint):
    scoring = ScoringConfig(outlier=OutlierConfig(statistics="checkpoint"))
    with pytest.raises(ModelError, match=r"needs outlier\.safetensors.*use statistics=window"):
        Compressor.load(tiny_checkpoint, scoring=scoring, device="cpu")


@pytest.mark.parametrize("missing", ["mean", "std", "range"])
def test_outlier_constants_that_lack_a_tensor_are_refused(checkpoint_with_constants, missing):
    path = checkpoint_with_constants / OUTLIER_CONSTANTS
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != missing}
    save_file(tensors, path)
    scoring = ScoringConfig(outlier=OutlierConfig(statistics="checkpoint"))
    with pytest.raises(ModelError, match=r"outlier\.safetensors cannot be read"):
        Compressor.load(checkpoint_with_constants, scoring=scoring, device="cpu")


def make_int8(path):
    """Replace a checkpoint's weights by their int8 form."""
    save_file(quantize(load_file(path / "model.safetensors")), path / INT8_WEIGHTS)
    (path / "model.safetensors").unlink()
    return path


@pytest.mark.parametrize("kind", ["bert", "xlm-r", "modernbert"])
def test_int8_weights_take_nearly_all_the_decisions_of_fp32(make_checkpoint, copy_checkpoint, kind):
    full = load(make_checkpoint(kind), alpha=1.0)
    small = load(make_int8(copy_checkpoint(kind)), alpha=1.0)
    texts = [TEXT * 6 + f" number {index}" for index in range(4)]
    pairs = [
        (a.kept, b.kept)
        for one, other in zip(full.compress(texts), small.compress(texts), strict=True)
        for a, b in zip(one.words, other.words, strict=True)
    ]
    assert np.mean([a == b for a, b in pairs]) > 0.97


def test_int8_weights_are_within_half_a_step_of_each_row():
    matrix = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    matrix[3] = 0
    state = {"matrix": matrix, "bias": torch.randn(7), "steps": torch.arange(3)}
    stored = quantize(state)
    assert stored["matrix"].dtype == torch.int8
    restored = dequantize(stored)
    assert restored.keys() == state.keys()
    half_step = matrix.abs().amax(dim=1) / 127 / 2
    assert ((restored["matrix"] - matrix).abs() <= half_step[:, None] + 1e-6).all()
    assert restored["bias"].equal(state["bias"])
    assert restored["steps"].equal(state["steps"])


@pytest.mark.parametrize("weights", ["fp32", "int8"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_are_loaded_in_full_precision_whatever_the_config_says(
    copy_checkpoint, weights, dtype
):
    path = copy_checkpoint("bert", config={"dtype": dtype})
    if weights == "int8":
        make_int8(path)
    model = load_model(read_checkpoint(str(path)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("bert", "int8"),
        ("modernbert", "fp32"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("bert", "fp32"),
                ("llmlingua2", "fp32"),
                ("llmlingua2", "int8"),
                ("modernbert", "int8"),
            )
        ),
    ],
)
def test_a_saved_checkpoint_is_plain_and_reloads_to_the_same_output(
    copy_checkpoint, tmp_path, kind, weights
):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    path = copy_checkpoint(kind)
    if weights == "int8":
        make_int8(path)
    compressor = Compressor.load(path, device="cpu")
    target = tmp_path / "saved" / "deep"
    compressor.save_pretrained(target)
    assert not (target / INT8_WEIGHTS).exists()
    model = AutoModelForTokenClassification.from_pretrained(target)
    assert model.config.num_labels == 2
    assert len(AutoTokenizer.from_pretrained(target)("a b").input_ids) >= 4
    reloaded = Compressor.load(target, device="cpu")
    assert reloaded.scoring == compressor.scoring
    assert reloaded.compress(TEXT).words == compressor.compress(TEXT).words


def test_saving_onto_the_checkpoint_itself_is_refused_and_leaves_a_working_one(copy_checkpoint):
    path = copy_checkpoint("bert")
    compressor = Compressor.load(path, device="cpu")
    before = compressor.compress(TEXT).words
    with pytest.raises(ModelError, match="own directory"):
        compressor.save_pretrained(path)
    assert Compressor.load(path, device="cpu").compress(TEXT).words == before


def test_a_checkpoint_that_lost_its_directory_still_serves(make_checkpoint, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(make_checkpoint("bert"), copied)
    compressor = Compressor.load(copied, device="cpu")
    shutil.rmtree(copied)
    assert compressor.compress(TEXT).num_kept_tokens > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named_with_the_key_to_change(make_checkpoint):
    told = r'no CUDA device here.*pool\.gpus_per_replica=0, or in Python device="cpu"'
    with pytest.raises(ModelError, match=told):
        Compressor.load(make_checkpoint("bert"), device="cuda")
