"""What a run refuses before it starts, and how files become one schema."""

import gzip
import io
import itertools
import logging
import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos import source_files
from moos.errors import ConfigError
from moos.schema import EXTRA_JSON, RESERVED_COLUMNS
from moos.splits import WHOLE_FILE
from pipelines.compress import prepare_compress
from pipelines.plan import plan_run


@pytest.fixture
def plan(config, tmp_path):
    """`plan(input, *overrides)`: the plan of a run into `tmp_path / "out"`."""

    def make(source, *overrides, fixed=None, earlier=()):
        return plan_run(config(source, tmp_path / "out", *overrides), fixed, earlier)

    return make


def test_a_missing_input_is_refused(plan, tmp_path):
    with pytest.raises(ConfigError, match=r"input\.path.*nothing\.jsonl.*names no file"):
        plan(tmp_path / "nothing.jsonl")


def test_a_glob_without_matches_is_refused(plan, tmp_path):
    with pytest.raises(ConfigError, match="names no file"):
        plan(tmp_path / "*.jsonl")


def test_an_empty_directory_is_refused(plan, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match=r"input\.path"):
        plan(tmp_path / "in")


def test_a_directory_without_readable_files_is_refused(plan, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"holds no \.parquet, \.jsonl.*1 other files"):
        plan(tmp_path / "in")


def test_files_of_unknown_extension_are_left_out_with_a_warning(plan, write_jsonl, caplog):
    path = write_jsonl("in/a.jsonl", [{"text": "a"}])
    (path.parent / "notes.csv").write_text("hello")
    with caplog.at_level(logging.WARNING):
        made = plan(path.parent)
    assert made.num_files == 1
    assert "1 files are not read, by their extension: notes.csv" in caplog.text


def test_hidden_and_underscore_names_are_no_input(plan, write_jsonl, tmp_path):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    for name in (".hidden.jsonl", "_SUCCESS", "_run/b.jsonl", ".git/c.jsonl", "sub/_d.jsonl"):
        write_jsonl(f"in/{name}", [{"text": "b"}])
    write_jsonl("in/sub/e.jsonl", [{"text": "e"}])
    made = plan(tmp_path / "in")
    assert [split.relative for split in made.splits] == ["a.jsonl", "sub/e.jsonl"]


def test_a_file_named_outright_is_taken_whatever_its_name(plan, write_jsonl):
    made = plan(write_jsonl("in/_a.jsonl", [{"text": "a"}]))
    assert [split.relative for split in made.splits] == ["_a.jsonl"]


@pytest.mark.parametrize("name", ["a[1].jsonl", "a*.jsonl", "what?.jsonl"])
def test_a_file_whose_name_looks_like_a_glob_is_that_file(plan, write_jsonl, name):
    path = write_jsonl(f"in/{name}", [{"text": "a"}])
    write_jsonl("in/a1.jsonl", [{"text": "b"}])
    assert [split.relative for split in plan(path).splits] == [name]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_directory_whose_name_looks_like_a_glob_is_that_directory(plan, write_jsonl, slash):
    path = write_jsonl("in/[x]/a.jsonl", [{"text": "a"}])
    write_jsonl("in/x/b.jsonl", [{"text": "b"}])
    write_jsonl("in/c.jsonl", [{"text": "c"}])
    assert [s.relative for s in plan(f"{path.parent}{slash}").splits] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl", "z/d.jsonl"]),
        ("x/*.jsonl", ["b.jsonl"]),
        ("*/?.jsonl", ["x/b.jsonl", "z/d.jsonl"]),
        ("[xz]/*", ["x/b.jsonl", "z/d.jsonl"]),
    ],
)
def test_a_glob_names_files_below_its_fixed_part(plan, write_jsonl, tmp_path, pattern, found):
    for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl", "z/d.jsonl"):
        write_jsonl(f"in/{name}", [{"text": "a"}])
    assert [split.relative for split in plan(tmp_path / "in" / pattern).splits] == found


def test_several_inputs_are_one_run(plan, write_jsonl):
    first = write_jsonl("in/a.jsonl", [{"text": "a"}])
    second = write_jsonl("more/b.jsonl", [{"text": "b"}])
    made = plan(f"[{second}, {first.parent}]")
    assert [split.relative for split in made.splits] == ["a.jsonl", "b.jsonl"]


def test_two_files_of_one_relative_path_are_refused(plan, write_jsonl):
    first = write_jsonl("in/a.jsonl", [{"text": "a"}])
    second = write_jsonl("more/a.jsonl", [{"text": "b"}])
    with pytest.raises(ConfigError, match=r"both 'a\.jsonl'"):
        plan(f"[{first}, {second}]")


@pytest.mark.parametrize("inside", ["", "data", "deep/er"])
def test_an_input_under_the_output_is_refused(plan, write_jsonl, tmp_path, inside):
    path = write_jsonl(f"out/{inside}/a.jsonl", [{"text": "a"}])
    for source in (path, path.parent, path.parent / "*.jsonl"):
        with pytest.raises(ConfigError, match=r"lies under output\.path"):
            plan(source)


def test_an_output_under_the_input_is_no_input(compress, write_jsonl, read_rows, tmp_path):
    path = write_jsonl("in/a.jsonl", [{"text": "a b c"}])
    for _ in range(2):
        summary = compress(path.parent, tmp_path / "in/out", "output.format=jsonl")
        assert (summary["documents"], summary["splits"]) == (1, 1)


def test_an_output_beside_the_input_with_a_longer_name_is_fine(config, write_jsonl, tmp_path):
    path = write_jsonl("docs/a.jsonl", [{"text": "a"}])
    assert plan_run(config(path.parent, tmp_path / "docs-out")).num_files == 1
    assert plan_run(config(path.parent, tmp_path / "doc")).num_files == 1


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_output_of_a_run_is_refused_and_its_data_is_not(
    compress, config, write_jsonl, tmp_path, slash
):
    source, made = write_jsonl("a.jsonl", [{"text": "a b"}]), tmp_path / "made"
    compress(source, made, "output.format=jsonl")
    with pytest.raises(ConfigError) as caught:
        plan_run(config(f"{made}{slash}", tmp_path / "out"))
    assert str(caught.value) == (
        f"input.path='{made}{slash}' is the output of a run; its rows are in {made}/data/"
    )
    assert plan_run(config(made / "data", tmp_path / "out"), reserved=()).num_files == 1


def test_jsonl_without_the_text_column_is_refused(plan, write_jsonl):
    with pytest.raises(ConfigError, match=r"no sampled record has the key 'text', only id, body"):
        plan(write_jsonl("a.jsonl", [{"id": 1, "body": "a"}] * 3))


def test_jsonl_where_only_some_records_have_the_text_is_planned(plan, write_jsonl):
    assert plan(write_jsonl("a.jsonl", [{"id": 1}, {"text": "a"}])).splits


def test_a_jsonl_file_without_any_good_line_is_planned(plan, write_jsonl):
    made = plan(write_jsonl("a.jsonl", [b"nope", b"[1]"]))
    assert made.input_schema.names == ["text", EXTRA_JSON]


def test_parquet_without_the_text_column_is_refused(plan, write_parquet):
    with pytest.raises(ConfigError, match=r"a\.parquet has no column 'text', only body, id"):
        plan(write_parquet("a.parquet", {"body": ["a"], "id": [1]}))


@pytest.mark.parametrize(
    "column", [pa.array([1]), pa.array([b"a"]), pa.array([["a"]]), pa.array([{"a": "b"}])], ids=str
)
def test_a_text_column_of_another_type_is_refused(plan, write_parquet, column):
    with pytest.raises(ConfigError, match=r"input\.text_column='text' is .* must hold strings"):
        plan(write_parquet("a.parquet", {"text": column}))


@pytest.mark.parametrize("name", RESERVED_COLUMNS)
def test_an_input_column_named_like_ours_is_refused(plan, write_parquet, write_jsonl, name):
    with pytest.raises(ConfigError, match=f"{name!r} is named like one that moos adds"):
        plan(write_parquet("a.parquet", {"text": ["a"], name: ["b"]}))
    with pytest.raises(ConfigError, match=f"{name!r} is named like one that moos adds"):
        plan(write_jsonl("a.jsonl", [{"text": "a"}, {"text": "b", name: 1}]))


def test_duplicate_parquet_columns_are_refused(plan, write_parquet):
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "x", "x"])
    with pytest.raises(ConfigError, match="'x' occurs twice"):
        plan(write_parquet("a.parquet", table))


def test_both_kinds_of_file_in_one_run_are_refused(plan, write_jsonl, write_parquet, tmp_path):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    write_parquet("in/b.parquet", {"text": ["a"]})
    with pytest.raises(ConfigError, match=r"both JSONL and Parquet \(a\.jsonl, b\.parquet\)"):
        plan(tmp_path / "in")


def test_parquet_files_of_conflicting_types_are_refused(plan, write_parquet, tmp_path):
    write_parquet("in/a.parquet", {"text": ["a"], "n": [1]})
    write_parquet("in/b.parquet", {"text": ["a"], "n": ["1"]})
    with pytest.raises(ConfigError, match=r"'n' is string in b\.parquet but int64 in a\.parquet"):
        plan(tmp_path / "in")


def test_a_column_that_a_file_lacks_is_part_of_the_schema(plan, write_parquet, tmp_path):
    write_parquet("in/a.parquet", {"text": ["a"], "n": [1]})
    write_parquet("in/b.parquet", {"m": [1.5], "text": ["a"]})
    assert plan(tmp_path / "in").input_schema.names == ["text", "n", "m"]


def test_a_new_parquet_column_against_a_settled_schema_is_refused(plan, write_parquet):
    fixed = pa.schema([("text", pa.string())])
    path = write_parquet("a.parquet", {"text": ["a"], "n": [1]})
    with pytest.raises(ConfigError, match=r"new column 'n'.*another output\.path"):
        plan(path, fixed=fixed)


def test_a_settled_schema_stays_for_jsonl(plan, write_jsonl):
    fixed = pa.schema([("text", pa.string()), (EXTRA_JSON, pa.string())])
    assert plan(write_jsonl("a.jsonl", [{"text": "a", "n": 1}]), fixed=fixed).input_schema == fixed


def test_an_id_column_that_is_not_there_is_refused(config, write_jsonl, tmp_path):
    path = write_jsonl("a.jsonl", [{"text": "a", "doc": "b"}])
    with pytest.raises(ConfigError, match=r"input\.id_column='id' is none of.*text, doc"):
        prepare_compress(config(path, tmp_path / "out", "input.id_column=id"))


def test_a_damaged_parquet_file_is_planned_for_its_worker_to_report(plan, write_parquet, caplog):
    path = write_parquet("in/a.parquet", {"text": ["a"], "n": [1]})
    (path.parent / "b.parquet").write_bytes(path.read_bytes()[:-9])
    made = plan(path.parent)
    assert [split.relative for split in made.splits] == ["a.parquet", "b.parquet"]
    assert "b.parquet is damaged" in caplog.text


def test_a_compressed_parquet_file_has_its_columns_in_the_schema(plan, tmp_path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), sink)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(sink.getvalue()))
    assert plan(tmp_path / "a.parquet.gz").input_schema.names == ["text", "n"]


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_a_parquet_file_that_unpacks_to_too_much_is_damaged(
    plan, tmp_path, caplog, monkeypatch, extension
):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), sink)
    # The limit reached, and one byte more; both of far fewer bytes than they unpack to.
    monkeypatch.setattr(source_files, "MAX_UNPACKED_BYTES", 1 << 20)
    for size in (1 << 20, (1 << 20) + 1):
        content = sink.getvalue()[:4] + bytes(size - len(sink.getvalue())) + sink.getvalue()[4:]
        packed = gzip.compress(content)
        if extension == "zst":
            packed = pa.compress(content, codec="zstd", asbytes=True)
        assert len(packed) < 10_000
        path = tmp_path / f"a{size}.parquet.{extension}"
        path.write_bytes(packed)
        with open(path, "rb", buffering=0) as file:
            watched = source_files.WatchedFile(file)
            if size == 1 << 20:
                assert len(source_files.unpack(watched, extension).getvalue()) == size
                continue
            with (
                pytest.raises(
                    source_files.DamagedFileError,
                    match=rf"its {len(packed)} bytes unpack to more than 1048576, .* without \.",
                ),
                source_files.name_damage(watched, path.name),
            ):
                source_files.unpack(watched, extension)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    assert plan(tmp_path).input_schema.names == ["text"]
    assert "bytes unpack to more than 1048576," in caplog.text


def test_a_compressed_parquet_file_without_the_text_column_is_refused(plan, tmp_path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"body": ["a"]}), sink)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(sink.getvalue()))
    with pytest.raises(ConfigError, match="no column 'text'"):
        plan(tmp_path / "a.parquet.gz")


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_a_compressed_file_is_planned_like_its_content(plan, write_jsonl, documents, extension):
    plain = plan(write_jsonl("a.jsonl", documents(60)), "input.split_bytes=1KiB")
    packed = plan(write_jsonl(f"a.jsonl.{extension}", documents(60)), "input.split_bytes=1KiB")
    bounds = [[(s.start, s.stop, s.size) for s in made.splits] for made in (plain, packed)]
    assert bounds[0] == bounds[1]
    assert len(bounds[0]) > 3
    assert packed.input_schema == plain.input_schema


@pytest.mark.parametrize("extension", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["truncated", "no archive"])
def test_a_damaged_compressed_file_is_one_split_for_its_worker_to_report(
    plan, write_jsonl, documents, caplog, extension, damage
):
    sound = write_jsonl(f"in/a.jsonl.{extension}", documents(5))
    path = write_jsonl(f"in/b.jsonl.{extension}", documents(900))
    path.write_bytes(path.read_bytes()[:-20] if damage == "truncated" else b"hello, this is text")
    made = plan(sound.parent, "input.split_bytes=1KiB")
    (split,) = [split for split in made.splits if split.path == str(path)]
    assert (split.start, split.stop) == (0, WHOLE_FILE)
    assert f"b.jsonl.{extension} is damaged" in caplog.text


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_a_compressed_file_of_nothing_is_planned_as_no_split(plan, write_jsonl, extension):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    path = write_jsonl(f"in/b.jsonl.{extension}", [])
    assert [split.relative for split in plan(path.parent).splits] == ["a.jsonl"]


def test_what_was_measured_of_a_compressed_file_is_not_measured_again(
    plan, write_jsonl, documents, caplog
):
    path = write_jsonl("a.jsonl.gz", documents(60))
    small = "input.split_bytes=1KiB"
    first = plan(path, small)
    status = path.stat()
    # Nothing can be measured here any more, and nobody could tell from outside.
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    fixed = first.input_schema
    assert plan(path, small, fixed=fixed, earlier=first.splits).splits == first.splits
    assert "damaged" not in caplog.text
    os.utime(path, (1, 1))
    (split,) = plan(path, small, fixed=fixed, earlier=first.splits).splits
    assert split.stop == WHOLE_FILE


def test_a_compressed_file_that_changed_is_measured_again(plan, write_jsonl, documents):
    small = "input.split_bytes=1KiB"
    first = plan(write_jsonl("a.jsonl.gz", documents(60)), small)
    path = write_jsonl("a.jsonl.gz", documents(90))
    again = plan(path, small, earlier=first.splits)
    assert again.splits == plan(path, small).splits
    assert len(again.splits) > len(first.splits)


def test_a_large_row_group_is_planned_as_ranges_of_rows(plan, write_parquet):
    columns = {"text": [f"text number {i} " * 9 for i in range(300)], "blob": [b"x" * 900] * 300}
    made = plan(write_parquet("a.parquet", columns, row_group_size=300), "input.split_bytes=4KiB")
    assert len(made.splits) > 5
    bounds = [(split.start, split.stop) for split in made.splits]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 300
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))


def test_a_plan_reads_from_any_filesystem(plan):
    fsspec.filesystem("memory").pipe_file("/plan/in/a.jsonl", b'{"text": "a"}\n' * 9)
    made = plan("memory://plan/in")
    assert [split.relative for split in made.splits] == ["a.jsonl"]


def test_planning_writes_nothing(plan, write_jsonl, tmp_path):
    plan(write_jsonl("a.jsonl", [{"text": "a"}]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


@pytest.mark.parametrize("key", ["\ud800", "", "a.b", "a\x00b"])
def test_a_key_of_any_characters_can_be_planned(plan, write_jsonl, key):
    assert "text" in plan(write_jsonl("a.jsonl", [{"text": "a", key: 1}])).input_schema.names
