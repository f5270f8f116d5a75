import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from jobs.train import main
from moos import Compressor
from moos.checkpoint import read_checkpoint
from moos.config import OutlierConfig, ScoringConfig
from moos.errors import ConfigError, DataError, ModelError
from moos.labels import prepare_inputs, read_labelled, split_documents
from moos.tokens import TextTokenizer
from moos.training import (
    build_optimizer,
    check_loss,
    fit,
    iterate_batches,
    label_windows,
    load_base,
    make_batch,
    train,
    train_step,
)
from moos.training_config import TrainingConfig
from moos.validation import (
    area_under_curve,
    choose_scoring,
    measure_outlier_constants,
    preserve_auc,
)

NAMES = ["alice", "bob", "carol", "paris", "rome", "seven", "eleven"]
FILLERS = ["the", "a", "of", "and", "to", "um", "so", "well"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tiny model gains nothing from a second thread, and waits for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_tokenizer():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *NAMES, *FILLERS, ".", ",", "##s"]
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


def make_record(index, generator):
    """A text whose names are to be kept, with some noise, and whose fillers are not."""
    words, soft = [], []
    for _ in range(int(generator.integers(8, 40))):
        keep = bool(generator.random() < 0.5)
        word = str(generator.choice(NAMES if keep else FILLERS))
        words.append(word + str(generator.choice(["", "", ",", "."])))
        is_noise = generator.random() < 0.1
        soft.append(None if generator.random() < 0.1 else float(0.9 if keep != is_noise else 0.2))
    domain = ("news", "talk")[index % 2]
    return {"id": str(index), "domain": domain, "text": " ".join(words), "soft": soft}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
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
    build_tokenizer().save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text('{"model_max_length": 64, "name_or_path": "x/y"}')
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "labels.jsonl"
    path.write_text("".join(json.dumps(make_record(i, generator)) + "\n" for i in range(40)))
    return path


@pytest.fixture(scope="module")
def make_config(base, data, tmp_path_factory):
    def make_config(**changes):
        settings = {
            "base": str(base),
            "base_name": "a tiny BERT",
            "data": str(data),
            "labels_note": "made by a rule",
            "output": str(tmp_path_factory.mktemp("out") / "checkpoint"),
            "learning_rate": 1e-3,
            "epochs": 2,
            "max_length": 24,
            "validation_share": 0.3,
            "threads": 1,
        }
        return TrainingConfig.model_validate(settings | changes)

    return make_config


@pytest.fixture(scope="module")
def trained(make_config):
    """A finished run: its config, its figures, and what it reported."""
    config, lines = make_config(epochs=3), []
    return config, train(config, lines.append), lines


@pytest.fixture(scope="module")
def prepared(make_config):
    config = make_config()
    tokenizer = TextTokenizer.from_file(f"{config.base}/tokenizer.json")
    return prepare_inputs(read_labelled(config.data), tokenizer, config.max_length)


def test_a_tiny_model_overfits_one_batch(make_config, prepared):
    config = make_config(beta=0.0, learning_rate=5e-3)
    torch.manual_seed(0)
    model = load_base(config.base, config.max_length).eval()
    batch = make_batch(label_windows(prepared)[:4])
    hard = torch.where(batch.labels.isnan(), batch.labels, (batch.labels >= 0.5).float())
    batch = type(batch)(batch.ids, batch.attention, hard)
    optimizer, _ = build_optimizer(model, config, 200)
    losses = (float(train_step(model, batch, optimizer, config).total) for _ in range(200))
    assert any(loss < 0.05 for loss in losses)


def test_labels_sit_on_the_tokens_of_the_text_and_on_no_special_token(prepared):
    windows = label_windows(prepared)
    for window in windows:
        assert math.isnan(window.labels[0])
        assert math.isnan(window.labels[-1])
        assert len(window.labels) == len(window.input.ids)
    inside = np.concatenate([window.labels[1:-1] for window in windows])
    expected = np.concatenate([document.token_labels for document in prepared])
    np.testing.assert_array_equal(inside, expected)


def test_an_epoch_holds_every_window_once_in_batches_of_similar_length(prepared):
    windows = label_windows(prepared)
    batches = list(iterate_batches(windows, 4, np.random.default_rng(0)))
    assert sum(len(batch.ids) for batch in batches) == len(windows)
    seen = sorted(row[row != 0].tolist() for batch in batches for row in batch.ids)
    assert seen == sorted(window.input.ids.tolist() for window in windows)
    padding = sum(int((batch.attention == 0).sum()) for batch in batches)
    assert padding / sum(batch.ids.numel() for batch in batches) < 0.2


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(make_config, prepared):
    def losses(seed):
        config = make_config(epochs=1, seed=seed)
        torch.manual_seed(seed)
        model = load_base(config.base, config.max_length)
        return fit(model, prepared[:20], prepared[20:], config, lambda line: None)

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_the_weights_of_the_best_epoch_are_kept(make_config, prepared):
    config = make_config(epochs=4, learning_rate=2e-2)
    torch.manual_seed(0)
    model = load_base(config.base, config.max_length)
    epochs = fit(model, prepared[:20], prepared[20:], config, lambda line: None)
    assert round(preserve_auc(model, prepared[20:]), 4) == max(row["auc"] for row in epochs)


def test_gradients_are_clipped_before_the_step(make_config, prepared):
    config = make_config(clip_norm=1e-3)
    model = load_base(config.base, config.max_length)
    optimizer, _ = build_optimizer(model, config, 10)
    train_step(model, make_batch(label_windows(prepared)[:4]), optimizer, config)
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() <= 1.001e-3


def test_the_learning_rate_rises_then_falls_and_spares_biases_from_decay(make_config):
    config = make_config(learning_rate=1.0, warmup_share=0.2)
    model = load_base(config.base, config.max_length)
    optimizer, schedule = build_optimizer(model, config, 10)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == config.weight_decay
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in spared["params"]} == {1}


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(make_config, prepared):
    config = make_config()
    model = load_base(config.base, config.max_length)
    with torch.no_grad():
        model.model.classifier.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"the loss is nan at step 1 \(epoch 1\)"):
        fit(model, prepared[:20], prepared[20:], config, lambda line: None)
    batch = make_batch(label_windows(prepared)[:2])
    optimizer, _ = build_optimizer(model, config, 1)
    before = model.model.classifier.weight.clone()
    loss = train_step(model, batch, optimizer, config)
    torch.testing.assert_close(model.model.classifier.weight, before)
    with pytest.raises(ModelError, match="step 7"):
        check_loss(loss, 7, 1, config)


def test_the_written_checkpoint_scores_as_its_figures_say(trained):
    config, metrics, _ = trained
    _, held_out = split_documents(
        read_labelled(config.data), validation_share=config.validation_share, seed=0
    )
    compressor = Compressor.load(config.output, threads=1)
    scores, labels = [], []
    for source, document in zip(
        held_out, compressor.compress([d.text for d in held_out]), strict=True
    ):
        for word in document.words:
            owner = int(np.searchsorted(source.ends, word.start, side="right"))
            scores.append(word.score)
            labels.append(source.labels[owner])
    labels = np.array(labels)
    labelled = ~np.isnan(labels)
    auc = area_under_curve(np.array(scores)[labelled], labels[labelled] >= 0.5)
    assert auc == pytest.approx(metrics["auc"], abs=0.01)
    assert auc > 0.8


def test_the_written_checkpoint_states_what_it_is_made_of(trained):
    config, metrics, lines = trained
    checkpoint = read_checkpoint(config.output)
    assert checkpoint.preserve_index == 1
    assert checkpoint.moos.max_length == 24
    assert checkpoint.moos.beta == config.beta
    assert checkpoint.moos.metrics == metrics
    assert {s["domain"] for s in checkpoint.moos.training["sources"]} == {"news", "talk"}
    text = "".join(
        file.read_text() for file in checkpoint.path.iterdir() if file.suffix != ".safetensors"
    )
    assert config.base not in text
    assert config.data not in text
    tokenizer = json.loads(checkpoint.tokenizer_path.read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    card = (checkpoint.path / "README.md").read_text()
    assert f"AUC {metrics['auc']:.3f}" in card
    assert "{" not in card
    assert sum(line.startswith("epoch") for line in lines) == 3


def test_the_checkpoint_serves_outlier_statistics_of_its_own(trained):
    outlier = OutlierConfig(statistics="checkpoint")
    scoring = ScoringConfig(alpha=0.5, outlier=outlier)
    compressor = Compressor.load(trained[0].output, scoring=scoring, threads=1)
    together = compressor.compress("alice and bob. well so um. carol of paris.")
    scores = [word.outlier_score for word in together.words]
    assert max(scores) <= 1.0
    assert len(set(scores)) > 2


def test_outlier_constants_are_those_of_all_training_tokens(make_config, prepared):
    config = make_config()
    model = load_base(config.base, config.max_length).eval()
    inputs = [item for document in prepared for item in document.inputs]
    constants = measure_outlier_constants(model, inputs)
    with torch.no_grad():
        hidden = torch.cat(
            [
                model(torch.tensor([item.ids.tolist()]), torch.ones(1, len(item.ids)).long())[1][
                    0, item.own_start : item.own_end
                ]
                for item in inputs
            ]
        )
    mean, std = hidden.mean(dim=0), hidden.std(dim=0, correction=0)
    torch.testing.assert_close(constants.mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(constants.std, std, atol=1e-5, rtol=1e-4)
    norms = ((hidden - mean) / std).norm(dim=1)
    assert float(norms.min()) <= constants.low < constants.high <= float(norms.max()) + 1e-4


@pytest.mark.parametrize(
    ("checkpoint", "window", "alpha", "statistics"),
    [
        ({1.0: 0.80, 0.9: 0.82, 0.8: 0.81}, {1.0: 0.80, 0.9: 0.8, 0.8: 0.7}, 0.9, "checkpoint"),
        # Within noise, the smaller alpha and the checkpoint's statistics are worth having.
        ({1.0: 0.800, 0.9: 0.799, 0.8: 0.79}, {1.0: 0.8, 0.9: 0.8015, 0.8: 0.7}, 0.9, "checkpoint"),
        ({1.0: 0.80, 0.9: 0.79, 0.8: 0.78}, {1.0: 0.8, 0.9: 0.81, 0.8: 0.8}, 0.9, "window"),
    ],
)
def test_scoring_is_chosen_by_auc_beyond_noise(monkeypatch, checkpoint, window, alpha, statistics):
    tables = iter([*checkpoint.values(), *window.values()])
    monkeypatch.setattr("moos.validation.ALPHAS", tuple(checkpoint))
    monkeypatch.setattr("moos.validation.word_auc", lambda documents, scores: next(tables))
    choice = choose_scoring([])
    assert (choice.alpha, choice.statistics) == (alpha, statistics)
    assert choice.auc == {"checkpoint": checkpoint, "window": window}[statistics][alpha]


def test_area_under_curve_counts_pairs_and_halves_ties():
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    labels = np.array([False, True, False, True])
    assert area_under_curve(scores, labels) == pytest.approx(3.5 / 4)
    assert math.isnan(area_under_curve(scores, np.ones(4, dtype=bool)))


def test_an_output_that_holds_something_else_is_refused(make_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something that is no checkpoint"):
        train(make_config(output=str(tmp_path)), lambda line: None)
    assert (tmp_path / "thesis.tex").exists()


def test_an_empty_side_of_the_split_is_refused(make_config):
    with pytest.raises(DataError, match="no validation document at validation_share=1e-09"):
        train(make_config(validation_share=1e-9), lambda line: None)


def test_a_base_built_for_shorter_windows_is_refused(make_config):
    config = make_config()
    with pytest.raises(ModelError, match="max_length=65 exceeds the 64 positions"):
        load_base(config.base, 65)


def test_the_job_reports_a_bad_config_with_exit_code_2(capsys):
    assert main(["configs/train.default.yaml", "bta=1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "bta" in error
    assert "base" in error


def test_the_job_reports_a_missing_base_with_exit_code_2(make_config, capsys, tmp_path):
    settings = make_config(base=str(tmp_path)).model_dump()
    arguments = [f"{k}={v}" for k, v in settings.items() if v is not None]
    assert main(arguments) == 2
    assert "tokenizer.json cannot be read" in capsys.readouterr().err


def test_a_config_is_read_without_loading_torch_or_ray():
    script = "import sys, jobs.train; print(*sorted({'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
