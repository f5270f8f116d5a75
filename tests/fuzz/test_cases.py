"""What fuzzing found, replayed, and a short seeded attack on each target; atheris is not needed."""

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, Target

CASES = sorted(path for path in (Path(__file__).parent / "cases").glob("*/*"))
NUM_RANDOM = {"jsonl": 60, "words": 80, "selection": 60, "render": 80, "config": 50}


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_stays_mended(path):
    TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_from_breaks_no_promise(name):
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_attack_breaks_no_promise(name):
    draw = random.Random(f"attack {name}")
    for _ in range(NUM_RANDOM[name]):
        TARGETS[name].check(mutate(TARGETS[name], draw))


def mutate(target: Target, draw: random.Random) -> bytes:
    """A seed with some bytes changed, taken out, doubled, or put in from the dictionary."""
    data = bytearray(draw.choice(target.seeds))
    for _ in range(draw.randint(1, 8)):
        at, stop = sorted(draw.randint(0, len(data)) for _ in range(2))
        some, word = draw.randbytes(draw.randint(1, 3)), draw.choice(target.dictionary)
        part = draw.choice([some, word, data[at:stop] * 2, b""])
        data[at : min(stop, at + 12)] = part
    return bytes(data[:2048])
