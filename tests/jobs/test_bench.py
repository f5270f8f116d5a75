import json

import pytest
import torch

from jobs.bench import main
from moos.loss import class_similarity
from moos.loss_benchmark import double_sum
from tests.bench_contestants import FakeSpec, QuickCeilingSpec


def test_the_double_sum_that_is_timed_is_the_similarity():
    torch.manual_seed(0)
    hidden, labels = torch.randn(3, 9, 8), torch.rand(3, 9)
    torch.testing.assert_close(double_sum(hidden, labels), class_similarity(hidden, labels))


def test_the_loss_benchmark_prints_shares_of_a_step(capsys):
    settings = ["num_layers=1", "hidden_size=64", "length=16", "windows=1", "repeats=1"]
    assert main(["loss", *settings]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert 0 < figures["similarity_share"] < 1
    assert figures["step_s"] > 0


@pytest.mark.parametrize("setting", ["length=no", "depth=3", "length", "windows=0"])
def test_a_wrong_setting_exits_2_and_names_the_keys(setting, capsys):
    assert main(["loss", setting]) == 2
    assert "num_layers" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def quick_ceilings(monkeypatch):
    monkeypatch.setattr("pipelines.bench.CeilingSpec", QuickCeilingSpec)


@pytest.mark.parametrize(
    ("setting", "key"),
    [("roundz=2", "did you mean 'rounds'"), ("corpora=[meeting]", "corpora"), ("rate=0", "rate")],
)
def test_a_wrong_key_of_compress_exits_2_and_is_named(setting, key, moos):
    result = moos("bench", "compress", setting)
    assert result.code == 2
    assert key in result.err


def test_no_benchmark_and_one_that_is_not_exit_2(moos):
    assert moos("bench").code == 2
    assert moos("bench", "speed").code == 2
    assert moos("bench", "compress", "a.yaml", "b.yaml").code == 2


def test_quick_is_a_default_that_settings_override(moos):
    result = moos("bench", "compress", "rounds=5", "--quick", "--print-config")
    assert result.code == 0
    assert "rounds: 5" in result.out
    assert "tokens: 16000" in result.out


def test_without_cuda_gpu_is_refused(moos, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = moos("bench", "compress", "--gpu")
    assert result.code == 2
    assert "sees no CUDA device" in result.err


def test_an_output_in_no_directory_is_refused_before_anything_is_measured(moos, tmp_path):
    result = moos("bench", "compress", f"output={tmp_path}/no/bench.json")
    assert result.code == 2
    assert "output=" in result.err


def test_a_peer_that_is_not_installed_is_left_out_and_said_so(moos, monkeypatch):
    monkeypatch.setattr("pipelines.bench.is_installed", lambda: False)
    result = moos("bench", "compress", "contestants=[llmlingua2]")
    assert result.code == 2
    assert "llmlingua2 left out: the package llmlingua is not installed" in result.err


@pytest.mark.slow
def test_contestants_are_measured_side_by_side(moos, monkeypatch, tiny_checkpoint, tmp_path):
    monkeypatch.setattr("pipelines.bench.is_installed", lambda: False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    output = tmp_path / "bench.json"
    settings = ["corpora=[mixed]", "tokens=400", "rounds=1", "threads=1", f"output={output}"]
    result = moos(
        "bench",
        "compress",
        *settings,
        f"checkpoint={tiny_checkpoint}",
        "contestants=[llmlingua2,library,local]",
    )
    assert result.code == 0, result.err
    assert list(scratch.iterdir()) == []
    figures = json.loads(output.read_text())
    assert list(figures["left_out"]) == ["llmlingua2"]
    (corpus,) = figures["geometries"][0]["corpora"]
    library, local = corpus["contestants"]["library"], corpus["contestants"]["local"]
    assert library["tokens_per_s"]["min"] > 0
    assert 0 < library["share_of_ceiling"]["fp32"] < 1
    assert local["speed_ratio"]["library"]["min"] > 0
    assert local["bytes_written"] > local["data_bytes"] > 0
    assert local["starts_s"]["replica"]["min"] > 0
    # The same documents, the same budget, the same words.
    assert local["kept_rate"] == library["kept_rate"]
    assert {"read", "write", "score"} <= set(corpus["stages"]["local"]["seconds"])
    assert set(result.summary["geometries"]["checkpoint"]["mixed"]) == {"library", "local"}
    assert "time by stage" in result.err


@pytest.mark.parametrize("fails", ["load", "prepare", "run"])
def test_a_contestant_that_fails_is_reported_and_the_command_fails(fails, moos, monkeypatch):
    def build_spec(name, checkpoint, config):
        return FakeSpec(fails if name == "ray" else "never")

    monkeypatch.setattr("pipelines.bench.build_spec", build_spec)
    monkeypatch.setattr("pipelines.bench.is_installed", lambda: True)
    settings = ["corpora=[passages]", "tokens=200", "rounds=2", "contestants=[llmlingua2,ray]"]
    result = moos("bench", "compress", *settings)
    assert result.code == 1
    assert f"OSError: {fails} is broken" in result.err
    figures = result.summary["geometries"]["checkpoint"]["passages"]
    assert figures["ray"] == {"error": f"OSError: {fails} is broken"}
    assert figures["llmlingua2"]["tokens_per_s"] == 200
