import json

import pytest
import torch

from jobs.bench import main
from moos.loss import class_similarity
from moos.loss_benchmark import double_sum


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
