"""What an evaluation prints at its end: its leading tasks, the others, the gap, and what was not measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from crossgap.evaluation.comparison import (
    NATIVE,
    Estimate,
    MapComparison,
    RouteResult,
    TaskComparison,
    compare_routes,
    family_of,
)
from crossgap.probes.shots import LINEAR_PROBE, SHOTS, class_mean_name, probe_columns
from crossgap.reading.quoting import reported
from crossgap.reading.support import OVER_QUERIES, least_classes
from crossgap.records import Row, row_frame
from crossgap.vocabulary import INVERSIONS, LEADING_TASKS, ROUTE_WORDS

# The gap rows that are shown, of some forty: all of them are in rows.jsonl.
_GAP = (
    "centroid_distance", "centre_angle", "mean_pair_cosine", "RMG", "linear_separability", "uniformity_image",
    "uniformity_text", "modality_mixing@10", "mutual_knn@10", "cknna@10", "linear_cka",
    "effective_rank_image", "effective_rank_text",
)  # fmt: skip
_NOTHING = 1e-6  # below the rounding of features in float32
_LISTED = 12  # names of what was skipped for one reason; with many datasets there are hundreds
_MISALIGNMENT = ("same_other_auc", "d_prime")


def summary(
    rows: Sequence[Row], per_query: pd.DataFrame, skipped: dict[str, str], *, details: bool = False
) -> list[RenderableType]:
    """Lay out the results of one evaluation for a terminal of 80 columns or more.

    For each dataset: every route of its leading tasks with value, paired difference to native features,
    interval and setting (:func:`crossgap.evaluation.comparison.compare_routes`), the comparison of inversions
    with the best map, the protocol; the other tasks as one table of inversion and best map, where there is a
    leading one; classification by labelled training images as one table of routes by shots; then gap and
    misalignment; at the end what was skipped, with the reason. A ``*`` marks an interval that
    excludes 0, so nothing rests on colour; queries of too few classes for an interval to decide get no mark.

    Args:
        rows: of one evaluation, of any number of datasets.
        per_query: columns as in ``crossgap.records.TABLES["per_query"]``.
        skipped: name of what could not be measured -> reason.
        details: show every route of every task and every metric of the gap, not the leading ones alone.

    Raises:
        InputError: per-query values that do not pair.
    """
    tasks = compare_routes(rows, per_query)
    of_reported_splits = [rows[place] for place in reported(row_frame(rows)).index]
    parts: list[RenderableType] = []
    for dataset, split in dict.fromkeys((row.dataset, row.split) for row in of_reported_splits):
        of_dataset = [row for row in of_reported_splits if (row.dataset, row.split) == (dataset, split)]
        arms = ", ".join(dict.fromkeys(row.arm for row in of_dataset))
        parts.append(Text(f"{dataset}, split {split}: {arms}\n", style="bold"))
        here = [task for task in tasks if (task.dataset, task.split) == (dataset, split)]
        retrieved = [task for task in here if task.task not in probe_columns()]
        leading = [task for task in retrieved if task.task in LEADING_TASKS]
        for task in retrieved if details or not leading else leading:
            parts += [_task_title(task), _task_table(task), *_below(task), Text()]
        if leading and not details:
            parts += _overview([task for task in retrieved if task not in leading])
        parts += _probe_table({task.task: task for task in here if task.task in probe_columns()})
        parts += _gap_table(of_dataset, details)
        parts += _factor_table(of_dataset)
        parts += _other_settings([row for row in rows if (row.dataset, row.split) == (dataset, split)])
    if skipped:
        parts += [Text("not measured", style="bold"), _skipped_table(skipped)]
    return parts


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _task_title(task: TaskComparison) -> Text:
    sizes = list(dict.fromkeys(_sizes(result.row) for result in task.routes))
    common = sizes[0] if len(sizes) == 1 else "queries (+ skipped) / gallery differ by route"
    return Text.assemble((task.task, "bold"), f": {common}")


def _task_table(task: TaskComparison) -> Table:
    by_route = len({_sizes(result.row) for result in task.routes}) > 1
    table = _table()
    table.add_column("route", min_width=max(map(len, ROUTE_WORDS)), no_wrap=True)
    table.add_column(f"{task.metric} %", justify="right", no_wrap=True)
    table.add_column("- native", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("setting (chosen)", overflow="fold")
    if by_route:
        table.add_column("queries / gallery", overflow="fold")
    family = None
    for result in task.routes:
        own = family_of(result.row.route)
        if own is not None and family not in (None, own):
            table.add_section()
        family = own or family
        cells = _cells(result, task.decides)
        if by_route:
            more = f" + {result.row.n_skipped}" * (result.row.n_skipped > 0)
            cells.append(Text(f"{result.row.n_queries}{more} / {result.row.n_gallery}"))
        table.add_row(*cells, style="bold" if result.row.route == "native" else "")
    return table


def _overview(tasks: Sequence[TaskComparison]) -> list[RenderableType]:
    """Show, a task a row, what inversion of the query and the map of the highest value add to native."""
    if not tasks:
        return []
    table = _table()
    table.add_column("other task", no_wrap=True)
    table.add_column("native %", justify="right", no_wrap=True)
    table.add_column("inversion - native, 95 %", no_wrap=True)
    table.add_column("best map - native", min_width=max(map(len, ROUTE_WORDS)))
    for task in tasks:
        results = {result.row.route: result for result in task.routes}
        inverted = [results[route] for route in INVERSIONS.values() if route in results]
        maps = [
            result
            for result in task.routes
            if family_of(result.row.route) == "map" and result.difference is not None
        ]
        best = max(maps, key=lambda result: result.value, default=None)
        table.add_row(
            Text(task.task),
            Text(_percent(results[NATIVE].value) if NATIVE in results else ""),
            Text("\n".join(_added(result, task.decides, bounded=True) for result in inverted)),
            Text("" if best is None else _added(best, task.decides, bounded=False)),
        )
    metrics = dict.fromkeys(task.metric for task in tasks)
    measured = "; ".join(
        f"{metric} of {', '.join(task.task for task in tasks if task.metric == metric)}" for metric in metrics
    )
    few = "" if all(task.decides for task in tasks) else " No mark where queries are of too few classes."
    note = (
        f"{measured}. Points; * excludes 0.{few} The best map is the highest on these very queries, which "
        "favours it. Every route, and the protocols: --details, or rows.jsonl."
    )
    return [table, Text(note), Text()]


def _added(result: RouteResult, decides: bool, *, bounded: bool) -> str:
    """Write what a route adds to native features: oti +3.13 [2.04, 4.30] *."""
    difference = result.difference
    if difference is None:
        return f"{result.row.route} {_percent(result.value)} %"
    interval = f" {_interval(difference, signed=True)}" if bounded else ""
    return f"{result.row.route} {_points(difference.value)}{interval} {_mark(difference, decides)}".rstrip()


def _mark(difference: Estimate, decides: bool) -> str:
    """Mark an interval that excludes 0, where its queries are of enough classes to decide."""
    return "*" if decides and difference.excludes_zero else ""


def _probe_table(tasks: dict[str, TaskComparison]) -> list[RenderableType]:
    """Show classification by labelled images: routes by shots, below each value its difference to native."""
    columns = [name for name in probe_columns() if name in tasks]
    if not columns:
        return []
    table = _table()
    table.padding = 0  # seven numbers a line: the box alone keeps them apart
    table.add_column("route", min_width=max(map(len, ROUTE_WORDS)), no_wrap=True)
    for name in columns:
        table.add_column(probe_columns()[name], justify="right", min_width=7, overflow="fold")
    results = {name: {result.row.route: result for result in tasks[name].routes} for name in columns}
    for route in dict.fromkeys(route for of_task in results.values() for route in of_task):
        cells = [Text(route)]
        for name in columns:
            result = results[name].get(route)
            cells.append(Text("" if result is None else _probe_cell(result, tasks[name].decides)))
        table.add_row(*cells, style="bold" if route == NATIVE else "")
    first = tasks[columns[0]]
    explained = [name for name in columns if name in (class_mean_name(SHOTS[-1]), LINEAR_PROBE)]
    return [
        Text("images by labelled training images: accuracy %, below it - native", style="bold"),
        table,
        Text(_probe_intervals(first)),
        *(
            Text(f"Protocol, {probe_columns()[name]}: {tasks[name].protocol}", style="dim")
            for name in explained
        ),
        Text(),
    ]


def _probe_intervals(task: TaskComparison) -> str:
    """Say what a mark is, and where the settings are."""
    few = (
        f"Queries of {task.n_classes} classes are too few for an interval to decide; that takes "
        f"{_least_classes()}."
    )
    marked = (
        f"* the interval of the difference excludes 0: bootstrap over {task.n_classes} classes of queries, "
        "not corrected for the number of routes."
    )
    return f"{marked if task.decides else few} Settings and penalties are in rows.jsonl."


def _probe_cell(result: RouteResult, decides: bool) -> str:
    value = _percent(result.value)
    if result.difference is None:
        return value
    return f"{value}\n{_points(result.difference.value)}{_mark(result.difference, decides)}"


def _cells(result: RouteResult, decides: bool) -> list[Text]:
    row = result.row
    shown = result.own or result.difference
    difference, mark = "", ""
    if result.own is not None:
        difference = "value:"
    elif result.difference is not None:
        difference = _points(result.difference.value)
        mark = _mark(result.difference, decides)
    interval = "" if shown is None else _interval(shown, signed=result.own is None)
    return [
        Text(cell)
        for cell in (row.route, _percent(result.value), difference, interval, mark, _setting(result))
    ]


def _setting(result: RouteResult) -> str:
    words = _setting_words(result.row.num_tokens, result.row.steps, result.row.setting)
    chosen = f"({result.chosen})" if result.chosen != "none" else ""
    return f"{words} {chosen}".strip()


def _setting_words(num_tokens: int | None, steps: int | None, setting: str) -> str:
    """Say tokens, steps and what a plan compares, those that there are."""
    counted = [(num_tokens, "token"), (steps, "step")]
    parts = [f"{count} {name}" + "s" * (count != 1) for count, name in counted if count is not None]
    return ", ".join([*parts, *([setting] if setting else [])])


def _below(task: TaskComparison) -> Iterator[Text]:
    """Say what the intervals are, how inversions compare with maps, and the protocol."""
    count = sum(result.difference is not None for result in task.routes)
    bounded = any((result.own or result.difference or Estimate(0)).low is not None for result in task.routes)
    if bounded:
        about = (
            f"- native: paired difference in points. Intervals: bootstrap over {task.n_classes} classes of "
            f"queries; one a row, not corrected for the number of routes, {count}."
        )
        few = f" From so few they are too narrow to decide anything; that takes {_least_classes()}."
        yield Text(about + (" * excludes 0." if task.decides else few))
    elif count:
        yield Text("- native: paired difference in points. No intervals: the queries are of one class.")
    if not any(result.row.route == "native" for result in task.routes):
        yield Text("No native features were measured: no differences.")
    for comparison in task.maps:
        yield Text(_beside_map(comparison, task.decides))
    if task.maps and task.maps[0].n_maps > 1:
        yield Text("That map is the highest on these very queries, which favours it.")
    yield Text(f"Protocol: {task.protocol}", style="dim")


def _least_classes() -> str:
    least = least_classes(OVER_QUERIES)
    return "more than any simulated number" if least is None else f"{least} classes"


def _beside_map(comparison: MapComparison, decides: bool) -> str:
    among = f"the highest of {comparison.n_maps} maps" if comparison.n_maps > 1 else "the only map"
    difference = comparison.difference
    interval = _interval(difference, signed=True)
    return (
        f"{comparison.inversion} - {comparison.best_map} ({among}): "
        f"{_points(difference.value)} points {interval} {_mark(difference, decides)}".rstrip()
    )


def _gap_table(rows: Sequence[Row], details: bool) -> list[RenderableType]:
    gap = [row for row in rows if row.task == "gap"]
    names = dict.fromkeys((*_GAP, *(row.metric for row in gap))) if details else _GAP
    shown = [(row.metric, row) for name in names for row in gap if row.metric == name]
    shown += [
        (f"{row.metric}, {row.task}", row)
        for row in rows
        if row.metric in _MISALIGNMENT and row.route == "native"
    ]
    if not shown:
        return []
    table = _table()
    table.add_column("metric", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold")
    for name, row in shown:
        bounded = row.low is not None and row.high is not None
        interval = f"[{_plain(row.low)}, {_plain(row.high)}]" if bounded else ""
        table.add_row(*(Text(cell) for cell in (name, _plain(row.value), interval, row.unit)))
    parts: list[RenderableType] = [Text("gap and misalignment of native features", style="bold"), table]
    if gap:
        more = len(gap) - sum(row.task == "gap" for _, row in shown)
        also = f" {more} more of its metrics: --details, or rows.jsonl." if more else ""
        parts.append(Text(f"Protocol: {gap[0].protocol}{also}", style="dim"))
    return [*parts, Text()]


def _factor_table(rows: Sequence[Row]) -> list[RenderableType]:
    """Show, a factor a row, what native images hold of it and how far similarity follows it by each route."""
    quoted = [row for row in rows if row.task == "factors" and row.selection != "curve"]
    if not quoted:
        return []
    values = {(row.route, row.metric): row for row in quoted}
    routes = list(dict.fromkeys(row.route for row in quoted))
    followed = "similarity_by_"
    factors = dict.fromkeys(
        row.metric.removeprefix(followed) for row in quoted if row.metric.startswith(followed)
    )
    table = _table()
    table.add_column("factor", no_wrap=True)
    for heading in ("kNN %", "probe %", "chance %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for route in routes:
        table.add_column(f"SD of cosine, {route}", justify="right")
    for factor in factors:
        held = [values.get(("native", f"holds_{factor}_{how}")) for how in ("knn", "probe", "chance")]
        slopes = [values.get((route, f"{followed}{factor}")) for route in routes]
        table.add_row(
            Text(factor),
            *(Text("" if row is None else _percent(row.value)) for row in held),
            *(Text("" if row is None else _slope(row)) for row in slopes),
        )
    agreed = [values[key] for key in ((route, "factor_agreement") for route in routes) if key in values]
    agreement = ", ".join(f"{row.route} {row.value:.3f}" for row in agreed)
    return [
        Text("factors: what native images hold, and what sharing a factor adds to similarity", style="bold"),
        table,
        Text(f"rank correlation of similarity with the number of shared named factors: {agreement}"),
        Text(f"Protocol: {quoted[0].protocol}", style="dim"),
        Text(),
    ]


def _other_settings(rows: Sequence[Row]) -> list[RenderableType]:
    """Say that several settings of inversion were measured, of which a table shows one, and where all are."""
    points = [row for row in rows if row.selection == "curve" and family_of(row.route) == "inversion"]
    named = list(dict.fromkeys(_setting_words(row.num_tokens, None, row.setting) for row in points))
    if len(named) < 2:
        return []
    more = f"; and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    return [
        Text(
            f"Inversion was measured under {len(named)} settings ({'; '.join(named[:_LISTED])}{more}). A "
            "table shows one of them a route, that of its last column. All are in rows.jsonl with their "
            "values: columns setting, num_tokens and steps, selection curve (docs/rows.md)."
        ),
        Text(),
    ]


def _slope(row: Row) -> str:
    bounded = row.low is not None and row.high is not None
    return f"{row.value:+.2f}" + (f" [{row.low:+.2f}, {row.high:+.2f}]" if bounded else "")


def _skipped_table(skipped: dict[str, str]) -> Table:
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(name)
    table = _table()
    table.add_column("what", overflow="fold", ratio=2)
    table.add_column("why", overflow="fold", ratio=3)
    for reason, names in by_reason.items():
        more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
        table.add_row(Text("\n".join([*names[:_LISTED], *more])), Text(reason))
    return table


def _plain(value: float | None) -> str:
    """Write a number with four digits; what is nothing but rounding is 0."""
    return "" if value is None else "0" if abs(value) < _NOTHING else f"{value:.4g}"


def _sizes(row: Row) -> str:
    skipped = f" (+ {row.n_skipped} skipped)" if row.n_skipped else ""
    return f"{row.n_queries} queries{skipped}, gallery {row.n_gallery}"


def _percent(value: float) -> str:
    return f"{100 * value:z.2f}"


def _points(value: float) -> str:
    return f"{100 * value:+z.2f}"


def _interval(estimate: Estimate, *, signed: bool) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    write = _points if signed else _percent
    return f"[{write(estimate.low)}, {write(estimate.high)}]"
