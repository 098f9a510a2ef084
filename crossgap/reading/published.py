"""Our numbers beside the paper's: only averages over the same sets, by the same settings, are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from crossgap.encoders.backbones import BACKBONES, Experiment, PosterLine
from crossgap.records import Row

# What the published averages average: task (or tasks), metric, route. Which setting of revisited Oxford and
# Paris the tables use is not published; its values of single sets fit medium, which is an inference of ours.
_MEASURED: dict[Experiment, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "image retrieval": (("image-class", "image-medium"), ("mAP_trapezoidal", "mAP"), "oti"),
    "text retrieval": (("text-caption",), ("mAP",), "ovi"),
    "zero-shot classification": (("zero-shot-class",), ("hit@1",), "oti"),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Percent of one experiment, native and inverted: ours, and the published ones where they are comparable.

    ``name`` is a dataset, or says of how many the values are an average; ``inverted`` is None where it was
    not measured; ``published`` is None where nothing comparable is published, which ``why`` explains.
    """

    experiment: Experiment
    name: str
    native: float
    inverted: float | None
    published: tuple[float, float] | None
    why: str = ""


def compare_published(
    rows: Sequence[Row], backbone: str | None, deviations: Sequence[str] = ()
) -> list[Comparison]:
    """Put measured rows beside what is published of a backbone, experiment by experiment.

    An average over fewer sets than the published one, or by other settings (``deviations``, in words), is
    given without the published value.

    Args:
        rows: of the reported splits, of any number of datasets.
        backbone: one of :data:`crossgap.encoders.backbones.BACKBONES`, or None for any other model.
        deviations: what differs from the paper's settings.
    """
    lines = BACKBONES[backbone].published if backbone is not None else _UNPUBLISHED
    return [comparison for line in lines for comparison in _compare(rows, line, backbone, deviations)]


def published_table(comparisons: Sequence[Comparison], backbone: str | None) -> list[RenderableType]:
    """Lay out a comparison for a terminal."""
    if not comparisons:
        return []
    title = BACKBONES[backbone].title if backbone is not None else "a model without published figures"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("percent", no_wrap=True)
    for column in ("native", "inverted", "gain", "published", "gain", "ours - published"):
        table.add_column(column, justify="right", overflow="fold")
    experiment = None
    for comparison in comparisons:
        if comparison.experiment != experiment:
            table.add_section()
            table.add_row(Text(comparison.experiment, style="bold"))
        experiment = comparison.experiment
        table.add_row(*(Text(cell) for cell in _cells(comparison)))
    reasons = dict.fromkeys(comparison.why for comparison in comparisons if comparison.why)
    return [
        Text(f"beside the paper: {title}", style="bold"),
        table,
        *(Text(reason) for reason in reasons),
        Text(
            "Published: native / inverted, read off the paper's poster, without seeds or intervals. "
            "Revisited Oxford and Paris: setting medium, an assumption; the paper does not state it.",
            style="dim",
        ),
        Text(),
    ]


def _compare(
    rows: Sequence[Row], line: PosterLine, backbone: str | None, deviations: Sequence[str]
) -> Iterator[Comparison]:
    tasks, metrics, route = _MEASURED[line.experiment]
    measured: dict[str, tuple[float, float | None]] = {}
    for name in line.sets:
        of_set = [
            row for row in rows if row.dataset == name and row.task in tasks and row.selection != "curve"
        ]
        metric = next((metric for metric in metrics if any(row.metric == metric for row in of_set)), None)
        values = {row.route: 100 * row.value for row in of_set if row.metric == metric}
        if "native" in values:
            measured[name] = values["native"], values.get(route)
    if not measured:
        return
    for name, (native, inverted) in measured.items():
        published = line.of_set.get(name) if not deviations else None
        yield Comparison(
            experiment=line.experiment, name=name, native=native, inverted=inverted, published=published
        )
    whole = len(measured) == len(line.sets)
    reasons = []
    if not whole:
        missing = ", ".join(name for name in line.sets if name not in measured)
        reasons.append(f"{line.experiment}: not compared, for {missing} were not measured")
    if deviations:
        reasons.append(f"not compared, for this is not the paper's protocol: {', '.join(deviations)}")
    both = [inverted for _, inverted in measured.values() if inverted is not None]
    average = f"average of {len(measured)}" if whole else f"average of {len(measured)} of {len(line.sets)}"
    yield Comparison(
        experiment=line.experiment,
        name=average,
        native=sum(native for native, _ in measured.values()) / len(measured),
        inverted=sum(both) / len(measured) if len(both) == len(measured) else None,
        published=None if reasons or backbone is None else (line.native, line.inverted),
        why=". ".join(reasons),
    )


def _cells(ours: Comparison) -> list[str]:
    gain = "" if ours.inverted is None else f"{ours.inverted - ours.native:+.1f}"
    cells = [ours.name, f"{ours.native:.1f}", "" if ours.inverted is None else f"{ours.inverted:.1f}", gain]
    if ours.published is None:
        return [*cells, "", "", ""]
    native, inverted = ours.published
    cells += [f"{native:.1f} / {inverted:.1f}", f"{inverted - native:+.1f}"]
    differences = [f"{ours.native - native:+.1f}"]
    if ours.inverted is not None:
        differences.append(f"{ours.inverted - inverted:+.1f}")
    return [*cells, " / ".join(differences)]


# the sets of each experiment, for models of which nothing is published
_UNPUBLISHED = BACKBONES["clip-b32"].published
