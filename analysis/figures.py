"""The figures of the report: which are drawn of a study, what stands below them, and as which files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from analysis import responses
from analysis.between import in_units
from analysis.leading import factor_slopes, leading_first
from analysis.pictures import DrawnFigures, Picture, Shown
from analysis.plots.along import (
    dose_info,
    draw_doses,
    draw_ladder,
    draw_mention,
    ladder_info,
    mention_info,
)
from analysis.plots.class_gains import class_gain_info, draw_class_gains
from analysis.plots.curves import draw_curves, draw_setting_curves
from analysis.plots.factors import draw_factors, factor_info
from analysis.plots.forests import draw_factorial, draw_seed_effects, factorial_info, seed_effects_info
from analysis.plots.front import draw_front, front_info
from analysis.plots.headline import draw_headline
from analysis.plots.heat_maps import draw_mention_and_steps, draw_surface, surface_info
from analysis.plots.histograms import draw_histograms, histogram_infos
from analysis.plots.neighbours import StripsInfo, draw_strips, strips_infos
from analysis.plots.projection import draw_projection, projection_info
from analysis.plots.published_figure import draw_published, published_info
from analysis.plots.saving import Saver
from analysis.plots.training import draw_losses, draw_temperatures, draw_validation, training_info
from analysis.results import MeasuredModels, Results, Within
from analysis.sheets.provenance import measures_published
from analysis.study import RecordedStudy
from analysis.typeset import counted, joined

_HEADLINE_CAPTION = (
    "Up: the mAP points that inverting the query ({route}) adds on {task} ({dataset}, {split}); one point a "
    "model. Left, over the modality gap; right, beside controls that invert nothing. Bars: 95 % intervals."
)
_HEADLINE_READING = (
    "The gap is how far the model's image and text embeddings lie apart. Bars are intervals over queries "
    "(up) and over pairs (right). The controls are linear maps, on the same scale, means over seeds: an "
    "inversion gain says little about misalignment where a control that inverts nothing gains as much."
)
_SLOPE_READING = (
    " Dashed: least squares over the arms' means. The grey band turns that line about the models' mean gap "
    "through the 95 % interval of its slope; of the line's height it says nothing, so it has no width there."
)


def _histogram_caption(task: str, dataset: str) -> str:
    shares = "as shares of each kind of pair; one model an arm, its first seed."
    if task == "gap":
        return f"Cosine similarities within and across modalities ({dataset}), {shares}"
    return (
        f"Cosine similarities on {task} ({dataset}): native features, inverted queries, and centred "
        f"features, {shares} Overlap alone does not show misalignment: models trained with an image-image "
        "loss overlap too, and centring moves the histograms without changing what is retrieved much."
    )


class Figures:
    """Has figures drawn and saved, and hands the page what to embed."""

    def __init__(self, study: RecordedStudy, folder: Path, saver: Saver) -> None:
        self.study = study
        self.folder = folder
        self.saver = saver

    def of_measured(self, measured: MeasuredModels) -> DrawnFigures:
        """Draw all that needs no effects of arms."""
        return DrawnFigures(
            of_study={name: self._pictures(figures(self.study)) for name, figures in OF_STUDY.items()},
            within=[self._of_task(within) for within in measured.within],
            histograms=self._pictures(_histograms(self.study, measured)),
            strips=self._strips(measured),
            more={name: self._pictures(figures(self.study, measured)) for name, figures in MORE.items()},
        )

    def of_results(self, results: Results) -> dict[str, list[Picture]]:
        """Draw effects, by the section of the page; empty where there is nothing."""
        return {name: self._pictures(figures(self.study, results)) for name, figures in OF_RESULTS.items()}

    def _pictures(self, shown: Iterable[Shown]) -> list[Picture]:
        return [self._picture(figure) for figure in shown]

    def _picture(self, shown: Shown) -> Picture:
        self.saver.save(shown.draw, self.folder, shown.name)
        narrow = None
        if shown.narrow is not None:
            narrow = self.folder / f"{shown.name}-column.svg"
            self.saver.save(shown.narrow, self.folder, narrow.stem, only="svg")
        return Picture(self.folder / f"{shown.name}.svg", shown.caption, shown.alt, shown.reading, narrow)

    def _of_task(self, within: Within) -> dict[str, Picture | None]:
        """Draw what shows one leading task, by the key of the page; None where there is nothing."""
        return {
            name: next(iter(self._pictures(figures(self.study, within))), None)
            for name, figures in OF_TASK.items()
        }

    def _strips(self, measured: MeasuredModels) -> dict[str, list[StripsInfo]]:
        """Group nearest neighbours by task; one arm's on the leading tasks are saved as figures too."""
        leading = {within.where.task for within in measured.within}
        first = self.study.baseline or self.study.arm_names[0]
        by_task: dict[str, list[StripsInfo]] = {}
        neighbours = leading_first(measured.wheres, self.study.neighbours)
        for info in strips_infos(neighbours, self.study.labels):
            if info.task in leading and info.arm == first:
                name = _slug(f"neighbours-{info.task}-{info.arm}", info.dataset)
                self.saver.save(partial(draw_strips, info), self.folder, name)
            by_task.setdefault(f"{info.task} ({info.dataset})", []).append(info)
        return by_task


def _headline(study: RecordedStudy, within: Within) -> Iterator[Shown]:
    info, where = within.headline, within.where
    if info.points["gap"].isna().all():
        return
    route = where.route.upper()
    yield Shown(
        partial(draw_headline, info, study.arm_names),
        _slug(f"misalignment-against-gap-{where.modality}", where.dataset),
        _HEADLINE_CAPTION.format(route=route, task=where.task, dataset=where.dataset, split=where.split),
        f"{route} gain against modality gap for {counted(len(info.points), 'model')}, with controls",
        _HEADLINE_READING + (_SLOPE_READING if info.slope is not None else ""),
        partial(draw_headline, info, study.arm_names, column=True),
    )


def _curves(study: RecordedStudy, within: Within) -> Iterator[Shown]:
    info, where = within.curves, within.where
    if not info.arms:
        return
    yield Shown(
        partial(draw_curves, info),
        _slug(f"inversion-curves-{where.modality}", where.dataset),
        f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
        f"({where.dataset}, {where.split}), one line a token count, mean over seeds; bands are 95 % "
        "intervals over queries. Red rings mark the settings quoted elsewhere. Step 0 is untrained "
        "tokens, the placebo.",
        f"Inversion curves of {counted(len(info.arms), 'arm')}",
    )


def _setting_curves(study: RecordedStudy, within: Within) -> Iterator[Shown]:
    info, where = within.setting_curves, within.where
    if not info.arms:
        return
    yield Shown(
        partial(draw_setting_curves, info),
        _slug(f"inversion-settings-{where.modality}", where.dataset),
        f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
        f"({where.dataset}, {where.split}), one panel a token count, one line a setting, mean over "
        "seeds; bands are 95 % intervals over queries. Red rings mark the settings quoted "
        "elsewhere. Of so many points the highest is too high by chance alone.",
        f"Inversion curves of {counted(len(info.settings), 'setting')}",
    )


def _training(study: RecordedStudy) -> Iterator[Shown]:
    if not {"step", "loss", "temperature"} <= set(study.training.columns):
        return
    info = training_info(study.training, study.labels)
    yield Shown(
        partial(draw_losses, info),
        "training-loss",
        "Loss and its parts as weighted in the objective, one line a seed. Models that failed or "
        "have not finished are drawn as far as they came.",
        f"Training loss of {counted(len(info.arms), 'arm')}",
    )
    yield Shown(
        partial(draw_temperatures, info, study.arm_names),
        "training-temperature",
        "Temperature of the contrastive loss during training, on a logarithmic axis, one line a seed.",
        f"Temperature of {counted(len(info.arms), 'arm')} during training",
    )
    if not info.validation.empty:
        yield Shown(
            partial(draw_validation, info, study.arm_names),
            "training-validation",
            "Checkpoints on the validation split: the distance of the means of both modalities, and "
            "retrieval within and across them, with features as the model gives them.",
            f"Gap and retrieval of {counted(len(info.arms), 'arm')} during training",
        )


def _projections(study: RecordedStudy) -> Iterator[Shown]:
    for dataset in dict.fromkeys(study.projection["dataset"]):
        info = projection_info(study.projection, dataset, study.labels)
        yield Shown(
            partial(draw_projection, info),
            _slug("projection", dataset),
            f"Both modalities' embeddings of {dataset} in two dimensions ({info.method}), one model an arm "
            "(its first seed). Two coordinates of many: distances here are not the gap that is reported.",
            f"Image and text embeddings of {counted(len(info.arms), 'arm')} in two dimensions",
        )


def _histograms(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    """Draw the similarities of the leading tasks and the pairs of the gap."""
    leading = {"gap", *(within.where.task for within in measured.within)}
    for dataset in dict.fromkeys(study.histograms["dataset"]):
        for info in histogram_infos(study.histograms, dataset, study.labels):
            if info.task in leading:
                yield Shown(
                    partial(draw_histograms, info),
                    _slug(f"similarities-{info.task}", dataset),
                    f"{_histogram_caption(info.task, dataset)}{_left_out(info.left_out)}",
                    f"Histograms of cosine similarity on {info.task}",
                )


def _seed_effects(study: RecordedStudy, results: Results) -> Iterator[Shown]:
    table = results.key_changes
    if table.empty:
        return
    info = seed_effects_info(table.assign(label=table["arm"].map(study.labels)), most=6)
    yield Shown(
        partial(draw_seed_effects, info),
        "differences-over-seeds",
        "Each arm minus the baseline, seed by seed (dots), their mean, and t intervals from three "
        "seeds on. The test queries are the same in all seeds: an interval speaks of other seeds, "
        f"not of other queries.{_said(info.note)}{_left_out(info.left_out)}",
        f"Differences of {counted(len(info.arms), 'arm')} to the baseline by seed",
    )


def _between(study: RecordedStudy, results: Results) -> Iterator[Shown]:
    if results.between.empty:
        return
    table = in_units(results.between)
    several = table["study"].nunique() > 1
    labels = [study.label(arm) + (f", {name}" if several else "") for arm, name in table["arm"]]
    info = seed_effects_info(table.assign(label=labels), most=6)
    yield Shown(
        partial(draw_seed_effects, info),
        "studies-compared",
        f"Each study minus {study.parts[0].name}, arm by arm: dots are seeds that are paired, diamonds "
        "means, with 95 % intervals over models and queries at once from three seeds on (of the gap and "
        f"hit@1 over models alone).{_said(info.note)}{_left_out(info.left_out)}",
        f"Differences between studies in {counted(len(info.quantities), 'quantity', 'quantities')}",
    )


def _doses(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    rungs = responses.ladders(study)
    points, summary = responses.along(measured.quantities, rungs, level=measured.bootstrap.level)
    if points.empty:
        return
    info = dose_info(points, summary, study.labels)
    yield Shown(
        partial(draw_doses, info),
        "dose-response",
        "What each model shows over the strength of what was added to the objective; 0 is the "
        "baseline. One dot a model, lines join the means over seeds, bars are t intervals over "
        f"seeds, from three on.{_left_out(info.left_out)}",
        f"Response to {counted(len(rungs), 'ladder')} of strengths",
    )


def _ladders(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    for within in measured.within:
        points, summary = responses.over_temperatures(
            study, measured.values, within.where, level=measured.bootstrap.level
        )
        if points.empty:
            continue
        info = ladder_info(points, summary)
        where = within.where
        yield Shown(
            partial(draw_ladder, info),
            _slug(f"temperature-ladder-{where.modality}", where.dataset),
            f"The ladder of temperatures on {where.task} ({where.dataset}, {where.split}). A gain "
            "that vanishes where the gap closes says little where native retrieval fell as well. "
            "One dot a model, lines join the means, bars are t intervals over seeds, from three "
            "on; diamonds: a temperature that was learned, at its last value.",
            "Gap, mAP, inversion gain and hit@1 over the temperature of the contrastive loss",
        )


def _mention(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    for within in measured.within:
        where = within.where
        points, means = responses.over_mention(
            study, measured.values, where, within.gains, level=measured.bootstrap.level
        )
        if points.empty:
            continue
        info = mention_info(points, means)
        yield Shown(
            partial(draw_mention, info),
            _slug(f"gain-over-mention-{where.modality}", where.dataset),
            f"What {where.route.upper()} gains on {where.task} ({where.split}), native mAP and gap, "
            "by how often training captions name each factor but the object. The scenes that are "
            "measured are the same everywhere. Dots are models; bars of the gain are 95 % intervals "
            "over queries, the others t intervals over seeds, from three on.",
            f"Inversion gain over what captions say, {counted(len(info.lines), 'line')}",
        )
        gains = responses.over_mention_and_steps(study, within.points)
        yield Shown(
            partial(draw_mention_and_steps, gains),
            _slug(f"gain-over-mention-and-steps-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native in mAP points on {where.task}, by mention "
            "and steps of inversion, mean over seeds. Bold: the 95 % interval over queries lies off "
            "0, for each cell by itself.",
            "Inversion gain over what captions say and steps of inversion",
        )


def _factors(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    slopes = factor_slopes(measured.quoted_rows)
    for (dataset, split), of_dataset in slopes.groupby(["dataset", "split"], sort=False):
        info = factor_info(of_dataset, study.labels)
        yield Shown(
            partial(draw_factors, info),
            _slug("factors", str(dataset)),
            "Which factor similarity follows: by how many standard deviations the cosine of two "
            f"images ({dataset}, {split}) rises where they share it, the other factors held; native, "
            "and with the query inverted at the chosen setting. Means over seeds; bars are means of "
            f"the models' 95 % intervals over classes.{_left_out(info.left_out)}",
            f"Factors that similarity follows in {counted(len(info.arms), 'arm')}",
        )


def _front(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    for modality in ("image", "text"):
        models = responses.trade_offs(measured.quantities, modality)
        if models.empty or models["arm"].nunique() < 3:
            continue
        info = front_info(
            models.assign(label=models["arm"].map(study.labels)),
            x="hit@1 across modalities (%)",
            y=f"native mAP among {modality}s (%)",
            colour="modality gap (centroid distance)",
        )
        yield Shown(
            partial(draw_front, info),
            f"trade-offs-{modality}",
            "What arms give across modalities against what they give within one, by their gap. On "
            "the front: no other arm is at least as good in both means and better in one. "
            + (
                "Beside the names: in which share of resamples of the seeds an arm is on the front."
                if info.means["on_front_share"].notna().any()
                else "How firm that is over seeds, shares of resamples tell from five seeds on."
            ),
            f"Pareto front of {counted(models['arm'].nunique(), 'arm')}",
        )


def _factorial(study: RecordedStudy, results: Results) -> Iterator[Shown]:
    if results.factorial.empty:
        return
    info = factorial_info(results.factorial)
    yield from _surfaces(study, results)
    yield Shown(
        partial(draw_factorial, info),
        "factorial-effects",
        "Main effects (from the lowest level of a factor to its highest) and two-way interactions, with "
        f"{100 * results.bootstrap.level:g} % intervals, seeds as blocks.{_left_out(info.left_out)}",
        f"Factorial effects on {joined(list(dict.fromkeys(results.factorial['quantity'])))}",
    )


def _surfaces(study: RecordedStudy, results: Results) -> Iterator[Shown]:
    for quantity, points, settings in responses.surface(study, results.quantities):
        info = surface_info(points, settings, quantity=quantity.name, unit=quantity.unit)
        yield Shown(
            partial(draw_surface, info),
            _slug("surface", quantity.name),
            f"{quantity.name} over {joined(settings)}, each cell the mean over its models. Settings "
            "of inversion are those that were asked for, not chosen: of so many cells the highest "
            f"is too high by chance alone.{_left_out(info.left_out)}",
            f"{quantity.name} over {joined(settings)}",
        )


def _classes(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    first = sorted(study.labels, key=lambda arm: arm != study.baseline)
    for within in measured.within:
        where = within.where
        info = class_gain_info(within.query_gains, {arm: study.labels[arm] for arm in first})
        if not info.arms:
            continue
        yield Shown(
            partial(draw_class_gains, info),
            _slug(f"gain-by-class-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native by query class on {where.task} ({where.dataset}, "
            f"{where.split}): mean over queries and seeds, dots by seed. The classes at both ends are there "
            f"partly by chance: with few queries a class's gain is uncertain.{_left_out(info.left_out)}",
            f"Inversion gain by class for {counted(len(info.arms), 'arm')}",
        )


def _published(study: RecordedStudy, measured: MeasuredModels) -> Iterator[Shown]:
    if not measures_published(study):
        return
    ours = responses.beside_published(measured.values, [within.where for within in measured.within])
    if ours.empty:
        return
    info = published_info(ours, study.labels)
    yield Shown(
        partial(draw_published, info),
        "published-averages",
        "Published averages of released models, and this study: native and by the route. They are "
        f"not comparable in size: other data, models and tasks.{_left_out(info.left_out)}",
        "Published averages beside those of this study",
    )


def _said(note: str) -> str:
    return f" {note[0].upper()}{note[1:]}." if note else ""


def _left_out(names: tuple[str, ...]) -> str:
    return f" Not shown: {'; '.join(names)}." if names else ""


def _slug(*parts: str) -> str:
    text = "-".join(parts)
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)


OF_STUDY = {"training": _training, "projections": _projections}
OF_TASK = {"headline": _headline, "curves": _curves, "setting_curves": _setting_curves}
MORE = {
    "mention": _mention,
    "factors": _factors,
    "dose": _doses,
    "ladder": _ladders,
    "front": _front,
    "classes": _classes,
    "published_figure": _published,
}
OF_RESULTS = {"between": _between, "seeds": _seed_effects, "factorial": _factorial}
