import pytest

from moos.benchmark.contestants import StageTimes, Turn
from moos.benchmark.figures import (
    describe_stages,
    describe_turns,
    shares_of_ceilings,
    speed_ratio,
    spread,
)
from moos.benchmark.flop import total_flop, window_flop

MINILM = {
    "model_type": "bert",
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "intermediate_size": 1536,
}


def turn(seconds, tokens=1000, **rest):
    return Turn(seconds=seconds, tokens=tokens, kept_tokens=tokens // 2, **rest)


def test_the_operations_of_a_known_encoder():
    # Per position: 4 projections of 384 x 384 and 2 of 384 x 1536 in each of 6 layers, and their
    # additions; then 2 x 512 x 384 of attention; the classifier has 2 classes.
    linear = 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 2 * 6 * 2 * 512 * 384
    assert window_flop(MINILM, 512) == 512 * (linear + attention + 2 * 384 * 2)
    assert window_flop(MINILM, 512) / 512 == pytest.approx(26e6, rel=0.01)
    assert total_flop(MINILM, [512, 1]) == window_flop(MINILM, 512) + window_flop(MINILM, 1)
    assert total_flop(MINILM, []) == 0


def test_an_encoder_of_another_kind_has_no_count():
    assert total_flop({**MINILM, "model_type": "modernbert"}, [512]) is None


def test_ratios_are_taken_within_rounds():
    # The machine was twice as fast in the second round; a third lacks one of the two.
    rounds = [
        {"library": turn(2.0), "peer": turn(6.0)},
        {"library": turn(1.0), "peer": turn(3.0)},
        {"library": turn(0.1)},
    ]
    assert speed_ratio(rounds, "library", "peer") == {"median": 3.0, "min": 3.0, "max": 3.0}
    assert speed_ratio(rounds, "library", "absent") is None
    assert spread([]) is None


def test_the_share_of_a_ceiling_is_taken_within_rounds_and_by_data_type():
    rounds = [{"library": turn(2.0)}, {"library": turn(1.0)}]
    ceilings = [{"fp32_gflop_s": 2.0, "copy_gb_s": 5.0}, {"fp32_gflop_s": 4.0, "copy_gb_s": 5.0}]
    assert shares_of_ceilings(rounds, "library", 2_000_000_000, ceilings) == {"fp32": 0.5}
    assert shares_of_ceilings(rounds, "library", None, ceilings) == {}


def test_turns_come_to_rates_with_and_without_starts():
    turns = [turn(1.0, starts={"ray": 3.0, "replica": 1.0}, bytes_written=7), turn(0.5)]
    figures = describe_turns(turns[:1])
    assert figures["tokens_per_s"]["median"] == 1000
    assert figures["tokens_per_s_with_starts"]["median"] == 200
    assert figures["starts_s"]["ray"]["max"] == 3.0
    assert (figures["kept_rate"], figures["bytes_written"]) == (0.5, 7)
    assert describe_turns([]) == {}


def test_stages_add_up_to_the_turn_where_they_follow_one_another():
    times = StageTimes(2.0, {"score": 1.5, "tokenise": 0.1})
    figures = describe_stages(times, in_order=True)
    assert figures["seconds"]["other"] == pytest.approx(0.4)
    assert figures["share_besides_score"] == 0.25
    assert "other" not in describe_stages(times, in_order=False)["seconds"]
