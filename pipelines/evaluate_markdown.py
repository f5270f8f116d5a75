"""The report of an evaluation in Markdown, with its pictures beside it."""

from collections.abc import Mapping, Sequence

from pipelines.evaluate_broken import Broken
from pipelines.evaluate_figures import Figures
from pipelines.evaluate_plot_style import PLOTS, Plot
from pipelines.evaluate_sections import NO_PLOTS, Section, describe_run
from pipelines.evaluate_tables import (
    Table,
    escape_markdown,
    format_rate,
    method_table,
    task_table,
    to_markdown,
)

MAX_CHARS = 160
"""Of a question or an answer."""


def build_markdown(
    figures: Figures,
    sections: Sequence[Section],
    plots: Sequence[Plot] | None,
    examples: Section | None,
    chosen: Sequence[Broken],
) -> str:
    """The whole file.

    Args:
        figures: All figures.
        sections: The parts that there are figures for.
        plots: The pictures; None without matplotlib.
        examples: The part about broken answers; None if there are none.
        chosen: Broken answers to show.
    """
    run = figures["run"]
    command = "\n".join(f"    {line}" for line in run["command"].splitlines())
    parts = [f"# Evaluation\n\n{command}\n\n", _facts_markdown(describe_run(run))]
    if plots is None:
        parts.append(f"{NO_PLOTS}\n\n")
    parts += [_section_markdown(section, plots or ()) for section in sections]
    if examples is not None:
        parts.append(_section_markdown(examples, ()))
        parts.append("The words that were dropped: see `report.html`.\n\n")
        parts.append(to_markdown(_broken_examples(chosen)))
    parts.append("## Settings\n\n")
    parts += [to_markdown(table) for table in (task_table(run), method_table(run)) if table.rows]
    return "".join(parts).rstrip() + "\n"


def _facts_markdown(facts: Mapping[str, str]) -> str:
    return "".join(f"- {name}: {escape_markdown(text)}\n" for name, text in facts.items()) + "\n"


def _section_markdown(section: Section, plots: Sequence[Plot]) -> str:
    notes = "".join(f"{escape_markdown(note)}\n\n" for note in section.notes)
    pictures = "".join(
        f"![{plot.title}]({PLOTS}/{plot.name}.png)\n\n{escape_markdown(plot.caption)}\n\n"
        for plot in plots
        if plot.name.startswith(section.plots)
    )
    tables = "".join(
        f"**{escape_markdown(table.title)}**\n\n{to_markdown(table)}" for table in section.tables
    )
    return f"## {section.title}\n\n{notes}{pictures}{tables}"


def _broken_examples(chosen: Sequence[Broken]) -> Table:
    rows = [
        (
            pair.row["task"],
            pair.row["method"],
            format_rate(pair.row["rate"]),
            *(
                _shorten(text)
                for text in (
                    pair.row["question"],
                    " / ".join(pair.row["answers"]),
                    pair.full["answer"],
                    pair.row["answer"],
                )
            ),
        )
        for pair in chosen
    ]
    columns = ("task", "method", "rate", "question", "accepted", "from full", "from compressed")
    return Table("Examples", columns, len(columns), rows)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} …"
