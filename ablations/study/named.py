"""The named studies. Each says its question, its design, what it costs and which analysis it feeds.

They run on scenes; ``--data emoji`` puts one on emoji, where ``map`` is at home.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from ablations.study.arms import (
    ROUTES,
    TEMPLATES,
    WORLDS,
    World,
    arm_at_mention,
    arm_at_temperature,
    arm_of,
    arm_saying,
    arm_times,
    fast_plan,
    plans_of_the_demo,
    shared_weights,
    shortened,
    trained_on,
    varied_arm,
)
from ablations.study.axes import Axis
from ablations.study.findings import findings
from ablations.study.study import AS_TRAINED, Arm, Study, grid_arms
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.inversion.config import InversionConfig, Target
from pretrain.recipes import RECIPES

MENTIONS = (0.0, 0.1, 0.3, 0.6, 1.0)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
MULTIPLES = (0.25, 1.0, 4.0)
TEMPERATURES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 1.0)


def demo(data: World = "scenes") -> Study:
    """Do an image-image term, a gap penalty or what captions say change what inversion gains?

    Small CLIPs on embedded scenes, two paired seeds: a first look in minutes, not a result.

        python -m ablations.sweep

    Design: four arms that differ from the baseline in one thing, every one with both seeds: an image-image
    term, a centroid penalty, captions that name every factor (on emoji instead: a learnable temperature).
    On scenes they train for half of the recipe's steps. OTI by the paper's settings, OVI by L-BFGS,
    both stopped where the validation split says.

    Budget: 8 trials of 140 s on one core, about 9 minutes on 2 cores; on one GPU about 5 minutes, a guess.

    Analysis: the report's table of routes and its figure of inversion gain against gap.
    """
    arms = [arm_of(name, data) for name in ("baseline", "image-image", "centroid")]
    if data == "scenes":
        arms.append(arm_saying(1.0, "says-all", "captions that say all"))
        arms = [shortened(arm, 1 / 2) for arm in arms]
    else:
        arms.append(arm_of("learnable", data))
    return Study(
        name="demo",
        description=f"Small CLIPs on embedded {data} that differ in one thing each.",
        arms=tuple(arms),
        baseline="baseline",
        seeds=(0, 1),
        evaluation=EvaluationConfig(routes=ROUTES, plans=plans_of_the_demo(data)),
        dataset=WORLDS[data],
        core_seconds=140 if data == "scenes" else 200,
    )


def information(data: World = "scenes") -> Study:
    """Does the gain of inversion follow what captions leave out, and does the gap?

    In released models nobody knows what captions say of their images; here it is one number. Schrodi et al.
    (Two Effects, One Trigger, 2025) hold that information which only images have causes both the gap and the
    bias towards objects; on scenes both can be read off directly.

        python -m ablations.sweep --study information

    Design: captions name each factor but the object with probability 0, .1, .3, .6 or 1; crossed with the
    temperature (.01 or learned from .07) and with NT-Xent between images (off or on). The scenes that models
    are measured on are the same for all; training has two thirds of the recipe's steps. Steps of inversion
    are snapshots of one run, so that the gain is a surface over steps and mention. Two paired seeds; more
    with --seeds.

    Budget: 40 trials of 150 s on one core, about 50 minutes on 2 cores; on one GPU about 25 minutes, a guess.

    Analysis: gain over mention by arm, gap over mention, which factor similarity follows natively and
    inverted. Axes for qmc, tune and pareto: mention and the weight of the image-image term.
    """
    if data == "emoji":
        raise InputError(
            "study 'information' varies what captions say, which those of emoji cannot: use scenes"
        )
    crossed = [("baseline", False), ("learnable", False), ("baseline", True), ("learnable", True)]
    arms = {
        mention: [
            shortened(arm_at_mention(recipe, mention, image_image=term), 2 / 3) for recipe, term in crossed
        ]
        for mention in MENTIONS
    }
    baseline = arms[0.3][0]
    return replace(
        demo(data),
        name="information",
        description="What captions say, by temperature and image-image term.",
        arms=(baseline, *(arm for cells in arms.values() for arm in cells if arm != baseline)),
        baseline=baseline.name,
        dataset=AS_TRAINED,
        axes=(
            Axis(name="data.mention", low=0.0, high=1.0, grid=MENTIONS),
            Axis(name="objective.weights.image_ntxent", low=0.03, high=4.0, log=True, grid=WEIGHTS),
        ),
        core_seconds=150,
    )


def first_map(data: World = "emoji") -> Study:
    """What does each term of the objective do, at its default weight and the size of the demo?

    Every recipe once, two paired seeds, inversion by the fast schedule: a map of where to look, not a result.

        python -m ablations.sweep --study map

    Design: each of the recipes against the baseline; one pseudo-token, the last step of the fast schedule.

    Budget: 82 trials of 150 s on one core, about 1.7 hours on 2 cores; on one GPU about 51 minutes, a guess.

    Analysis: the tables of docs/first-map.md, by ``python -m analysis.term_map``.
    """
    return Study(
        name="map",
        description="Small CLIPs on embedded emoji: every term at its default weight against the baseline.",
        arms=tuple(arm_of(name, data) for name in RECIPES),
        baseline="baseline",
        seeds=(0, 1),
        evaluation=EvaluationConfig(
            routes=("chance", "native", "oti", "ovi", "untrained_tokens", "centred"),
            plans={into: fast_plan(into, (), data) for into in get_args(Target)},
        ),
        dataset=WORLDS[data],
        core_seconds=150,
    )


def inversion(data: World = "scenes") -> Study:
    """How does what OTI gains depend on steps, learning rate and tokens, and is it the same in all arms?

    The paper shows that more steps undo the gain; whether its 150 steps, one token and learning rate .02 are
    fair to models of another objective is open.

        python -m ablations.sweep --study inversion

    Design: the models of ``demo``, bit for bit; 3 learning rates (the paper's, a quarter and four times of
    it) x 3 token counts x 8 step counts = 72 settings of OTI a model, all in one batch, beside native
    features and untrained tokens (step 0). The chosen setting is that of the validation split.

    Budget: 8 trials of 150 s on one core, about 10 minutes on 2 cores; on one GPU about 5 minutes, a guess.
    That is with training; where the models of ``demo`` are there, inversion and measuring are what is left.

    Analysis: curves of gain and loss over steps by tokens and learning rate; the setting that validation
    chose against the best on test.
    """
    oti = InversionPlan(
        config=InversionConfig(steps=50, batch_size=128, template=TEMPLATES[data]),
        learning_rates=(5e-3, 2e-2, 8e-2),
        token_counts=(1, 2, 4),
        snapshots=(0, 2, 5, 10, 17, 25, 33, 41, 50),
    )
    return replace(
        demo(data),
        name="inversion",
        description="The demo's models: OTI over learning rates, token counts and steps.",
        evaluation=EvaluationConfig(
            routes=("chance", "native", "oti", "untrained_tokens"), plans={"text": oti}
        ),
        core_seconds=150,
    )


def intra(data: World = "scenes") -> Study:
    """Does a term within a modality mend it, how much of the term, and is it the term or what it costs?

    The paper infers from SLIP, trained on other data than its CLIP, that an image-image term takes away what
    inversion gains. It has no text-text term, and SLIP's term lies behind a head, off the shared embedding.

        python -m ablations.sweep --study intra

    Design: weights .25 to 2 of NT-Xent between images, between texts, and of both (half the weight each). At
    weight 1 a 2 x 2 of head off / on and mild / strong views (image-w100, image-strong, head, slip).
    Controls: the extra view without the term, the baseline with the time that it costs, and images alone as
    the reference that never saw a text. Three paired seeds.

    Budget: 57 trials of 250 s on one core, about 2.0 hours on 2 cores; on one GPU about 59 minutes, a guess.

    Analysis: native mAP and inversion gain over the weight, image against text side; differences to
    extra-views and matched-compute beside those to the baseline. Axes for qmc, tune and pareto: both weights.
    """
    ladders = [
        varied_arm(
            recipe,
            f"{name}-w{100 * weight:03.0f}",
            f"{what}, weight {weight:g}",
            shared_weights(terms, weight),
            data,
        )
        for recipe, name, what, terms in (
            ("image-image", "image", "+ image-image", ("image_ntxent",)),
            ("text-text", "text", "+ text-text", ("text_ntxent",)),
            ("image-image-text-text", "both", "+ image-image and text-text", ("image_ntxent", "text_ntxent")),
        )
        for weight in WEIGHTS
    ]
    image, head = RECIPES["image-image"], RECIPES["slip"]
    strong = Arm(
        name="image-strong",
        label="+ image-image, strong views",
        description=f"{image.description}, the second view as strong as those of SLIP",
        train=trained_on(replace(image(), extra_augment=head().extra_augment), data),
    )
    mild = Arm(
        name="head",
        label="+ image-image behind a head, mild views",
        description=f"{head.description}, but no stronger than the first",
        train=trained_on(replace(head(), extra_augment=None), data),
    )
    return Study(
        name="intra",
        description="Contrast within images, within texts and within both, by weight, with its controls.",
        arms=(
            arm_of("baseline", data),
            *ladders,
            strong,
            mild,
            *(arm_of(name, data) for name in ("slip", "extra-views", "matched-compute", "images-alone")),
        ),
        baseline="baseline",
        seeds=(0, 1, 2),
        evaluation=EvaluationConfig(routes=ROUTES, plans=plans_of_the_demo(data)),
        axes=tuple(
            Axis(name=f"objective.weights.{term}", low=0.03, high=4.0, log=True, grid=WEIGHTS)
            for term in ("image_ntxent", "text_ntxent")
        ),
        dataset=WORLDS[data],
        core_seconds=250,
    )


def gap(data: World = "scenes") -> Study:
    """Does inversion gain less where the gap is smaller, or only where the model is worse?

    The paper closes the gap by temperature 1, which costs a third of native mAP as well; so its gain may
    vanish with the quality. A ladder shows both, and regularizers reach the same gap by other ways.

        python -m ablations.sweep --study gap

    Design: eight fixed temperatures, the paper's .01 and 1 among them; every recipe of the family ``gap`` at
    a quarter, once and four times its default strengths. Three paired seeds, the fast inversion at one and
    four tokens, stopped where the validation split says.

    Budget: 159 trials of 170 s on one core, about 3.8 hours on 2 cores; on one GPU about 1.9 hours, a guess.

    Analysis: gain against centroid distance and against native mAP over the ladders, so that arms of equal
    quality can be compared; the report's figure of gain against gap. Axes for qmc, tune and pareto:
    temperature and the weights of three penalties.
    """
    return Study(
        name="gap",
        description="A ladder of temperatures and every gap regularizer at three strengths.",
        arms=(
            arm_of("baseline", data),
            *(arm_at_temperature(value, data) for value in TEMPERATURES[1:]),
            *(
                arm_times(name, multiple, data)
                for name, recipe in RECIPES.items()
                if recipe.family == "gap"
                for multiple in MULTIPLES
            ),
        ),
        baseline="baseline",
        seeds=(0, 1, 2),
        evaluation=_inverted_fast(data),
        axes=(
            Axis(name="objective.temperature.initial", low=0.01, high=1.0, log=True, grid=TEMPERATURES),
            *(
                Axis(name=f"objective.weights.{term}", low=0.01, high=10.0, log=True, grid=MULTIPLES)
                for term in ("centroid_penalty", "pair_alignment", "centroid_uniformity")
            ),
        ),
        dataset=WORLDS[data],
        core_seconds=170,
    )


def factorial(data: World = "scenes") -> Study:
    """Do an image-image term, a gap penalty and the temperature add up, or does one change the others?

    Arms that differ from a baseline in one thing cannot tell: an effect may hold at that baseline alone.

        python -m ablations.sweep --study factorial

    Design: all 2 x 2 x 2 combinations of NT-Xent between images (weight 0, 1), the centroid penalty (0, 1)
    and the temperature (.01, .07); the baseline is the cell with neither term at .01. Five paired seeds.

    Budget: 40 trials of 190 s on one core, about 63 minutes on 2 cores; on one GPU about 32 minutes, a guess.

    Analysis: main effects and interactions are contrasts of the cells' means, each within a seed, so their
    spread over five seeds is the error. Axes for qmc, tune and pareto: both weights and the temperature.
    """
    axes = (
        Axis(name="objective.weights.image_ntxent", low=0.0, high=2.0, grid=(0.0, 1.0)),
        Axis(name="objective.weights.centroid_penalty", low=0.0, high=2.0, grid=(0.0, 1.0)),
        Axis(name="objective.temperature.initial", low=0.01, high=0.2, log=True, grid=(0.01, 0.07)),
    )
    return Study(
        name="factorial",
        description="Image-image term, centroid penalty and temperature in all combinations.",
        arms=grid_arms(arm_of("baseline", data), axes),
        baseline="baseline",
        seeds=(0, 1, 2, 3, 4),
        evaluation=_inverted_fast(data),
        axes=axes,
        dataset=WORLDS[data],
        core_seconds=190,
    )


def claims(data: World = "scenes") -> Study:
    """Do the five claims of the paper hold in small CLIPs, beside the controls that could explain them away?

    1. The loss between modalities leaves similarity within each unaligned. Look at ``baseline`` on the
       image-image and text-text tasks: same_other_auc and mAP of native features beside those of the maps
       class_pca, caption_pca, image_pca, whitened and isoclip. Against it: random_subspace, of equal rank,
       brings as much, or ``images-alone``, which has no second modality, shows the same indicators.
    2. Making the query's task one between modalities helps. Look at oti on image-image and ovi on text-text
       tasks. Against it: the gain is no larger than that of untrained_tokens, shuffled_targets,
       random_rotation, of oti_both and ovi_both, which do not cross, or of ridge and procrustes, which cross
       and invert nothing; or it is there by subgroup, where the right answer is one of several, and not by
       concept.
    3. Making a task between modalities one within hurts. Look at oti and ovi on the zero-shot tasks. Against
       it: no loss; or ridge and procrustes, which make the same change without inverting, lose nothing, so
       that what hurts is inversion that stays off its target (the rows of its loss).
    4. A term within the modality takes the gain away. Look at the gain of ``image-image``, ``slip``,
       ``text-text`` and ``image-image-text-text`` minus the baseline's. Against it: the gain stays, or goes
       as well in ``extra-views`` and ``matched-compute``, which have the views and the time but not the term.
    5. Closing the gap takes the gain away. Look at the ladder of temperatures, ``centroid`` and
       ``align-uniform``, and at the maps centred, shifted and orthogonal_closing, which close it afterwards.
       Against it: arms of equal gap keep the gain; or it goes in ``steps-quarter`` and ``steps-half`` too,
       which are as weak and have the gap.

        python -m ablations.sweep --study claims

    Design: 18 arms, five paired seeds, every route of the toolkit, inversion by the paper's settings (into
    images: the fast schedule), stopped where the validation split says. The sealed split stays closed.

    Budget: 90 trials of 240 s on one core, about 3.0 hours on 2 cores; on one GPU about 1.5 hours, a guess.

    Analysis: per claim the named differences, paired by seed and query, with Holm's correction over the
    claims; that a gain is gone wants an equivalence test with a margin fixed before, not a wide interval.

    What it cannot say: towers of four layers that saw 1,114 concepts of emoji find a few percent of the
    texts. A claim that fails here may hold in a released CLIP, and the other way round; the fifth is trained
    from scratch here, where the paper fine-tunes. Mechanisms can be refuted as sufficient, sizes not
    transferred. docs/reproduce.md measures released models.
    """
    whole = arm_of("baseline", data).train.steps
    short = [
        varied_arm("baseline", f"steps-{share}", f"baseline, {steps} steps", {"steps": steps}, data)
        for share, steps in (("quarter", whole // 4), ("half", whole // 2))
    ]
    names = ("image-image", "slip", "text-text", "image-image-text-text")
    controls = ("extra-views", "matched-compute", "images-alone")
    return Study(
        name="claims",
        description="The five claims about intra-modal misalignment, each beside its controls.",
        arms=(
            *(arm_of(name, data) for name in ("baseline", *names, *controls)),
            *(arm_at_temperature(value, data) for value in (0.02, 0.04, 0.07, 0.1, 0.4, 1.0)),
            arm_of("centroid", data),
            arm_of("align-uniform", data),
            *short,
        ),
        baseline="baseline",
        seeds=(0, 1, 2, 3, 4),
        evaluation=EvaluationConfig(plans=plans_of_the_demo(data)),
        dataset=WORLDS[data],
        core_seconds=240,
    )


def _inverted_fast(data: World) -> EvaluationConfig:
    texts, images = fast_plan("text", (0, 5, 10), data), fast_plan("image", (0, 20, 40), data)
    return EvaluationConfig(routes=ROUTES, plans={"text": texts, "image": images})


STUDIES: dict[str, Callable[..., Study]] = {
    "demo": demo,
    "information": information,
    "map": first_map,
    "inversion": inversion,
    "intra": intra,
    "gap": gap,
    "factorial": factorial,
    "claims": claims,
    "findings": findings,
}
