import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from jobs.train import main
from moos import Compressor
from moos.checkpoint import read_checkpoint
from moos.config import OutlierConfig, ScoringConfig
from moos.errors import ConfigError, DataError, ModelError
from moos.labelled_inputs import prepare_inputs
from moos.labels import read_labelled, split_documents
from moos.ranks import Ranks
from moos.tokens import TextTokenizer
from moos.training import best_row, check_workers, load_base, run_training
from moos.training_config import TrainingConfig
from moos.training_data import (
    TrainingData,
    label_windows,
    make_batch,
    plan_epoch,
    prepare_data,
)
from moos.training_output import finish_checkpoint
from moos.training_state import load_state, save_state
from moos.training_step import build_optimizer, learning_rate, train_step
from moos.validation import area_under_curve, choose_scoring, measure_outlier_constants


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tiny model gains nothing from a second thread, and waits for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def make_config(training_base):
    def make_config(**changes):
        settings = {
            "base": str(training_base),
            "base_name": "a tiny BERT",
            "labels_note": "made by a rule",
            "learning_rate": 1e-3,
            "epochs": 2,
            "max_length": 24,
            "validation_share": 0.3,
            "threads": 1,
        }
        return TrainingConfig.model_validate(settings | changes)

    return make_config


@pytest.fixture(scope="module")
def documents(labelled_jsonl):
    return read_labelled(str(labelled_jsonl))


@pytest.fixture(scope="module")
def prepared(make_config, documents):
    config = make_config()
    tokenizer = TextTokenizer.from_file(f"{config.base}/tokenizer.json")
    return prepare_inputs(documents, tokenizer, config.max_length)


@pytest.fixture(scope="module")
def data(prepared):
    return TrainingData(prepared[:28], prepared[28:])


@pytest.fixture(scope="module")
def run(data):
    """`run(config, resumed=None)`: the states of a run, one for each validation."""

    def run(config, resumed=None):
        states = []
        run_training(config, data, ranks=Ranks(), on_validated=states.append, resumed=resumed)
        return states

    return run


@pytest.fixture(scope="module")
def trained(make_config, documents, tmp_path_factory):
    """A finished run: its config, its figures, and its checkpoint."""
    config = make_config(epochs=3)
    tokenizer = TextTokenizer.from_file(f"{config.base}/tokenizer.json")
    data = prepare_data(documents, tokenizer, config)
    states = []
    run_training(config, data, ranks=Ranks(), on_validated=states.append)
    model = load_base(config.base, config.max_length)
    model.load_state_dict(states[-1].model)
    path = tmp_path_factory.mktemp("out") / "checkpoint"
    metrics = finish_checkpoint(model, config, documents, data, states[-1].history, path)
    return config, metrics, path


def test_progress_is_told_after_each_step_and_while_its_validation_goes_on(make_config, data):
    told = []
    config = make_config(epochs=1, batch_size=4, micro_batch_size=2, validate_every=2)
    run_training(
        config, data, ranks=Ranks(), on_validated=lambda state: None, on_progress=told.append
    )
    steps = [progress.step for progress in told]
    assert sorted(set(steps)) == list(range(1, told[-1].num_steps + 1))
    assert steps.count(1) == 1
    assert steps.count(2) > 1


def test_a_tiny_model_overfits_one_batch(make_config, prepared):
    config = make_config(beta=0.0, learning_rate=5e-3)
    torch.manual_seed(0)
    model = load_base(config.base, config.max_length).eval()
    batch = make_batch(label_windows(prepared)[:4])
    hard = torch.where(batch.labels.isnan(), batch.labels, (batch.labels >= 0.5).float())
    batch = type(batch)(batch.ids, batch.attention, hard)
    optimizer = build_optimizer(model, config)
    losses = (
        train_step(model, [batch], optimizer, config, step=step, ranks=Ranks()).loss
        for step in range(200)
    )
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
    lengths = [len(window.input.ids) for window in label_windows(prepared)]
    steps = plan_epoch(lengths, batch_size=8, micro_batch_size=3, seed=0, epoch=0)
    assert sorted(np.concatenate([i for parts in steps for i in parts])) == list(
        range(len(lengths))
    )
    assert all(len(parts) <= 3 for parts in steps)
    spread = [np.ptp([lengths[i] for i in np.concatenate(parts)]) for parts in steps]
    assert np.mean(spread) < np.ptp(lengths) / 3


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def plan(seed, epoch, micro_batch_size=4):
        steps = plan_epoch(
            [5] * 50, batch_size=8, micro_batch_size=micro_batch_size, seed=seed, epoch=epoch
        )
        return [np.concatenate(parts).tolist() for parts in steps]

    assert plan(0, 1) == plan(0, 1) == plan(0, 1, micro_batch_size=8)
    assert plan(0, 1) != plan(0, 2)
    assert plan(0, 1) != plan(1, 1)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(make_config, run):
    first, again, other = (run(make_config(epochs=1, seed=s))[-1].history for s in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("validate_every", [1, 3])
def test_a_resumed_run_ends_exactly_like_an_uninterrupted_one(
    make_config, run, tmp_path, validate_every
):
    config = make_config(validate_every=validate_every, micro_batch_size=4)
    whole = run(config)
    save_state(whole[1], tmp_path)
    rest = run(config, resumed=load_state(tmp_path))
    assert rest[-1].history == whole[-1].history
    assert rest[-1].curve == whole[-1].curve
    for name, tensor in whole[-1].model.items():
        torch.testing.assert_close(rest[-1].model[name], tensor, rtol=0, atol=0)


def test_a_run_that_has_ended_has_nothing_left_to_do(make_config, run):
    config = make_config()
    assert run(config, resumed=run(config)[-1]) == []


def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(make_config, prepared):
    config = make_config(batch_size=8, micro_batch_size=3, beta=0.7, clip_norm=1e9)
    windows = label_windows(prepared)[:8]
    gradients = []
    for size in (8, 3):
        torch.manual_seed(0)
        model = load_base(config.base, config.max_length).eval()
        batches = [make_batch(windows[at : at + size]) for at in range(0, 8, size)]
        optimizer = build_optimizer(model, config)
        figures = train_step(model, batches, optimizer, config, step=0, ranks=Ranks())
        gradients.append((figures.loss, [p.grad.clone() for p in model.parameters()]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-6)
    for whole, parts in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-4)


def test_the_similarity_term_may_be_of_another_layer(make_config, prepared):
    def similarity(layer):
        config = make_config(similarity_layer=layer)
        torch.manual_seed(0)
        model = load_base(config.base, config.max_length)
        batch = make_batch(label_windows(prepared)[:4])
        optimizer = build_optimizer(model, config)
        return train_step(model, [batch], optimizer, config, step=0, ranks=Ranks()).similarity

    assert similarity(-1) == pytest.approx(similarity(2), abs=1e-6)
    assert similarity(-1) != pytest.approx(similarity(1), abs=1e-4)


def test_a_layer_the_encoder_lacks_is_refused(make_config, run):
    with pytest.raises(ConfigError, match="similarity_layer=-4: the encoder has layers 1 to 2"):
        run(make_config(similarity_layer=-4))


def test_validation_figures_are_those_of_the_words(make_config, data, run):
    row = run(make_config())[-1].history[-1]
    assert row["auc"] > 0.8
    assert row["f1"] == pytest.approx(
        2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
    )
    assert len(row["layer_similarity"]) == 3
    assert row["similarity"] == row["layer_similarity"][-1]
    assert row["loss"] == pytest.approx(row["cross_entropy"] + 0.1 * row["similarity"])


@pytest.mark.parametrize("harm", ["cut", "gone", "no_json", "another_size"])
def test_a_damaged_state_is_refused(make_config, run, tmp_path, harm):
    save_state(run(make_config(epochs=1))[-1], tmp_path)
    path = tmp_path / "model.safetensors"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-7] + b"abcdefg")
    elif harm == "another_size":
        path.write_bytes(path.read_bytes()[:-7])
    elif harm == "gone":
        path.unlink()
    else:
        (tmp_path / "state.json").write_text('{"step": 3')
    with pytest.raises(DataError, match=r"is damaged|no state can be read"):
        load_state(tmp_path)


def test_a_state_of_another_architecture_is_refused(make_config, run, prepared):
    state = run(make_config(epochs=1))[-1]
    weights = {**state.model, "model.classifier.weight": torch.zeros(3, 32)}
    with pytest.raises(DataError, match=r"another architecture: model\.classifier\.weight"):
        run(make_config(epochs=1), resumed=dataclasses.replace(state, model=weights))


def test_the_best_validation_is_that_of_the_named_metric():
    history = [
        {"step": 1, "auc": 0.8, "f1": 0.9, "loss": 0.5},
        {"step": 2, "auc": 0.9, "f1": 0.7, "loss": 0.6},
        {"step": 3, "auc": 0.9, "f1": 0.8, "loss": 0.4},
        {"step": 4, "auc": float("nan"), "f1": 0.8, "loss": 0.7},
    ]
    assert [best_row(history, name)["step"] for name in ("auc", "f1", "loss")] == [2, 1, 3]


def test_gradients_are_clipped_before_the_step(make_config, prepared):
    config = make_config(clip_norm=1e-3)
    model = load_base(config.base, config.max_length)
    optimizer = build_optimizer(model, config)
    batch = make_batch(label_windows(prepared)[:4])
    train_step(model, [batch], optimizer, config, step=0, ranks=Ranks())
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() <= 1.001e-3


def test_the_learning_rate_rises_then_falls_and_spares_biases_from_decay(make_config):
    config = make_config(learning_rate=1.0, warmup_share=0.2)
    rates = [learning_rate(step, 10, config) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    optimizer = build_optimizer(load_base(config.base, config.max_length), config)
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == config.weight_decay
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in spared["params"]} == {1}


def test_a_loss_that_is_no_number_changes_no_weight(make_config, prepared):
    config = make_config()
    model = load_base(config.base, config.max_length)
    with torch.no_grad():
        model.model.classifier.bias[0] = float("nan")
    before = model.model.classifier.weight.clone()
    batch = make_batch(label_windows(prepared)[:2])
    optimizer = build_optimizer(model, config)
    with pytest.raises(ModelError, match="the loss is nan; lower learning_rate"):
        train_step(model, [batch], optimizer, config, step=0, ranks=Ranks())
    torch.testing.assert_close(model.model.classifier.weight, before)


def test_a_run_whose_loss_explodes_names_step_and_documents(make_config, run, monkeypatch):
    def explode(*args, **kwargs):
        raise ModelError("the loss is nan; lower learning_rate (now 1)")

    monkeypatch.setattr("moos.training.train_step", explode)
    with pytest.raises(ModelError, match=r"step 1 \(epoch 1\), documents '\d+'.*: the loss is nan"):
        run(make_config())


def test_more_workers_than_micro_batches_are_refused(make_config):
    config = make_config(batch_size=8, micro_batch_size=4)
    check_workers(config, 2)
    with pytest.raises(ConfigError, match="3 workers share 2 micro-batches per step"):
        check_workers(config, 3)


def test_the_written_checkpoint_scores_as_its_figures_say(trained, documents):
    config, metrics, path = trained
    _, held_out = split_documents(documents, validation_share=config.validation_share, seed=0)
    compressor = Compressor.load(str(path), threads=1)
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
    config, metrics, path = trained
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.preserve_index == 1
    assert checkpoint.moos.max_length == 24
    assert checkpoint.moos.beta == config.beta
    assert checkpoint.moos.metrics == metrics
    assert {s["domain"] for s in checkpoint.moos.training["sources"]} == {"news", "talk"}
    text = "".join(
        file.read_text() for file in checkpoint.path.iterdir() if file.suffix != ".safetensors"
    )
    assert config.base not in text
    tokenizer = json.loads(checkpoint.tokenizer_path.read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    card = (checkpoint.path / "README.md").read_text()
    assert f"AUC {metrics['auc']:.3f}" in card
    assert "{" not in card
    assert len(metrics["validations"]) == 3


def test_the_checkpoint_serves_outlier_statistics_of_its_own(trained):
    outlier = OutlierConfig(statistics="checkpoint")
    scoring = ScoringConfig(alpha=0.5, outlier=outlier)
    compressor = Compressor.load(str(trained[2]), scoring=scoring, threads=1)
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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.9, 0.9], "class discard"),
        ([0.1, None], "class preserve"),
    ],
)
def test_documents_of_one_class_are_refused(make_config, tmp_path, labels, message):
    path = tmp_path / "one.jsonl"
    records = (
        {"id": str(i), "domain": "x", "text": "alice rome", "soft": labels} for i in range(20)
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = make_config()
    tokenizer = TextTokenizer.from_file(f"{config.base}/tokenizer.json")
    with pytest.raises(DataError, match=message):
        prepare_data(read_labelled(str(path)), tokenizer, config)


def test_an_empty_side_of_the_split_is_refused(make_config, documents):
    config = make_config(validation_share=1e-9)
    tokenizer = TextTokenizer.from_file(f"{config.base}/tokenizer.json")
    with pytest.raises(DataError, match="no validation document at validation_share=1e-09"):
        prepare_data(documents, tokenizer, config)


def test_a_base_built_for_shorter_windows_is_refused(make_config):
    config = make_config()
    with pytest.raises(ModelError, match="max_length=65 exceeds the 64 positions"):
        load_base(config.base, 65)


def test_the_job_reports_a_bad_config_with_exit_code_2(capsys):
    assert main(["configs/train.default.yaml", "bta=1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "bta" in error


@pytest.mark.parametrize("base", ["sentence-transformers/all-MiniLM-L6-v2", "absent", "tests"])
def test_the_job_reports_a_missing_base_with_exit_code_2(capsys, tmp_path, base):
    places = (f"training.base={base}", f"output.path={tmp_path / 'out'}")
    assert main(["configs/train.default.yaml", *places]) == 2
    error = capsys.readouterr().err
    assert f"error: training.base: '{base}' is no directory with tokenizer.json; hub ids" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("soft", "code", "told"), [({}, 2, "data.path: no labels in"), ({"soft": [1]}, 1, "1 labels")]
)
def test_the_job_does_not_advise_to_run_on_faulty_labels_again(
    capsys, training_base, tmp_path, soft, code, told
):
    record = {"id": "x", "domain": "news", "text": "Two words.", **soft}
    (tmp_path / "docs.jsonl").write_text(json.dumps(record))
    places = (f"data.path={tmp_path / 'docs.jsonl'}", f"output.path={tmp_path / 'out'}")
    settings = (*places, f"training.base={training_base}")
    assert main(["configs/train.default.yaml", *settings]) == code
    error = capsys.readouterr().err
    assert told in error
    assert "again" not in error
    assert not (tmp_path / "out").exists()


def test_a_config_is_read_without_loading_torch_or_ray():
    script = "import sys, jobs.train; print(*sorted({'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
