"""Which documents leave a group when a stage fails, and that the others do not notice."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.errors import ConfigError, DataError, ModelError, MoosError
from moos.pieces import RawPiece
from moos.record_parser import RecordParser
from pipelines.groups import advance, begin_group, run_isolated


class Stage:
    """A stage that raises over some items, and says what it was given.

    A result names the whole list that it was computed with, so that it tells what company an item
    had. `together` are sets of items that fail where all of a set are there.
    """

    def __init__(self, failing=(), together=(), refused=()):
        self.failing, self.refused = set(failing), set(refused)
        self.together = [set(items) for items in together]
        self.calls = []

    def __call__(self, items):
        self.calls.append(list(items))
        if bad := self.failing & set(items):
            raise RuntimeError(f"item {min(bad)} broke it")
        if any(group <= set(items) for group in self.together):
            raise MemoryError("too much at once")
        company = tuple(items)
        return [
            DataError(f"refused {item}") if item in self.refused else (item, company)
            for item in items
        ]


def sound():
    """A probe that finds nothing wrong."""


def broken():
    raise RuntimeError("CUDA error")


NUMBERS = st.lists(st.integers(0, 99), unique=True, max_size=25)
SOME = st.sets(st.integers(0, 99))


@given(NUMBERS, SOME, SOME)
def test_what_fails_alone_leaves_and_the_others_are_as_if_it_had_never_been_there(
    items, failing, refused
):
    stage = Stage(failing, refused=refused)
    results = run_isolated(stage, items, sound)
    others = [item for item in items if item not in failing]
    expected = dict(zip(others, Stage(refused=refused)(others), strict=True))
    assert len(results) == len(items)
    for item, result in zip(items, results, strict=True):
        if item in failing:
            assert isinstance(result, DataError)
            assert f"item {item} broke it" in str(result)
            assert "RuntimeError" in str(result)
        elif item in refused:
            assert str(result) == f"refused {item}"
        else:
            assert result == expected[item]
    if not failing & set(items):
        assert stage.calls == [items]


@given(NUMBERS, SOME, st.lists(st.sets(st.integers(0, 99), min_size=2, max_size=4), max_size=6))
def test_what_fails_only_together_is_done_in_parts_and_nothing_leaves_for_it(
    items, failing, together
):
    stage = Stage(failing, together)
    results = run_isolated(stage, items, sound)
    assert [isinstance(result, DataError) for result in results] == [i in failing for i in items]
    for item, result in zip(items, results, strict=True):
        if item not in failing:
            assert result[0] == item
            assert set(result[1]) <= set(items) - failing


@given(NUMBERS, SOME, st.lists(st.sets(st.integers(0, 99), min_size=2, max_size=4), max_size=6))
def test_the_results_are_the_same_however_often_they_are_asked_for(items, failing, together):
    first, again = (run_isolated(Stage(failing, together), items, sound) for _ in range(2))
    assert list(map(repr, first)) == list(map(repr, again))


@pytest.mark.parametrize("num_items", [1, 2, 7, 64])
def test_a_stage_that_fails_on_everything_is_nobodys_fault(num_items):
    items = list(range(num_items))
    with pytest.raises(MoosError, match="fails on every text, a harmless one too") as caught:
        run_isolated(Stage(items), items, broken)
    assert not isinstance(caught.value, DataError)
    assert "RuntimeError: CUDA error" in str(caught.value)
    assert "item 0 broke it" in str(caught.value)
    assert "nothing was quarantined for it" in str(caught.value)


@given(NUMBERS.filter(len), SOME)
def test_one_failing_item_asks_the_probe_and_none_does_not(items, failing):
    asked = []
    run_isolated(Stage(failing), items, lambda: asked.append(1))
    assert bool(asked) == bool(failing & set(items))


@pytest.mark.parametrize("error", [MoosError("m"), ConfigError("c"), ModelError("m")], ids=repr)
@pytest.mark.parametrize("call", [0, 1, 2, 3])
def test_an_error_that_is_no_documents_fault_passes_through_whenever_it_comes(error, call):
    """In the first call, in the search for the items at fault, or after it."""
    stage = Stage(failing={1})

    def fail_later(items):
        if len(stage.calls) == call:
            raise error
        return stage(items)

    with pytest.raises(MoosError) as caught:
        run_isolated(fail_later, [0, 1], sound)
    assert caught.value is error


def test_an_interrupt_passes_through():
    def interrupted(items):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated(interrupted, [1, 2], sound)


def test_a_data_error_that_is_raised_is_the_items_own_reason():
    def stage(items):
        if 3 in items:
            raise DataError("pattern takes too long")
        return items

    results = run_isolated(stage, [1, 2, 3, 4], sound)
    assert [str(result) for result in results] == ["1", "2", "pattern takes too long", "4"]


def test_no_items_are_no_failure():
    assert list(run_isolated(Stage(), [], sound)) == []


def test_a_failing_item_costs_one_call_for_each_item_and_two_more():
    """An item may hang its process until a time limit: it is asked about alone only once."""
    stage = Stage(failing={7})
    run_isolated(stage, list(range(50)), sound)
    assert len(stage.calls) == 52
    assert sum(7 in call for call in stage.calls) == 2


def records(texts, ids=True):
    lines = b"".join(
        json.dumps({"id": f"d{i}", "text": text}).encode() + b"\n" for i, text in enumerate(texts)
    )
    return RecordParser("text", "id", 1000).parse(RawPiece(0, len(lines), lines))


def test_a_group_begins_with_its_texts_and_what_could_not_be_read():
    group = begin_group(records(["a", None, "c"]))
    assert (group.rows, group.items) == ([0, 1], ["a", "c"])
    assert [bad.id for bad in group.bad] == ["d1"]


def test_a_document_that_leaves_is_named_and_raw_and_the_rows_go_on():
    parsed = records(["a", "b", None, "d", "e"])
    positions = parsed.positions

    def fail_on(bad):
        def stage(items):
            if bad in items:
                raise ValueError(f"no {bad}")
            return [item.upper() for item in items]

        return stage

    group = advance(begin_group(parsed), fail_on("b"), sound, "id")
    assert (group.rows, group.items) == ([0, 2, 3], ["A", "D", "E"])
    group = advance(group, fail_on("E"), sound, "id")
    assert (group.rows, group.items) == ([0, 2], ["A", "D"])
    found = {bad.id: bad for bad in group.bad}
    assert found.keys() == {"d1", "d2", "d4"}
    assert found["d1"].reason == "processing raised ValueError: no b"
    assert found["d4"].reason == "processing raised ValueError: no E"
    assert (found["d1"].position, found["d4"].position) == (positions[1], positions[3])
    assert json.loads(found["d4"].raw) == {"id": "d4", "text": "e"}
    assert group.records is parsed


@given(st.lists(st.sampled_from([*"abcd", None]), max_size=12), st.sets(st.sampled_from("abcd")))
def test_every_record_of_a_piece_is_a_row_or_bad_and_never_both(texts, failing):
    parsed = records(texts)

    def stage(items):
        if failing & set(items):
            raise ValueError("no")
        return items

    before = begin_group(parsed)
    num_bad = len(before.bad)
    group = advance(before, stage, sound, "id")
    kept = [parsed.positions[row] for row in group.rows]
    gone = [bad.position for bad in group.bad]
    everything = [*parsed.positions, *(bad.position for bad in parsed.bad)]
    assert sorted([*kept, *gone]) == sorted(everything)
    assert group.rows == sorted(group.rows)
    assert group.items == [parsed.texts[row] for row in group.rows]
    assert len(before.bad) == num_bad  # what is given is not altered
