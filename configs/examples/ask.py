"""Ask a compressed knowledge base, and see the passages of the originals that the answer rests on.

    pip install duckdb
    python configs/examples/ask.py "Why was outgoing mail delayed?"

The demo corpus is compressed with chunks, and each chunk is indexed in DuckDB (one file, in
process) by the passage of the original that it was cut from: the whole passage is searched, its
compressed form is read. The question is looked up, and for each hit three things are shown: what a
language model would read, the passage that it rests on, and where that stands. Further arguments
are settings of `moos compress`: `input.path=docs.jsonl input.id_column=id selection.rate=0.4`.

Two things are simple here so that nothing is downloaded. The vectors count words, weighted by how
rare they are: they find words, not meanings; put your embedding model into `WordVectors.embed`. And
DuckDB compares the question with every chunk, which is exact and quick up to some 100,000 chunks;
beyond that take its `vss` extension or another store: what goes into it stays the same.
"""

import argparse
import json
import math
import re
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

HERE = Path(__file__).resolve().parent
DEFAULTS = (
    f"input.path={HERE.parent / 'demo' / 'articles.jsonl'}",
    "input.id_column=id",
    "output.path=out/ask",
    "output.chunks.tokens=64",
    "executor=local",
)
DIMENSIONS = 4096
CONTEXT_CHARS = 120


class WordVectors:
    """Vectors of texts: words hashed into 4096 places, weighted by rarity, of length 1."""

    def __init__(self, texts: list[str]) -> None:
        """Count in how many of the texts each place occurs."""
        found = Counter(place for text in texts for place in set(self._places(text)))
        self._weights = np.array(
            [math.log((1 + len(texts)) / (1 + found[place])) for place in range(DIMENSIONS)]
        )

    def embed(self, text: str) -> list[float]:
        """The vector of one text."""
        counts = np.bincount(np.array(self._places(text), dtype=int), minlength=DIMENSIONS)
        vector = np.log1p(counts) * self._weights
        length = np.linalg.norm(vector)
        return [float(value) for value in vector / length] if length else vector.tolist()

    @staticmethod
    def _places(text: str) -> list[int]:
        # The first six letters: `delay` and `delays` fall together often enough.
        words = re.findall(r"\w+", text.lower())
        return [zlib.crc32(word[:6].encode()) % DIMENSIONS for word in words]


def build_index(output: Path, store: Path) -> tuple[duckdb.DuckDBPyConnection, WordVectors]:
    """A table of all chunks of a run with the vectors of their passages, in a DuckDB file."""
    manifest = json.loads((output / "manifest.json").read_text())
    files = [str(output / part["data"]["name"]) for part in manifest["splits"] if part["data"]]
    connection = duckdb.connect(str(store))
    rows = connection.sql(
        """SELECT id, original, c.index AS place, c.text AS chunk, c.start AS start, c.end AS stop,
                  c.num_tokens AS num_tokens
           FROM (SELECT id, text AS original, unnest(chunks) AS c FROM read_parquet(?))""",
        params=[files],
    ).to_arrow_table()
    texts = [row["original"][row["start"] : row["stop"]] for row in rows.to_pylist()]
    vectors = WordVectors(texts)
    embedded = pa.array([vectors.embed(text) for text in texts], pa.list_(pa.float32(), DIMENSIONS))
    connection.register("rows", rows.append_column("vector", embedded))
    connection.execute("CREATE OR REPLACE TABLE chunks AS SELECT * FROM rows")
    connection.unregister("rows")
    return connection, vectors


def look_up(
    connection: duckdb.DuckDBPyConnection, vectors: WordVectors, question: str, count: int = 3
) -> list[dict[str, Any]]:
    """The chunks whose passages are nearest to a question, best first, with their documents."""
    found = connection.sql(
        f"""SELECT * EXCLUDE (vector),
                   array_inner_product(vector, ?::FLOAT[{DIMENSIONS}]) AS similarity
            FROM chunks ORDER BY similarity DESC, id, place LIMIT ?""",
        params=[vectors.embed(question), count],
    )
    hits: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    return hits


def cite(hit: dict[str, Any]) -> str:
    """The passage of the original that a chunk was cut from, with a little of what is around it."""
    text, start, stop = hit["original"], hit["start"], hit["stop"]
    before = text[max(0, start - CONTEXT_CHARS) : start]
    after = text[stop : stop + CONTEXT_CHARS]
    return f"{before}>>>{text[start:stop]}<<<{after}"


def main(argv: list[str] | None = None) -> int:
    """Compress, index, ask, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args(argv)
    config = load_config(CompressConfig, None, [*DEFAULTS, *arguments.overrides])
    run_compress(config)
    output = Path(config.output.path)
    connection, vectors = build_index(output, output.with_suffix(".duckdb"))
    for number, hit in enumerate(look_up(connection, vectors, arguments.question), 1):
        print(f"[{number}] {hit['id']}, characters {hit['start']} to {hit['stop']}", end="")
        print(f" (similarity {hit['similarity']:.2f}; {hit['num_tokens']} tokens)")
        print(f"\nwhat a language model reads:\n{hit['chunk'].strip()}")
        print(f"\nwhat it rests on, between >>> and <<<:\n{cite(hit)}\n")
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
