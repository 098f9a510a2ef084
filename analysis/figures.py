"""The figures of the report: which are drawn of a study, what stands below them, and as which files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from analysis import designed
from analysis.plots.class_gains import class_gain_info, draw_class_gains
from analysis.plots.curves import draw_curves
from analysis.plots.dose_response import dose_info, draw_doses
from analysis.plots.factorial import draw_factorial, factorial_info
from analysis.plots.factors import draw_factors, factor_info
from analysis.plots.front import draw_front, front_info
from analysis.plots.headline import draw_headline
from analysis.plots.histograms import draw_histograms, histogram_infos
from analysis.plots.mention import draw_mention, draw_mention_and_steps, mention_info
from analysis.plots.neighbours import StripsInfo, draw_strips
from analysis.plots.projection import draw_projection, projection_info
from analysis.plots.published_figure import draw_published, published_info
from analysis.plots.saving import Draw, Saver
from analysis.plots.seed_effects import draw_seed_effects, seed_effects_info
from analysis.plots.setting_curves import draw_setting_curves
from analysis.plots.surface import draw_surface, surface_info
from analysis.plots.temperature_ladder import draw_ladder, ladder_info
from analysis.plots.training import draw_losses, draw_temperatures, training_info
from analysis.results import Results, Within
from analysis.sheets import measures_published
from analysis.study import Study
from analysis.tables import factor_slopes
from analysis.typeset import counted, joined

_HEADLINE_CAPTION = (
    "One point a trained model. Up: the mAP points that inverting the query ({route}) adds on {task} "
    "({dataset}, {split}). Right: how far the model's image and text embeddings lie apart. Bars are 95 % "
    "intervals, over queries (up) and over pairs (right). Beside it, on the same scale, what linear "
    "controls add: an inversion gain says little about misalignment where a control that inverts nothing "
    "gains as much."
)
_SLOPE_CAPTION = (
    " Dashed: least squares over the arms' means. The grey band turns that line about the models' mean gap "
    "through the 95 % interval of its slope; of the line's height it says nothing, so it has no width there."
)


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its file, and what it shows in words; the file may be written later."""

    path: Path
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        """The figure as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


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
    """Has figures drawn and saved as PNG, SVG and PDF, and hands the page what to embed."""

    def __init__(self, study: Study, folder: Path, saver: Saver) -> None:
        self.study = study
        self.labels = {arm.name: arm.label for arm in study.arms}
        self.folder = folder
        self.saver = saver

    def picture(self, draw: Draw, name: str, caption: str, alt: str) -> Picture:
        self.saver.save(draw, self.folder, name)
        return Picture(self.folder / f"{name}.svg", caption, alt)

    def headline(self, within: Within) -> Picture | None:
        info, where = within.headline, within.where
        if info.points["gap"].isna().all():
            return None
        route = where.route.upper()
        return self.picture(
            lambda: draw_headline(info, self.study.arm_names),
            _slug(f"misalignment-against-gap-{where.modality}", where.dataset),
            _HEADLINE_CAPTION.format(route=route, task=where.task, dataset=where.dataset, split=where.split)
            + (_SLOPE_CAPTION if info.slope is not None else ""),
            f"{route} gain against modality gap for {counted(len(info.points), 'model')}, with controls",
        )

    def curves(self, within: Within) -> Picture | None:
        info, where = within.curves, within.where
        if not info.arms:
            return None
        return self.picture(
            lambda: draw_curves(info),
            _slug(f"inversion-curves-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
            f"({where.dataset}, {where.split}), one line a token count, mean over seeds; bands are 95 % "
            "intervals over queries. Red rings mark the settings quoted elsewhere. Step 0 is untrained "
            "tokens, the placebo.",
            f"Inversion curves of {counted(len(info.arms), 'arm')}",
        )

    def setting_curves(self, within: Within) -> Picture | None:
        info, where = within.setting_curves, within.where
        if not info.arms:
            return None
        return self.picture(
            lambda: draw_setting_curves(info),
            _slug(f"inversion-settings-{where.modality}", where.dataset),
            f"Gain of {where.route.upper()} over native by number of inversion steps on {where.task} "
            f"({where.dataset}, {where.split}), one panel a token count, one line a setting, mean over "
            "seeds; bands are 95 % intervals over queries. Red rings mark the settings quoted "
            "elsewhere. Of so many points the highest is too high by chance alone.",
            f"Inversion curves of {counted(len(info.settings), 'setting')}",
        )

    def training(self) -> list[Picture]:
        if not {"step", "loss", "temperature"} <= set(self.study.training.columns):
            return []
        info = training_info(self.study.training, self.labels)
        return [
            self.picture(
                lambda: draw_losses(info),
                "training-loss",
                "Loss and its parts as weighted in the objective, one line a seed. Models that failed or "
                "have not finished are drawn as far as they came.",
                f"Training loss of {counted(len(info.arms), 'arm')}",
            ),
            self.picture(
                lambda: draw_temperatures(info, self.study.arm_names),
                "training-temperature",
                "Temperature of the contrastive loss during training, on a logarithmic axis, one line a "
                "seed.",
                f"Temperature of {counted(len(info.arms), 'arm')} during training",
            ),
        ]

    def projections(self) -> list[Picture]:
        pictures = []
        for dataset in dict.fromkeys(self.study.projection["dataset"]):
            info = projection_info(self.study.projection, dataset, self.labels)
            pictures.append(
                self.picture(
                    lambda info=info: draw_projection(info),  # type: ignore[misc]
                    _slug("projection", dataset),
                    f"Both modalities' embeddings of {dataset} in two dimensions ({info.method}), one "
                    "model an arm (its first seed). Two coordinates of many: distances here are not the "
                    "gap that is reported.",
                    f"Image and text embeddings of {counted(len(info.arms), 'arm')} in two dimensions",
                )
            )
        return pictures

    def histograms(self, results: Results) -> list[Picture]:
        """Draw the similarities of the leading tasks and the pairs of the gap."""
        leading = {"gap", *(within.where.task for within in results.within)}
        pictures = []
        for dataset in dict.fromkeys(self.study.histograms["dataset"]):
            for info in histogram_infos(self.study.histograms, dataset, self.labels):
                if info.task in leading:
                    pictures.append(
                        self.picture(
                            lambda info=info: draw_histograms(info),  # type: ignore[misc]
                            _slug(f"similarities-{info.task}", dataset),
                            f"{_histogram_caption(info.task, dataset)}{_left_out(info.left_out)}",
                            f"Histograms of cosine similarity on {info.task}",
                        )
                    )
        return pictures

    def more(self, results: Results) -> dict[str, list[Picture]]:
        """Draw what only some studies can show, by the section of the page; empty where there is nothing."""
        return {
            "mention": self.mention(results),
            "factors": self.factors(results),
            "seeds": self.seed_effects(results),
            "dose": self.doses(results),
            "ladder": self.ladders(results),
            "front": self.front(results),
            "factorial": self.factorial(results),
            "classes": self.classes(results),
            "published_figure": self.published(results),
        }

    def seed_effects(self, results: Results) -> list[Picture]:
        table = designed.differences(results.quantities, self.study.baseline, level=results.bootstrap.level)
        if table.empty:
            return []
        info = seed_effects_info(table.assign(label=table["arm"].map(self.labels)), most=6)
        return [
            self.picture(
                lambda: draw_seed_effects(info),
                "differences-over-seeds",
                "Each arm minus the baseline, seed by seed (dots), their mean, and t intervals from three "
                "seeds on. The test queries are the same in all seeds: an interval speaks of other seeds, "
                f"not of other queries.{_said(info.note)}{_left_out(info.left_out)}",
                f"Differences of {counted(len(info.arms), 'arm')} to the baseline by seed",
            )
        ]

    def doses(self, results: Results) -> list[Picture]:
        rungs = designed.ladders(self.study)
        points, summary = designed.along(results.quantities, rungs, level=results.bootstrap.level)
        if points.empty:
            return []
        info = dose_info(points, self.labels, summary)
        return [
            self.picture(
                lambda: draw_doses(info),
                "dose-response",
                "What each model shows over the strength of what was added to the objective; 0 is the "
                "baseline. One dot a model, lines join the means over seeds, bars are t intervals over "
                f"seeds, from three on.{_left_out(info.left_out)}",
                f"Response to {counted(len(rungs), 'ladder')} of strengths",
            )
        ]

    def ladders(self, results: Results) -> list[Picture]:
        pictures = []
        for within in results.within:
            points, summary = designed.over_temperatures(
                self.study, results.values, within.where, level=results.bootstrap.level
            )
            if points.empty:
                continue
            info = ladder_info(points, summary)
            where = within.where
            pictures.append(
                self.picture(
                    lambda info=info: draw_ladder(info),  # type: ignore[misc]
                    _slug(f"temperature-ladder-{where.modality}", where.dataset),
                    f"The ladder of temperatures on {where.task} ({where.dataset}, {where.split}). A gain "
                    "that vanishes where the gap closes says little where native retrieval fell as well. "
                    "One dot a model, lines join the means, bars are t intervals over seeds, from three "
                    "on; diamonds: a temperature that was learned, at its last value.",
                    "Gap, mAP, inversion gain and hit@1 over the temperature of the contrastive loss",
                )
            )
        return pictures

    def mention(self, results: Results) -> list[Picture]:
        pictures = []
        for within in results.within:
            where = within.where
            points, means = designed.over_mention(
                self.study, results.values, where, within.gains, level=results.bootstrap.level
            )
            if points.empty:
                continue
            info = mention_info(points, means)
            pictures.append(
                self.picture(
                    lambda info=info: draw_mention(info),  # type: ignore[misc]
                    _slug(f"gain-over-mention-{where.modality}", where.dataset),
                    f"What {where.route.upper()} gains on {where.task} ({where.split}), native mAP and gap, "
                    "by how often training captions name each factor but the object. The scenes that are "
                    "measured are the same everywhere. Dots are models; bars of the gain are 95 % intervals "
                    "over queries, the others t intervals over seeds, from three on.",
                    f"Inversion gain over what captions say, {counted(len(info.lines), 'line')}",
                )
            )
            gains = designed.over_mention_and_steps(self.study, within.points)
            pictures.append(
                self.picture(
                    lambda gains=gains: draw_mention_and_steps(gains),  # type: ignore[misc]
                    _slug(f"gain-over-mention-and-steps-{where.modality}", where.dataset),
                    f"Gain of {where.route.upper()} over native in mAP points on {where.task}, by mention "
                    "and steps of inversion, mean over seeds. Bold: the 95 % interval over queries lies off "
                    "0, for each cell by itself.",
                    "Inversion gain over what captions say and steps of inversion",
                )
            )
        return pictures

    def factors(self, results: Results) -> list[Picture]:
        slopes = factor_slopes(results.quoted_rows)
        pictures = []
        for (dataset, split), here in slopes.groupby(["dataset", "split"], sort=False):
            info = factor_info(here, self.labels)
            pictures.append(
                self.picture(
                    lambda info=info: draw_factors(info),  # type: ignore[misc]
                    _slug("factors", str(dataset)),
                    "Which factor similarity follows: by how many standard deviations the cosine of two "
                    f"images ({dataset}, {split}) rises where they share it, the other factors held; native, "
                    "and with the query inverted at the chosen setting. Means over seeds; bars are means of "
                    f"the models' 95 % intervals over classes.{_left_out(info.left_out)}",
                    f"Factors that similarity follows in {counted(len(info.arms), 'arm')}",
                )
            )
        return pictures

    def front(self, results: Results) -> list[Picture]:
        pictures = []
        for modality in ("image", "text"):
            models = designed.trade_offs(results.quantities, modality)
            if models.empty or models["arm"].nunique() < 3:
                continue
            info = front_info(
                models.assign(label=models["arm"].map(self.labels)),
                x="hit@1 across modalities (%)",
                y=f"native mAP among {modality}s (%)",
                colour="modality gap (centroid distance)",
            )
            pictures.append(
                self.picture(
                    lambda info=info: draw_front(info),  # type: ignore[misc]
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
            )
        return pictures

    def factorial(self, results: Results) -> list[Picture]:
        if results.effects.empty:
            return []
        info = factorial_info(results.effects)
        return [
            *self.surfaces(results),
            self.picture(
                lambda: draw_factorial(info),
                "factorial-effects",
                "Main effects (from the lowest level of a factor to its highest) and two-way interactions, "
                f"with {100 * results.bootstrap.level:g} % intervals, seeds as "
                f"blocks.{_left_out(info.left_out)}",
                f"Factorial effects on {joined(list(dict.fromkeys(results.effects['quantity'])))}",
            ),
        ]

    def surfaces(self, results: Results) -> list[Picture]:
        pictures = []
        for quantity, points, settings in designed.surface(self.study, results.quantities):
            info = surface_info(points, settings, quantity=quantity.name, unit=quantity.unit)
            pictures.append(
                self.picture(
                    lambda info=info: draw_surface(info),  # type: ignore[misc]
                    _slug("surface", quantity.name),
                    f"{quantity.name} over {joined(settings)}, each cell the mean over its models. Settings "
                    "of inversion are those that were asked for, not chosen: of so many cells the highest "
                    f"is too high by chance alone.{_left_out(info.left_out)}",
                    f"{quantity.name} over {joined(settings)}",
                )
            )
        return pictures

    def classes(self, results: Results) -> list[Picture]:
        first = sorted(self.labels, key=lambda arm: arm != self.study.baseline)
        pictures = []
        for within in results.within:
            where = within.where
            info = class_gain_info(within.query_gains, {arm: self.labels[arm] for arm in first})
            if not info.arms:
                continue
            pictures.append(
                self.picture(
                    lambda info=info: draw_class_gains(info),  # type: ignore[misc]
                    _slug(f"gain-by-class-{where.modality}", where.dataset),
                    f"Gain of {where.route.upper()} over native by query class on {where.task} "
                    f"({where.dataset}, {where.split}): mean over queries and seeds, dots by seed. The "
                    "classes at both ends are there partly by chance: with few queries a class's gain is "
                    f"uncertain.{_left_out(info.left_out)}",
                    f"Inversion gain by class for {counted(len(info.arms), 'arm')}",
                )
            )
        return pictures

    def published(self, results: Results) -> list[Picture]:
        if not measures_published(self.study):
            return []
        ours = designed.beside_published(results.values, [within.where for within in results.within])
        if ours.empty:
            return []
        info = published_info(ours, self.labels)
        return [
            self.picture(
                lambda: draw_published(info),
                "published-averages",
                "Published averages of released models, and this study: native and by the route. They are "
                f"not comparable in size: other data, models and tasks.{_left_out(info.left_out)}",
                "Published averages beside those of this study",
            )
        ]

    def strips(self, info: StripsInfo) -> None:
        """Save the nearest neighbours of a model; the page shows them as pictures of their own."""
        name = _slug(f"neighbours-{info.task}-{info.arm}", info.dataset)
        self.saver.save(lambda: draw_strips(info), self.folder, name)


def _said(note: str) -> str:
    return f" {note[0].upper()}{note[1:]}." if note else ""


def _left_out(names: tuple[str, ...]) -> str:
    return f" Not shown: {'; '.join(names)}." if names else ""


def _slug(*parts: str) -> str:
    text = "-".join(parts)
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
