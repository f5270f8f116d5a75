"""What a training run's processes tell is progress; what they told last is what it waits for."""

import logging
import threading

import pytest
from fsspec.implementations.local import LocalFileSystem

from moos.config import load_config
from moos.training import Progress
from pipelines.stall import StalledError, StallGuard
from pipelines.train import run_train
from pipelines.train_callback import StoredStates
from pipelines.train_config import TrainConfig
from pipelines.train_progress import BoardWatch, ProgressBoard, Teller, Wanted

WANTED = Wanted("training", "worker", 3, 2.0, 1)
PROGRESS = Progress(step=7, num_steps=40, loss=0.5, tokens_per_second=10.0, eta_s=3.0)


class Near:
    """A board that is called as an actor is, in this process."""

    def __init__(self):
        self.board = ProgressBoard()

    def __getattr__(self, name):
        method = getattr(self.board, name)
        return type("Method", (), {"remote": staticmethod(method)})


@pytest.fixture
def board():
    return Near()


def test_what_each_worker_did_last_and_which_have_not_begun_is_told(board, monkeypatch):
    monkeypatch.setattr(BoardWatch, "look", lambda self: ["the cluster: 0 of 4 CPUs free"])
    first = Teller(board, "worker 0")
    first("gets its data and its model", at_once=True)
    first("at step 7 of 40", PROGRESS, at_once=True)
    Teller(board, "worker 1")("at step 6 of 40")
    StoredStates(board).after_report(None, [{"step": 4}, {"step": 4}], object())
    watch = BoardWatch(WANTED)
    watch.take(board.board.read())
    with pytest.raises(StalledError) as raised, StallGuard(watch, 0.2):
        threading.Event().wait(60)
    assert (
        "training has made no progress for 0 s, over stall_timeout_s=0.2. The run waited for: "
        "worker 0: at step 7 of 40, 0 s ago; worker 1: at step 6 of 40, 0 s ago; "
        "1 of 3 worker(s) to start; each takes 2 CPUs and 1 GPUs; "
        "the latest stored state is of step 4; the cluster: 0 of 4 CPUs free."
    ) in str(raised.value)
    assert board.board.read()["progress"]["step"] == 7


@pytest.mark.parametrize(
    "tell",
    [
        lambda board: Teller(board, "worker 0")("at step 7 of 40", PROGRESS),
        lambda board: StoredStates(board).after_report(None, [{"step": 4}], object()),
    ],
    ids=["a step", "a stored state"],
)
def test_any_news_is_progress_the_same_twice_too(board, tell):
    watch = BoardWatch(WANTED)
    for _ in range(2):
        watch.progressed_at = -1.0
        watch.take(board.board.read())
        assert watch.progressed_at == -1.0
        tell(board)
        watch.take(board.board.read())
        assert watch.progressed_at > 0


def test_a_report_without_a_state_stores_none(board):
    StoredStates(board).after_report(None, [{"step": 4}], None)
    assert board.board.read()["stored_step"] is None


def test_a_board_that_begins_anew_is_news(board):
    watch = BoardWatch(WANTED)
    for _ in range(3):
        board.board.note_stored(1)
    watch.take(board.board.read())
    watch.progressed_at = -1.0
    board.board = ProgressBoard()
    board.board.note_stored(1)
    watch.take(board.board.read())
    assert watch.progressed_at > 0


def test_a_worker_tells_at_most_once_a_second_unless_it_matters(board):
    tell = Teller(board, "worker 0")
    for step in range(100):
        tell(f"at step {step} of 100")
    assert board.board.read()["num_news"] == 1
    tell("is done", at_once=True)
    assert board.board.read()["doing"]["worker 0"][0] == "is done"


def test_labels_that_are_never_read_end_training_before_it_needs_ray(
    labelled_jsonl, training_base, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(LocalFileSystem, "cat_file", lambda *args: threading.Event().wait(60))
    overrides = {
        "data.path": labelled_jsonl,
        "training.base": training_base,
        "training.base_name": "tiny",
        "output.path": tmp_path / "out",
        "stall_timeout_s": 0.4,
    }
    config = load_config(TrainConfig, None, [f"{key}={value}" for key, value in overrides.items()])
    match = r"planning has made no progress .* waited for: read \S*/manifest\.json, for"
    with (
        caplog.at_level(logging.WARNING, logger="pipelines"),
        pytest.raises(StalledError, match=match),
    ):
        run_train(config)
    assert "the run gives up after 0.4 s (stall_timeout_s)" in caplog.text


@pytest.mark.parametrize(("given", "limit"), [("auto", 1800), ("7", 7), ("null", None)])
def test_training_has_a_limit_of_its_own(given, limit):
    overrides = ("data.path=in", "output.path=out", "training.base=x", "training.base_name=x")
    config = load_config(TrainConfig, None, [*overrides, f"stall_timeout_s={given}"])
    assert config.stall_limit_s == limit
