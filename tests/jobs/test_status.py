"""`moos status` as a person and as a scheduler meet it."""

import json

import pytest


def test_a_complete_run_is_told_in_lines_and_exits_0(moos, arguments, tmp_path):
    moos("compress", *arguments)
    result = moos("status", tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{tmp_path / 'out'}: complete (moos compress)\n")
    assert "splits       1 of 1 done" in result.out
    assert "documents    10" in result.out
    assert "quarantined  0\n" in result.out
    assert "finished" in result.out


def test_for_machines_it_is_one_json_line(moos, arguments, tmp_path):
    summary = moos("compress", *arguments).summary
    status = moos("status", tmp_path / "out", "--json").summary
    assert status["state"] == "complete"
    assert status["tokens"] == summary["tokens"]


def test_watching_ends_with_the_run(moos, arguments, tmp_path):
    moos("compress", *arguments)
    result = moos("status", tmp_path / "out", "--json", "--watch", "0.01")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1


def test_watching_follows_a_run_until_it_is_over(moos, monkeypatch, tmp_path):
    from pipelines import status as status_module

    states = ["running", "waiting", "complete"]
    codes = {"running": 4, "waiting": 5, "complete": 3}

    def read(output, watch):
        state = states.pop(0)
        return {"output": output.url, "job": "x", "state": state, "exit_code": codes[state]}

    monkeypatch.setattr(status_module, "read_status", read)
    result = moos("status", tmp_path, "--json", "--watch", "0.01")
    assert result.code == 3
    told = [json.loads(line)["state"] for line in result.out.splitlines()]
    assert told == ["running", "waiting", "complete"]


def test_an_interrupted_run_tells_its_reasons_and_exits_1(
    moos, arguments, docs, tmp_path, monkeypatch
):
    from pipelines.work import SplitWorker

    docs.write_text(docs.read_text() + "nope\n")
    check = SplitWorker._check_source

    def interrupt(self, split):
        if split.start:
            raise KeyboardInterrupt
        check(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(SplitWorker, "_check_source", interrupt)
        docs.write_text("nope\n" + docs.read_text() * 4)
        moos("compress", *arguments, "input.split_bytes=1KiB")
    result = moos("status", tmp_path / "out")
    assert result.code == 1
    assert "interrupted (moos compress)" in result.out
    assert "quarantined  2 (not_json 2)" in result.out
    assert "interrupted: interrupted by a signal" in result.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--watch", "0"], "--watch takes seconds above 0"),
        (["--storage-options", "{a"], "--storage-options is not JSON"),
        (["--storage-options", '{"nested": {"secret": "x"}}'], "secret"),
        ([], "holds no moos run"),
    ],
)
def test_wrong_use_is_exit_code_2_with_the_reason(moos, tmp_path, arguments, told):
    result = moos("status", tmp_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert told in result.err
