import threading
import time
from types import SimpleNamespace

import pytest

from moos.benchmark import stage_clock
from moos.benchmark.contestants import LibrarySpec
from moos.benchmark.stage_clock import LIBRARY_STAGES, StageClock, find_place
from pipelines.bench_stages import JOB_STAGES


class Work:
    def outer(self):
        time.sleep(0.02)
        self.inner()

    def inner(self):
        time.sleep(0.03)

    def items(self):
        for item in range(3):
            time.sleep(0.01)
            yield item


@pytest.fixture
def places(monkeypatch):
    module = SimpleNamespace(Work=Work)
    monkeypatch.setattr(stage_clock.importlib, "import_module", lambda name: module)
    return [("m", "Work.outer", "outer"), ("m", "Work.inner", "inner"), ("m", "Work.items", "read")]


def test_a_stage_within_another_is_counted_once(places):
    before = Work.outer
    with StageClock(places) as clock:
        Work().outer()
        assert list(Work().items()) == [0, 1, 2]
    assert 0.02 <= clock.seconds["outer"] < 0.03 <= clock.seconds["inner"]
    assert clock.seconds["read"] >= 0.03
    assert Work.outer is before


def test_what_a_stage_did_in_its_own_thread_is_told_apart(places):
    with StageClock(places) as clock:
        Work().outer()
        Work().inner()
        thread = threading.Thread(target=Work().inner)
        thread.start()
        thread.join()
    assert clock.seconds["inner"] >= 0.09
    within = clock.seconds_within("outer")
    assert set(within) == {"outer", "inner"}
    assert 0.02 <= within["outer"] < 0.03 <= within["inner"] < 0.06
    assert clock.seconds_within("read") == {}


def test_a_function_that_is_gone_is_left_out_with_a_warning(places, caplog):
    with StageClock([*places, ("m", "Work.gone", "gone")]) as clock:
        Work().inner()
    assert "'gone' is not timed" in caplog.text
    assert set(clock.seconds) == {"inner"}


@pytest.mark.parametrize("place", sorted({*LIBRARY_STAGES, *JOB_STAGES}), ids=lambda p: p[1])
def test_every_function_that_is_timed_exists(place):
    module, path, _ = place
    assert callable(find_place(module, path)[2])


def test_the_stages_of_the_library_are_all_seen(tiny_checkpoint):
    spec = LibrarySpec(
        checkpoint=str(tiny_checkpoint), engine="torch", device="cpu", threads=1, rate=0.5
    )
    library = spec.load()
    assert library.prepare(["The committee met on Tuesday. " * 30]) == {"engine": "torch"}
    times = library.time_stages()
    assert set(times.seconds) == {stage for _, _, stage in LIBRARY_STAGES}
    assert 0 < sum(times.seconds.values()) <= times.wall_s
    turn = library.run()
    assert turn.tokens > turn.kept_tokens > 0
    assert library.peak_memory() > 1 << 20
