"""What a person wants to see of an evaluation: a page with plots, the same in Markdown.

Both show `figures.json`; only the broken answers are from the rows.
"""

import base64
import html
from collections.abc import Iterable, Sequence

from moos.storage import Storage
from pipelines.evaluate_broken import broken_html, choose_broken, find_broken
from pipelines.evaluate_figures import ContextRow, Figures, ResultRow
from pipelines.evaluate_markdown import build_markdown
from pipelines.evaluate_plot_style import PLOTS, Plot
from pipelines.evaluate_plots import draw_plots
from pipelines.evaluate_sections import (
    NO_PLOTS,
    Section,
    build_broken_section,
    build_sections,
    describe_run,
)
from pipelines.evaluate_tables import method_table, task_table, to_html
from pipelines.html_page import build_page
from pipelines.report_parts import REPORT, STYLE, cards

MARKDOWN = "report.md"
MAX_OPEN_TASKS = 6
"""Tables of more tasks than these are closed when the page opens."""

EVALUATE_STYLE = """
:root { --soft: #566275; --drop: #5f6a7b; --mark: #ffe08a; --on-mark: #1c2430; --edge: #8a6a00; }
@media (prefers-color-scheme: dark) {
  :root { --soft: #a3afc2; --drop: #9aa6b8; --mark: #574700; --on-mark: #fff3c4;
    --edge: #d8b437; } }
body { max-width: 76rem; }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem; }
p { max-width: 60rem; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
.wide td.n, .wide th.n { white-space: nowrap; padding-left: 1rem; }
.wide tr.first td { border-top: 2px solid var(--soft); }
.wide small { color: var(--soft); }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
figure { margin: .8rem 0 1.4rem; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: .5rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); padding: .35rem 0; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); max-width: 16rem; overflow-wrap: anywhere; }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: var(--mark); color: var(--on-mark); outline: 1px solid var(--edge);
  border-radius: .15rem; }
s mark { text-decoration: line-through; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { font-weight: 500; } }
"""

KEY = (
    '<p class="soft">In the texts: kept, <s>dropped</s>, <mark>accepted answer</mark>, '
    "<s><mark>accepted answer, dropped</mark></s>. Kept words are found by aligning the "
    "compression with the original; of a word said twice, the other one may be shown as kept.</p>"
)


def write_evaluate_report(
    output: Storage,
    figures: Figures,
    rows: Sequence[ResultRow],
    contexts: Iterable[ContextRow],
) -> None:
    """Write `report.html`, self-contained, `report.md`, and `plots/*.png` with matplotlib.

    Everything from the data is escaped. Sections that there are no figures for are left out.

    Args:
        output: The run's.
        figures: What is shown.
        rows: All answers, from which broken ones are taken.
        contexts: All texts; read once, and only those of shown examples are kept.
    """
    plots = draw_plots(figures)
    for plot in plots or ():
        output.put(f"{PLOTS}/{plot.name}.png", plot.png)
    broken, counts = find_broken(rows)
    chosen = choose_broken(broken, counts)
    sections = build_sections(figures)
    examples = build_broken_section(counts) if broken else None
    page = _build_page(figures, sections, plots, examples, broken_html(chosen, contexts))
    output.put(REPORT, page.encode("utf-8"))
    # A reader may well answer with half of a surrogate pair.
    text = build_markdown(figures, sections, plots, examples, chosen)
    output.put(MARKDOWN, text.encode("utf-8", errors="replace"))


def _count_cards(figures: Figures) -> dict[str, str]:
    tasks = figures["run"]["tasks"]
    return {
        "tasks": f"{len(tasks):,}",
        "questions": f"{sum(task['num_examples'] for task in tasks):,}",
        "contexts": f"{sum(task['num_contexts'] for task in tasks):,}",
        "methods": f"{len(figures['run']['methods']):,}",
        "rates": f"{len(figures['run']['rates']):,}",
    }


def _build_page(
    figures: Figures,
    sections: Sequence[Section],
    plots: Sequence[Plot] | None,
    examples: Section | None,
    shown: str,
) -> str:
    run = figures["run"]
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in describe_run(run).items()
    )
    settings = "".join(
        f"<details><summary>{html.escape(table.title)}</summary>{to_html(table)}</details>"
        for table in (task_table(run), method_table(run))
        if table.rows
    )
    missing = f"<p><b>{html.escape(NO_PLOTS)}</b></p>" if plots is None else ""
    body = "".join(_section_html(section, plots or ()) for section in sections)
    broken = f"{_section_html(examples, ())}{KEY}{shown}" if examples is not None else ""
    content = (
        f'<h1>Evaluation</h1><div class="soft">{html.escape(run["reader"] or "no reader")}</div>'
        f"{cards(_count_cards(figures))}{missing}"
        f"<h2>What was run</h2><pre>{html.escape(run['command'])}</pre><dl>{facts}</dl>{settings}"
        f"{body}{broken}"
    )
    return build_page("moos evaluate", content, style=STYLE + EVALUATE_STYLE)


def _section_html(section: Section, plots: Sequence[Plot]) -> str:
    notes = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in section.notes)
    pictures = "".join(_plot_html(plot) for plot in plots if plot.name.startswith(section.plots))
    if len(section.tables) <= 1:
        tables = "".join(to_html(table) for table in section.tables)
    else:
        state = " open" if len(section.tables) <= MAX_OPEN_TASKS else ""
        tables = "".join(
            f"<details{state}><summary>{html.escape(table.title)}</summary>{to_html(table)}"
            "</details>"
            for table in section.tables
        )
    return f"<h2>{html.escape(section.title)}</h2>{notes}{pictures}{tables}"


def _plot_html(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode()
    return (
        f'<figure><img alt="{html.escape(plot.title)}" width="{plot.width}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>"
    )
