import json

import pytest

TEXT = "The committee met on Tuesday and decided that no further <action> was needed, not even 3."


@pytest.fixture
def output(moos, tmp_path, tiny_checkpoint):
    source = tmp_path / "docs.jsonl"
    records = [{"id": "first", "text": "Some words to begin with."}, {"id": "second", "text": TEXT}]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    path = tmp_path / "out"
    arguments = ["executor=local", f"checkpoint={tiny_checkpoint}", "input.id_column=id"]
    assert moos("compress", f"input.path={source}", f"output.path={path}", *arguments).code == 0
    return path


def test_a_document_is_shown_before_and_after(moos, output):
    result = moos("show", output)
    assert result.code == 0
    assert "before:\nSome words to begin with.\n" in result.out
    assert "after:\n" in result.out


def test_a_document_is_found_by_its_id(moos, output):
    assert TEXT in moos("show", output, "--id", "second").out


def test_an_id_that_is_not_there_is_exit_code_2(moos, output):
    result = moos("show", output, "--id", "third")
    assert (result.code, "no document with id 'third'" in result.err) == (2, True)


def test_a_page_escapes_the_text(moos, output, tmp_path):
    page = tmp_path / "page.html"
    assert moos("show", output, "--id", "second", "--html", page).code == 0
    written = page.read_text(encoding="utf-8")
    assert "&lt;" in written
    assert "<action>" not in written


def test_a_text_file_is_compressed_now(moos, tmp_path, tiny_checkpoint):
    path = tmp_path / "notes.txt"
    path.write_text(TEXT, encoding="utf-8")
    result = moos("show", path, "--checkpoint", tiny_checkpoint, "--rate", "0.3")
    assert result.code == 0
    assert TEXT in result.out


def test_a_place_without_a_run_is_exit_code_2(moos, tmp_path):
    result = moos("show", tmp_path)
    assert (result.code, "holds no complete run" in result.err) == (2, True)
