import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from moos import Compressor
from moos.checkpoint_files import OUTLIER_CONSTANTS
from moos.config import ScoringConfig, WindowConfig
from moos.engines import EncoderInput, openvino_model
from moos.engines.batching import (
    MAX_PADDING,
    cut_scores,
    pad_length,
    pad_windows,
    plan_micro_batches,
)
from moos.engines.loading import CONVERTIBLE
from moos.engines.openvino_conversion import CALIBRATION
from moos.errors import ModelError

TEXTS = [
    "The committee met on Tuesday and decided that no further action was needed.",
    "Prices rose by 3.5 percent, and the model keeps the words that matter most. " * 7,
    "One.",
    "This is not a test of memory; it is a test of what can be left out without harm. " * 3,
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of int8 models."""
    monkeypatch.setenv(openvino_model.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(monkeypatch):
    """Directories in which int8 models were made."""
    directories = []
    make = openvino_model._make

    def note(checkpoint, scoring, directory):
        directories.append(directory)
        make(checkpoint, scoring, directory)

    monkeypatch.setattr(openvino_model, "_make", note)
    return directories


def load(path, engine, **options) -> Compressor:
    scoring = ScoringConfig(**options.pop("scoring", {}))
    return Compressor.load(path, engine=engine, device="cpu", scoring=scoring, **options)


def windows_of(compressor, texts=TEXTS):
    return [item for part in compressor.preparer.prepare(texts) for item in part.inputs]


def as_columns(scores):
    return (
        np.concatenate([item.preserve_probability for item in scores]),
        np.concatenate([item.outlier_score for item in scores]),
    )


def test_windows_are_padded_and_their_scores_cut_out_again():
    windows = [
        EncoderInput(np.array([5, 6, 7], np.int32), 1, 2),
        EncoderInput(np.array([5, 8, 9, 10, 7], np.int32), 1, 4),
    ]
    batch = pad_windows(windows, pad_id=3)
    assert batch.ids.tolist() == [[5, 6, 7, 3, 3], [5, 8, 9, 10, 7]]
    assert batch.attention.tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch.owned.tolist() == [[False, True] + [False] * 3, [False, True, True, True, False]]
    scores = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    first, second = cut_scores(scores, windows)
    assert first.preserve_probability.tolist() == [2]
    assert second.outlier_score.tolist() == [13, 15, 17]


def test_skewed_lengths_cost_little_padding():
    lengths = np.random.default_rng(0).lognormal(4, 1, 4000).clip(3, 512).astype(int).tolist()
    plan = plan_micro_batches(lengths, 4096)
    positions = sum(max(lengths[index] for index in batch) * len(batch) for batch in plan)
    assert sum(lengths) / positions > 0.93
    assert len(plan) < 1.3 * sum(lengths) / 4096


class ShortOfMemory(torch.nn.Module):
    """A scorer on a device that holds so many positions, and notes what it was given."""

    def __init__(self, scorer, limit):
        super().__init__()
        self.scorer, self.limit, self.shapes = scorer, limit, []

    def forward(self, ids, attention, owned):
        if ids.numel() > self.limit:
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        self.shapes.append(tuple(ids.shape))
        return self.scorer(ids, attention, owned)


def test_out_of_memory_halves_the_micro_batches_and_loses_nothing(tiny_checkpoint, caplog):
    engine = load(tiny_checkpoint, "torch").engine
    windows = windows_of(load(tiny_checkpoint, "torch"), TEXTS * 40)
    expected = engine.score(windows)
    engine._scorer = short = ShortOfMemory(engine._scorer, 1100)
    for found, wanted in zip(engine.score(windows), expected, strict=True):
        np.testing.assert_allclose(
            found.preserve_probability, wanted.preserve_probability, atol=1e-5
        )
    assert "micro-batches hold 1024 positions from now on" in caplog.text
    caplog.clear()
    assert max(rows * columns for rows, columns in short.shapes) <= 1100
    engine.score(windows)
    assert caplog.text == ""  # it is remembered


def test_a_device_that_holds_nothing_says_what_to_change(tiny_checkpoint):
    engine = load(tiny_checkpoint, "torch").engine
    engine._scorer = ShortOfMemory(engine._scorer, 0)
    with pytest.raises(ModelError, match=r"lower window\.max_length, or give the replica a larger"):
        engine.score(windows_of(load(tiny_checkpoint, "torch")))


def write_constants(path):
    constants = {
        "mean": torch.linspace(-1, 1, 32),
        "std": torch.ones(32),
        "range": torch.tensor([3.0, 9.0]),
    }
    save_file(constants, path / OUTLIER_CONSTANTS)


SLOW = pytest.mark.slow
QUICK = {("bert", "window"), ("roberta", "checkpoint")}


def as_roberta(path):
    """The same weights and vocabulary under RoBERTa's name."""
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "roberta", "architectures": ["RobertaForTokenClassification"]}
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("model_type", "statistics"),
    [
        pytest.param(kind, statistics, marks=() if (kind, statistics) in QUICK else SLOW)
        for kind in sorted(CONVERTIBLE)
        for statistics in ("window", "checkpoint")
    ],
)
def test_int8_scores_stay_near_those_of_fp32(copy_checkpoint, model_type, statistics):
    path = copy_checkpoint("bert" if model_type == "bert" else "xlm-r")
    if model_type == "roberta":
        as_roberta(path)
    write_constants(path)
    scoring = {"outlier": {"statistics": statistics}}
    exact = load(path, "torch", scoring=scoring)
    fast = load(path, "auto", scoring=scoring)
    assert (exact.engine.name, fast.engine.name) == ("torch", "openvino")
    assert fast.checkpoint.config["model_type"] == model_type
    windows = windows_of(exact)
    for expected, found in zip(
        as_columns(exact.engine.score(windows)), as_columns(fast.engine.score(windows)), strict=True
    ):
        assert found.dtype == np.float32
        assert np.abs(found - expected).mean() < 0.35 * expected.std() > 0.002
        assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_scores_depend_neither_on_threads_nor_on_who_scores_at_the_same_time(tiny_checkpoint):
    one, three = (load(tiny_checkpoint, "openvino", threads=threads) for threads in (1, 3))
    windows = windows_of(one) * 40
    expected = as_columns(one.engine.score(windows))
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: as_columns(three.engine.score(windows)), range(4)))
    for found in several:
        np.testing.assert_array_equal(found, expected)
    assert one.engine.score([]) == []


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_windows_that_were_begun_may_be_ended_in_any_order(tiny_checkpoint, name):
    engine = load(tiny_checkpoint, name, threads=2).engine
    parts = [windows_of(load(tiny_checkpoint, "torch"), TEXTS[at:] * 30) for at in range(3)]
    expected = [as_columns(engine.score(windows)) for windows in parts]
    ends = [engine.begin(windows) for windows in parts]
    engine.begin(parts[0])  # nobody wants to know
    for at in (1, 2, 0):
        np.testing.assert_array_equal(as_columns(ends[at]()), expected[at])
    assert engine.begin([])() == []


class _Broken:
    """A request of a model that fails."""

    def start_async(self, inputs, share_inputs):
        pass

    def wait(self):
        raise RuntimeError("the plugin failed")


def test_a_model_that_fails_is_told_to_those_who_asked_it_and_no_others(tiny_checkpoint):
    engine = load(tiny_checkpoint, "openvino", threads=1).engine
    windows = windows_of(load(tiny_checkpoint, "torch"))[:1]
    expected = as_columns(engine.score(windows))
    sound, engine._idle = engine._idle, [_Broken()]
    failing = engine.begin(windows)
    engine._idle = sound
    other = engine.begin(windows)
    with pytest.raises(ModelError, match="the plugin failed; set engine=torch"):
        failing()
    np.testing.assert_array_equal(as_columns(other()), expected)


def test_a_text_scores_the_same_alone_and_in_a_batch():
    # The real one: with few dimensions, nothing is summed in another order.
    compressor = load("default", "openvino")
    lines = CALIBRATION.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    windows = windows_of(compressor, [text[: 300 + 40 * i] for i, text in enumerate(texts[:24])])
    assert len({len(window.ids) for window in windows}) > 12
    together = compressor.engine.score(windows)
    for window, found in zip(windows, together, strict=True):
        (alone,) = compressor.engine.score([window])
        np.testing.assert_array_equal(found.preserve_probability, alone.preserve_probability)
        np.testing.assert_array_equal(found.outlier_score, alone.outlier_score)


@given(st.integers(1, 600), st.integers(1, 600))
def test_a_window_is_padded_by_its_own_length_and_little(length, limit):
    padded = pad_length(length, limit)
    assert length <= padded <= max(length, limit)
    assert (padded - length) * MAX_PADDING < length
    assert pad_length(padded, limit) == padded


def test_windows_of_any_length_have_few_shapes():
    assert len({pad_length(length, 512) for length in range(1, 513)}) < 130


def test_progress_is_told_at_every_micro_batch(tiny_checkpoint):
    engine = load(tiny_checkpoint, "openvino").engine
    told = []
    engine.on_progress = lambda: told.append(True)
    windows = windows_of(load(tiny_checkpoint, "torch"), TEXTS * 60)
    engine.score(windows)
    batches = plan_micro_batches([len(item.ids) for item in windows], 2048)
    assert len(told) >= len(batches) > 2


def test_an_int8_model_is_made_once_and_nothing_of_it_goes_to_stdout(
    tiny_checkpoint, cache, made, capfd
):
    with ThreadPoolExecutor(3) as pool:
        compressors = list(pool.map(lambda _: load(tiny_checkpoint, "openvino"), range(3)))
    assert len(made) == 1
    assert len({compressor.engine.numerics["int8_model"] for compressor in compressors}) == 1
    assert capfd.readouterr().out == ""
    # Alpha is no part of the model; what an outlier is, is.
    load(tiny_checkpoint, "openvino", scoring={"alpha": 0.5})
    assert len(made) == 1
    load(tiny_checkpoint, "openvino", scoring={"outlier": {"reduction": "max"}})
    load(tiny_checkpoint, "openvino", window=WindowConfig(max_length=32))
    assert len(made) == 3
    assert not list(cache.rglob("*-*"))  # no unfinished directory


@pytest.mark.parametrize(
    "name",
    [
        "model.bin",
        pytest.param("model.xml", marks=pytest.mark.slow),
        pytest.param("sha256.json", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_int8_model_is_made_again(tiny_checkpoint, cache, made, name, caplog):
    before = load(tiny_checkpoint, "openvino").engine.numerics
    (file,) = cache.rglob(name)
    file.write_bytes(file.read_bytes()[:-20])
    assert load(tiny_checkpoint, "openvino").engine.numerics == before
    assert len(made) == 2
    assert f"{file.parent} is damaged, and is made again" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_only(tiny_checkpoint, cache, made, caplog):
    cache.write_text("a file where a directory should be")
    compressor = load(tiny_checkpoint, "openvino")
    assert compressor.compress(TEXTS[1], rate=0.5).num_kept_tokens > 0
    assert not made[0].exists()
    assert "set MOOS_CACHE to a directory that can be written" in caplog.text


def test_a_cached_model_needs_no_torch_and_nobody_is_told_of_it(tiny_checkpoint, tmp_path):
    """OpenVINO and NNCF report their use to their makers, unless they are kept from it."""
    script = (
        "import sys; from moos import Compressor\n"
        f"compressor = Compressor.load({str(tiny_checkpoint)!r}, device='cpu')\n"
        "assert compressor.compress('The committee met.', rate=0.5).spans\n"
        "import openvino.tools.ovc.telemetry_utils as told\n"
        "print(compressor.engine.name, 'torch' in sys.modules, told.tm.__name__)"
    )
    load(tiny_checkpoint, "openvino")
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["openvino", "False", "openvino.tools.ovc.telemetry_stub"]
    assert list(tmp_path.iterdir()) == []


def test_auto_is_openvino_for_architectures_that_it_is_known_to_run(make_checkpoint):
    assert load(make_checkpoint("bert"), "auto").engine.name == "openvino"
    assert load(make_checkpoint("modernbert"), "auto").engine.name == "torch"


def test_auto_goes_without_openvino(make_checkpoint, monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "nncf" else find(name, *rest),
    )
    assert load(make_checkpoint("bert"), "auto").engine.name == "torch"
    assert "several times slower than OpenVINO: pip install nncf" in caplog.text


def test_what_is_missing_is_named(make_checkpoint, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ModelError, match=r"pip install nncf; or set engine=torch"):
        load(make_checkpoint("bert"), "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"pip install openvino nncf; or set engine=torch"):
        load(make_checkpoint("bert"), "openvino")


def test_openvino_is_refused_on_a_gpu(make_checkpoint):
    with pytest.raises(ModelError, match="runs on CPUs, not on device=cuda; set engine=torch"):
        Compressor.load(make_checkpoint("bert"), engine="openvino", device="cuda")
