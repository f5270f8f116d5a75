"""Show what was kept and dropped of a document, in colour, or as a page.

moos show OUTPUT                   the first document of a run
moos show OUTPUT --id ID           the document with this id (needs input.id_column)
moos show notes.txt --rate 0.4     a text file, compressed now with the default checkpoint
moos show OUTPUT --html page.html  the same as a self-contained page
"""

import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import CommandParser, run_reported
from moos.errors import ConfigError

Shown = tuple[str, str, list[tuple[int, int]], int, int, str]
"""Title, original text, kept spans, how many tokens or words there are and were kept, and which."""


def read_output(path: str, wanted_id: str | None) -> Shown:
    """A document of a run's output.

    Raises:
        ConfigError: There is no complete run, no such id, or the run has no id column.
    """
    from moos.storage import Storage
    from pipelines.outputs import iterate_rows, read_manifest

    output = Storage(path)
    manifest = read_manifest(output)
    is_labelled = manifest["signature"].get("job") == "label"
    text_column = "text" if is_labelled else manifest["signature"]["input.text_column"]
    id_column = "id" if is_labelled else manifest["signature"]["input.id_column"]
    if wanted_id is not None and id_column is None:
        raise ConfigError("--id needs a run made with input.id_column set")
    for entry in manifest["splits"]:
        if entry["data"] is None:
            continue
        name = entry["data"]["name"]
        for number, row in enumerate(iterate_rows(name, output.get(name))):
            if wanted_id is None or str(row[id_column]) == wanted_id:
                title = f"{name} row {number}"
                if is_labelled:
                    words = row["words"]
                    kept = [(w["start"], w["end"]) for w in words if (w["label"] or 0.0) >= 0.5]
                    spans = _join_words(row["text"], kept)
                    return title, row["text"], spans, len(words), len(kept), "words"
                spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
                counts = (row["num_tokens"], row["num_kept_tokens"])
                return title, row[text_column], spans, *counts, "tokens"
    raise ConfigError(f"{path} holds no document with id {wanted_id!r}")


def _join_words(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of words, those with nothing but white space between them as one."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def read_text(path: Path, rate: float, checkpoint: str) -> Shown:
    """A text file, compressed now.

    Raises:
        ConfigError: The file cannot be read as UTF-8 text.
    """
    from moos import Compressor

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error
    document = Compressor.load(checkpoint).compress(text, rate=rate)
    counts = (document.num_tokens, document.num_kept_tokens)
    return str(path), text, document.spans, *counts, "tokens"


def print_colour(shown: Shown, limit: int) -> None:
    """Dropped words dim and struck through; without a terminal, before and after."""
    from rich.console import Console
    from rich.text import Text

    from moos.rendering import render, split_kept

    title, text, spans, tokens, kept, unit = shown
    console = Console(highlight=False)
    rate = kept / tokens if tokens else 1.0
    console.print(Text(f"{title}: {kept:,} of {tokens:,} {unit} kept, rate {rate:.3f}", "cyan"))
    if not console.is_terminal:
        shown_spans = [(a, min(b, limit)) for a, b in spans if a < limit]
        print(f"before:\n{text[:limit]}\n\nafter:\n{render(text, shown_spans)}\n")
        return
    line = Text()
    left = limit
    for is_kept, part in split_kept(text, spans):
        line.append(part[:left], style="bold" if is_kept else "dim strike")
        left -= len(part)
        if left <= 0:
            line.append(" ...", style="dim")
            break
    console.print(line)


def write_html(shown: Shown, path: Path) -> None:
    """The same as a page."""
    from pipelines.html_page import build_page
    from pipelines.report import STYLE, document_html

    title, text, spans, tokens, kept, unit = shown
    body = (
        f"<h1>{html.escape(title)}</h1>"
        f'<p class="soft">{kept:,} of {tokens:,} {unit} kept</p>{document_html(text, spans)}'
    )
    path.write_text(build_page(title, body, style=STYLE), encoding="utf-8")


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser("moos show", __doc__)
    parser.add_argument("source", help="output.path of a run, or a text file")
    parser.add_argument("--id", help="id of the document, in the run's input.id_column")
    parser.add_argument("--rate", type=float, default=0.5, help="rate for a text file")
    parser.add_argument("--checkpoint", default="default", help="checkpoint for a text file")
    parser.add_argument("--chars", type=int, default=4000, help="characters to show at most")
    parser.add_argument("--html", type=Path, help="write a page instead")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = build_parser().read(argv)

    def run() -> dict[str, Any]:
        source = Path(options.source)
        shown = (
            read_text(source, options.rate, options.checkpoint)
            if source.is_file()
            else read_output(options.source, options.id)
        )
        if options.html is not None:
            write_html(shown, options.html)
        else:
            print_colour(shown, options.chars)
        return {}

    return run_reported(run)


if __name__ == "__main__":
    sys.exit(main())
