"""The parts of an evaluation's report, whatever it is written in."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.evaluate_broken import MIN_DROP, MIN_FULL_SCORE, BrokenCount, Setting
from pipelines.evaluate_figures import Figures, RunFigure
from pipelines.evaluate_tables import (
    ABOVE,
    BELOW,
    Table,
    broken_table,
    deletion_table,
    format_rate,
    join_pairs,
    retention_table,
    score_table,
    smoothing_table,
    speed_table,
)

NO_PLOTS = (
    "No plots: matplotlib is not installed. Install it (pip install matplotlib) and run again."
)
DIFFERENCE_NOTE = (
    f"{ABOVE} and {BELOW}: the interval of the difference excludes zero. Each interval stands for "
    "itself: of many without a real difference, some exclude zero by chance."
)
SCORE_NOTE = "Scores are times 100, with their intervals; rates are tokens kept / tokens."
BROKEN_NOTE = (
    f"Questions that the full context answered with a score of at least {100 * MIN_FULL_SCORE:g}, "
    f"and the compressed one with at least {100 * MIN_DROP:g} less."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    Attributes:
        title: Heading.
        notes: Paragraphs, as plain text.
        tables: Its tables; with several, each gets its own heading.
        plots: Names of the plots that it shows, in front of the tables, by their beginning.
    """

    title: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    plots: tuple[str, ...] = ()


def build_sections(figures: Figures) -> list[Section]:
    """All that there are figures for, in the report's order, but the broken answers."""
    run = figures["run"]
    sections = []
    if figures["cells"]:
        tasks = list(dict.fromkeys(cell["task"] for cell in figures["cells"]))
        tables = [
            score_table(
                _name_task(task, run), [c for c in figures["cells"] if c["task"] == task], run
            )
            for task in tasks
        ]
        notes = (SCORE_NOTE, *((DIFFERENCE_NOTE,) if run["baseline"] else ()))
        sections.append(Section("Scores", notes, tuple(tables), ("score",)))
    several = [figure for figure in figures["groups"] if figure["num_tasks"] > 1]
    groups = list(dict.fromkeys(figure["group"] for figure in several))
    averages = tuple(
        score_table(
            f"{group}, {next(f['num_tasks'] for f in several if f['group'] == group)} tasks",
            [figure for figure in several if figure["group"] == group],
            run,
        )
        for group in groups
    )
    if figures["groups"]:
        note = "Means over the tasks of a group; a group of one task has that task's figures."
        sections.append(Section("Group averages and cost", (note,), averages, ("cost",)))
    if figures["speed"]:
        note = (
            "Each cell: speed-up against the full context; seconds of the reader on the full "
            "context → compressor + reader, per question. On: " + run["device"] + "."
        )
        sections.append(Section("Speed", (note,), (speed_table(figures["speed"]),), ("speed",)))
    return [*sections, *_build_readerless(figures)]


def _name_task(task: str, run: RunFigure) -> str:
    for figure in run["tasks"]:
        if figure["name"] == task:
            return f"{task}: {figure['metric']}, {figure['num_examples']:,} questions"
    return task


def _build_readerless(figures: Figures) -> list[Section]:
    run = figures["run"]
    sections = []
    if figures["retention"]:
        documents = max(figure["num_documents"] for figure in figures["retention"])
        note = (
            f"Facts of {documents:,} documents ({run['retention']}) that compressions still hold."
        )
        table = retention_table(figures["retention"])
        sections.append(Section("Facts kept", (note,), (table,), ("retention",)))
    if figures["deletions"]:
        note = f"Word scores against what people deleted ({run['deletions']})."
        table = deletion_table(figures["deletions"])
        sections.append(Section("Human deletions", (note,), (table,), ("deletions",)))
    if figures["smoothing"]:
        note = f"How alike layers make tokens of the two classes ({run['smoothing']})."
        sections.append(
            Section("Over-smoothing", (note,), (smoothing_table(figures),), ("smoothing",))
        )
    return sections


def describe_run(run: RunFigure) -> dict[str, str]:
    """What was run, by name."""
    interval = f"{100 * run['confidence']:g} % from {run['num_resamples']:,} bootstrap resamples"
    price = run["price_per_million_tokens"]
    settings = run["reader_settings"]
    described = {
        "reader": run["reader"] or "none",
        "reader settings": join_pairs(settings) if settings else "",
        "rates": ", ".join(format_rate(rate) for rate in run["rates"]),
        "baseline": run["baseline"] or "none",
        "tokens counted by": run["budget_tokenizer"] or "",
        "price of a million tokens": "" if price is None else f"{price:g}",
        "intervals": interval,
        "seed": str(run["seed"]),
        "device": run["device"],
        "versions": join_pairs(run["versions"]),
    }
    return {name: value for name, value in described.items() if value}


def build_broken_section(counts: Mapping[Setting, BrokenCount]) -> Section:
    """How many answers were broken; the examples follow it."""
    return Section("Answers that compression broke", (BROKEN_NOTE,), (broken_table(counts),))
