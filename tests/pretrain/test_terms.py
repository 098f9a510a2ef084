"""What every term of the registry promises: its loop, its closed form, its gradient, its symmetries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from pretrain.data.streams import stream
from pretrain.objective import Moment, build_modules, evaluate_objective
from pretrain.settings import ObjectiveConfig
from pretrain.terms import TERMS, Setup
from pretrain.terms.adversarial import ModalityClassifier
from pretrain.terms.distillation import SelfDistillation
from pretrain.terms.distribution import mmd, sliced_wasserstein
from pretrain.terms.infonce import info_nce
from pretrain.terms.modifiers import MODIFIERS, HostInputs
from pretrain.terms.nearest import NearestNeighbours
from pretrain.terms.ntxent import nt_xent
from pretrain.terms.separation import intra_modal_separation, semantic_separation
from pretrain.terms.supervised import supervised_contrast
from pretrain.terms.vicreg import vicreg
from pretrain.terms.views import VIEWS, Views
from tests.reference_terms import PLAIN, Call, dot, plain_info_nce, plain_vicreg, unit

WIDTH, DIM = 6, 4
MOMENT = Moment(
    step=2, steps=5, seed=4
)  # progress .4; no two rows tie on a direction, where sorting has a kink
STATEFUL = [name for name, term in TERMS.items() if term.module is not None]
# no symmetry to expect: the sides play different parts
LOPSIDED = {"self_distillation", "adversarial", "clip_second_view"}
# terms that see two clouds and no pairs
UNPAIRED = {"centroid_penalty", "in_modal_uniformity", "coral", "mmd", "sliced_wasserstein", "adversarial"}
# terms whose gradient is not that of their value, with the test that holds instead
NO_GRADCHECK = {
    "mmd": "test_the_bandwidth_of_mmd_is_a_constant",
    "adversarial": "test_the_adversary_gets_its_gradient_and_the_towers_the_reverse",
}
# terms that draw, or have a network of their own, do not look the same from every direction
DIRECTED = {*STATEFUL, "sliced_wasserstein", "rafa"} - {"siglip"}


def views_of(name: str, batch: int = 5, seed: int = 0) -> Views:
    """Draw the views of a term; the suffix of a view's name says what it is."""
    generator = torch.Generator().manual_seed(seed)
    drawn: Views = {}
    for view in TERMS[name].inputs:
        kind = view.rsplit("_", 1)[1]
        if kind == "B":
            drawn[view] = torch.arange(batch) // 2
            continue
        shape = {"BD": (batch, DIM), "BW": (batch, WIDTH), "BKW": (batch, 2, WIDTH), "BS": (batch, 3)}[kind]
        rows = torch.randn(shape, generator=generator, dtype=torch.float64)
        level = VIEWS[view].level
        drawn[view] = F.normalize(rows, dim=-1) if level == "unit" else rows
    return drawn


def modules_of(name: str, dtype: torch.dtype = torch.float64) -> nn.ModuleDict:
    """Build a term's state and let it live through one step, so that nothing in it is zero."""
    modules = build_modules(ObjectiveConfig(weights={name: 1.0}), Setup(WIDTH, DIM), seed=1).to(dtype)
    for module in modules.values():
        module.after_step(*(view.to(dtype) for view in views_of(name, seed=7).values()))
    return modules


def call(
    name: str, views: Views, temperature: Tensor | float = 0.3, modules: nn.ModuleDict | None = None
) -> Tensor:
    own = isinstance(TERMS[name].temperature, float)
    config = ObjectiveConfig(weights={name: 1.0}, temperatures={name: float(temperature)} if own else {})
    modules = modules_of(name) if modules is None else modules
    return evaluate_objective(views, config, temperature=temperature, moment=MOMENT, modules=modules).total


def differentiable(views: Views) -> list[str]:
    return [view for view in views if VIEWS[view].differentiable]


@pytest.mark.parametrize("name", TERMS)
class TestContract:
    """What every term of the registry promises."""

    def test_takes_views_that_exist(self, name: str) -> None:
        assert set(TERMS[name].inputs) <= set(VIEWS)
        assert len(TERMS[name].inputs) >= 2
        assert TERMS[name].weight > 0

    def test_is_a_scalar_of_the_dtype_of_its_inputs(self, name: str) -> None:
        for dtype in (torch.float32, torch.float64):
            views = {view: v.to(dtype) if v.is_floating_point() else v for view, v in views_of(name).items()}
            value = call(name, views, modules=modules_of(name, dtype))
            assert value.shape == ()
            assert value.dtype == dtype
            assert value.isfinite()

    @pytest.mark.parametrize("batch", [2, 5])
    def test_equals_a_plain_loop(self, name: str, batch: int) -> None:
        assert name in PLAIN, f"write {name} as a plain loop in tests/reference_terms.py and list it in PLAIN"
        views, modules = views_of(name, batch), modules_of(name)
        module = dict(modules).get(name)
        generator = stream(MOMENT.seed, name, MOMENT.step)
        plain = PLAIN[name](Call(list(views.values()), 0.3, 0.4, module, generator))
        assert call(name, views).item() == pytest.approx(plain, rel=1e-10)

    def test_has_a_closed_form(self, name: str) -> None:
        assert name in CLOSED, f"find a case of {name} whose value is known, and list it in CLOSED"
        for value, expected in CLOSED[name](name):
            assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)

    def test_gradients(self, name: str) -> None:
        views, modules = views_of(name), modules_of(name)
        leaves = [views[view].requires_grad_() for view in differentiable(views)]
        for gradient in torch.autograd.grad(call(name, views, modules=modules), leaves):
            assert gradient.abs().max() > 0
        if name in NO_GRADCHECK:
            assert NO_GRADCHECK[name] in globals()
            return

        def value(*changed: Tensor) -> Tensor:
            return call(
                name, {**views, **dict(zip(differentiable(views), changed, strict=True))}, modules=modules
            )

        assert torch.autograd.gradcheck(value, leaves)

    def test_gradients_reach_its_own_parameters(self, name: str) -> None:
        modules = modules_of(name)
        parameters = [p for p in modules.parameters() if p.requires_grad]
        rows = {view: r.requires_grad_(r.is_floating_point()) for view, r in views_of(name).items()}
        value = call(name, rows, modules=modules)
        if parameters:
            # a bias before a norm over the batch has no effect, so not every parameter must
            found = torch.autograd.grad(value, parameters)
            assert sum(bool(gradient.abs().max() > 1e-12) for gradient in found) > len(found) / 2

    def test_is_a_pure_function(self, name: str) -> None:
        views, modules = views_of(name), modules_of(name)
        before = {key: tensor.clone() for key, tensor in modules.state_dict().items()}
        assert torch.equal(call(name, views, modules=modules), call(name, views, modules=modules))
        assert all(torch.equal(before[key], tensor) for key, tensor in modules.state_dict().items())

    def test_ignores_the_order_of_the_pairs(self, name: str) -> None:
        if name == "rafa":  # which draws for each row: there the order of the draws is that of the pairs
            return
        order = torch.tensor([3, 1, 4, 0, 2])
        views, modules = views_of(name), modules_of(name)
        shuffled = {view: rows[order] for view, rows in views.items()}
        assert torch.allclose(call(name, views, modules=modules), call(name, shuffled, modules=modules))

    def test_depends_on_which_rows_are_paired_or_says_not(self, name: str) -> None:
        views, modules = views_of(name), modules_of(name)
        first = TERMS[name].inputs[0]
        turned = {**views, first: views[first].roll(1, 0)}
        same = torch.allclose(call(name, views, modules=modules), call(name, turned, modules=modules))
        assert same == (name in UNPAIRED)

    def test_ignores_a_common_rotation(self, name: str) -> None:
        if name in DIRECTED:
            return
        views = views_of(name)
        rotation = torch.linalg.qr(torch.randn((DIM, DIM), generator=stream(0), dtype=torch.float64))[0]
        turned = {view: rows @ rotation if view.endswith("BD") else rows for view, rows in views.items()}
        assert torch.allclose(call(name, views), call(name, turned))

    def test_is_symmetric_in_its_sides(self, name: str) -> None:
        if name in LOPSIDED:
            return
        views, modules = views_of(name), modules_of(name)
        first, second, *_ = views
        mirrored = {**views, first: views[second], second: views[first]}
        assert torch.allclose(call(name, views, modules=modules), call(name, mirrored, modules=modules))

    def test_the_host_temperature_may_be_a_tensor_that_learns(self, name: str) -> None:
        if TERMS[name].temperature != "host":
            return
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        call(name, views_of(name), temperature).backward()
        assert temperature.grad is not None
        assert temperature.grad.abs() > 0


# closed forms: (value, expected) of cases that can be done on paper, B = 4 unless said otherwise

APART = torch.eye(4, dtype=torch.float64)
SAME = torch.eye(1, 4, dtype=torch.float64).expand(4, -1)
SHIFTED = APART.roll(1, dims=0)
EQUAL_STATES = torch.ones(4, WIDTH, dtype=torch.float64)
SMALL = math.exp(-1 / 0.3)
Case = tuple[Tensor, float]


def given(name: str, *rows: Tensor, modules: nn.ModuleDict | None = None) -> Tensor:
    return call(name, dict(zip(TERMS[name].inputs, rows, strict=True)), modules=modules)


def _info_nce(name: str) -> list[Case]:
    return [
        (given(name, SAME, SAME), math.log(4)),
        (given(name, APART, APART), math.log1p(3 * SMALL)),
        (given(name, APART, SHIFTED), 1 / 0.3 + math.log1p(3 * SMALL)),
    ]


def _siglip(name: str) -> list[Case]:
    # all cosines 0 but the pairs' 1: each image meets its text at 1/.3 - 10 and three others at -10
    own, other = math.log1p(math.exp(10 - 1 / 0.3)), math.log1p(math.exp(-10))
    return [(given(name, APART, APART), own + 3 * other)]


def _nt_xent(name: str) -> list[Case]:
    return [
        (given(name, SAME, SAME), math.log(7)),
        (given(name, APART, APART), math.log1p(6 * SMALL)),
    ]


def _equal_states(name: str) -> list[Case]:
    return [(given(name, EQUAL_STATES, EQUAL_STATES), math.log(7))]  # any head maps them to one point


def _supervised(name: str) -> list[Case]:
    apart, one = torch.arange(4), torch.zeros(4, dtype=torch.long)
    total = math.log1p(6 * SMALL)
    return [
        (given(name, APART, APART, apart), total),
        (given(name, SAME, SAME, one), math.log(7)),
        # one concept, four directions: of seven positives one at 1, six at 0
        (given(name, APART, APART, one), (total + 6 * (total + 1 / 0.3)) / 7),
    ]


def _separation(name: str) -> list[Case]:
    return [
        (given(name, APART, APART), 2 * math.log1p(3 * SMALL)),
        (given(name, SAME, SAME), 2 * math.log(4)),
    ]


def _semantic_separation(name: str) -> list[Case]:
    alike, unlike = torch.ones(4, 1, dtype=torch.float64), APART
    return [
        (given(name, SAME, SAME, unlike), 2 * math.log(4)),
        # what means the same is not pushed apart
        (given(name, SAME, SAME, alike), 2 * math.log1p(3 * SMALL)),
    ]


def _vicreg(name: str) -> list[Case]:
    # collapsed: no difference, no covariance, and both sides lack all of their spread, 1 - sqrt(1e-4)
    return [(given(name, EQUAL_STATES, EQUAL_STATES), 25 * 0.99)]


def _nearest(name: str) -> list[Case]:
    empty = nn.ModuleDict({name: NearestNeighbours(Setup(WIDTH, DIM))}).double()
    full = nn.ModuleDict({name: NearestNeighbours(Setup(WIDTH, DIM))}).double()
    full[name].after_step(SAME)  # the nearest of every row is the first axis
    return [
        (given(name, SAME, SAME, modules=empty), math.log(4)),
        (given(name, APART, APART, modules=empty), math.log1p(3 * SMALL)),
        (given(name, APART, APART, modules=full), math.log(math.exp(1 / 0.3) + 3) - 1 / 0.3 / 4),
    ]


def _self_distillation(name: str) -> list[Case]:
    modules = nn.ModuleDict({name: SelfDistillation(Setup(WIDTH, DIM))}).double()
    for head in (modules[name].head, modules[name].teacher_head):
        nn.init.ones_(head.prototypes_PE)  # equal prototypes: both sides are uniform over all of them
    views = views_of(name)
    return [(call(name, views, modules=modules), math.log(8 * WIDTH))]


def _adversarial(name: str) -> list[Case]:
    modules = nn.ModuleDict({name: ModalityClassifier(Setup(WIDTH, DIM))}).double()
    for parameter in modules[name].classifier[-1].parameters():
        nn.init.zeros_(parameter)
    return [(given(name, APART, SAME, modules=modules), math.log(2))]


def _sliced_wasserstein(name: str) -> list[Case]:
    line = torch.ones(4, 1, dtype=torch.float64)
    return [
        (given(name, line, -line), 4),  # on a line every direction sees the whole distance
        (given(name, APART, SHIFTED), 0),  # the same cloud, in another order
    ]


def _mmd(name: str) -> list[Case]:
    # two points at a distance of 2, two rows each: the median of 0, 0, 2, 2, 2, 2 is 2
    one = SAME[:2]
    across = sum(math.exp(-1 / (2 * m**2)) for m in (1, 2, 4, 8, 16)) / 5
    return [(given(name, APART, SHIFTED), 0), (given(name, one, -one), 2 - 2 * across)]


def _rafa(name: str) -> list[Case]:
    noise = torch.randn((4, 3), generator=stream(MOMENT.seed, name, MOMENT.step), dtype=torch.float64)
    # one side at the noise, the other twice as far: the mean of (2 z)^2 over all entries
    return [(given(name, noise, noise), 0), (given(name, noise, -noise), 4 * noise.square().mean().item())]


CLOSED: dict[str, Callable[[str], list[Case]]] = {
    "clip": _info_nce,
    "siglip": _siglip,
    "clip_second_view": _info_nce,
    "image_ntxent": _nt_xent,
    "image_ntxent_head": _equal_states,
    "text_ntxent": _nt_xent,
    "text_ntxent_words": _nt_xent,
    "text_ntxent_dropout": _info_nce,
    "image_supervised": _supervised,
    "text_supervised": _supervised,
    # orthogonal images whose texts are one point: every pair but the own differs by 1
    "in_modal_consistency": lambda name: [(given(name, APART, SAME), 3), (given(name, APART, SHIFTED), 0)],
    "intra_modal_separation": _separation,
    "semantic_separation": _semantic_separation,
    "image_vicreg": _vicreg,
    "text_vicreg": _vicreg,
    "image_nearest": _nearest,
    "text_nearest": _nearest,
    "self_distillation": _self_distillation,
    "centroid_penalty": lambda name: [(given(name, SAME, -SAME), 4), (given(name, APART, SHIFTED), 0)],
    "pair_alignment": lambda name: [(given(name, SAME, -SAME), 4), (given(name, APART, SHIFTED), 2)],
    "centroid_uniformity": lambda name: [(given(name, SAME, SAME), 0), (given(name, APART, APART), -4)],
    "in_modal_uniformity": lambda name: [(given(name, SAME, SAME), 0), (given(name, APART, APART), -4)],
    "cross_uniformity": lambda name: [(given(name, SAME, -SAME), -8)],
    # texts are the images of their neighbours: <i_j, t_k> is a shift, its transpose the other shift
    "cross_modal_consistency": lambda name: [
        (given(name, APART, SHIFTED), 2),
        (given(name, APART, APART), 0),
    ],
    "sliced_wasserstein": _sliced_wasserstein,
    "mmd": _mmd,
    # covariance of the unit vectors: (Id - 1/4) / 3, of one point: 0; its squared norm is 1/3
    "coral": lambda name: [(given(name, APART, SHIFTED), 0), (given(name, APART, SAME), 1 / 3 / (4 * 4**2))],
    "adversarial": _adversarial,
    "rafa": _rafa,
}


# what the contract leaves to each


def unit_rows(count: int, batch: int = 5, dim: int = DIM, seed: int = 0) -> list[Tensor]:
    rows = torch.randn((count, batch, dim), generator=stream(seed), dtype=torch.float64)
    return list(F.normalize(rows, dim=-1))


def test_the_bandwidth_of_mmd_is_a_constant() -> None:
    rows = [row.requires_grad_() for row in unit_rows(2)]
    assert torch.autograd.gradcheck(lambda i, t: mmd(i, t, bandwidth=0.7), rows)
    together = torch.cat(rows)
    first, second = torch.triu_indices(10, 10, offset=1)
    median = (together[first] - together[second]).norm(dim=1).median().detach()
    by_default = torch.autograd.grad(mmd(*rows), rows)
    for one, two in zip(by_default, torch.autograd.grad(mmd(*rows, bandwidth=median), rows), strict=True):
        assert torch.allclose(one, two, atol=1e-14)


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.9])
def test_the_adversary_gets_its_gradient_and_the_towers_the_reverse(progress: float) -> None:
    module = ModalityClassifier(Setup(WIDTH, DIM)).double()
    rows = [row.requires_grad_() for row in unit_rows(2)]
    weight = next(module.parameters())
    *reversed_, own = torch.autograd.grad(module(*rows, progress=progress), [*rows, weight])
    labels = torch.cat([torch.ones(5), torch.zeros(5)]).double()
    plain = F.binary_cross_entropy_with_logits(module.classifier(torch.cat(rows)).squeeze(1), labels)
    *forward, plain_own = torch.autograd.grad(plain, [*rows, weight])
    strength = 2 / (1 + math.exp(-10 * progress)) - 1
    assert torch.allclose(own, plain_own)
    for one, two in zip(reversed_, forward, strict=True):
        assert torch.allclose(one, -strength * two)


def test_no_gradient_goes_through_what_was_remembered() -> None:
    first, second = (row.requires_grad_() for row in unit_rows(2))
    target = torch.arange(5)
    for module in (NearestNeighbours(Setup(WIDTH, DIM)), modules_of("image_nearest")["image_nearest"]):
        module.double()
        nearest = [module.nearest(rows).clone() for rows in (first, second)]
        assert not any(rows.requires_grad for rows in nearest)
        constant = sum(
            F.cross_entropy(own @ other.T / 0.1, target) / 2
            for own, other in zip(nearest, (second, first), strict=True)
        )
        for one, two in zip(
            torch.autograd.grad(module(first, second, temperature=0.1), [first, second]),
            torch.autograd.grad(constant, [first, second]),
            strict=True,
        ):
            assert torch.allclose(one, two)


def test_a_queue_forgets_the_oldest() -> None:
    module = NearestNeighbours(Setup(WIDTH, 1), size=4)
    for number in range(3):
        module.after_step(torch.tensor([[2.0 * number], [2.0 * number + 1]]))
    assert sorted(module.queue_QD.flatten().tolist()) == [2, 3, 4, 5]
    module.after_step(torch.arange(10, 20).float()[:, None])  # more than it holds
    assert sorted(module.queue_QD.flatten().tolist()) == [16, 17, 18, 19]


def test_a_queue_is_searched_where_it_is_filled() -> None:
    module = NearestNeighbours(Setup(WIDTH, DIM), size=8).double()
    rows = unit_rows(1, batch=3)[0]
    module.after_step(rows)
    # and not an empty place, whose similarity of 0 is the highest
    expected = rows[(rows @ -rows[0]).argmax()]
    assert torch.equal(module.nearest(-rows[:1])[0], expected)


def test_the_teacher_of_self_distillation_follows_and_gets_no_gradient() -> None:
    module = SelfDistillation(Setup(WIDTH, DIM, teacher_momentum=0.75)).double()
    views = views_of("self_distillation")
    local, teacher = views["local_state_BKW"], views["teacher_state_BW"].requires_grad_()
    module(local, teacher).backward()
    assert teacher.grad is None
    assert all(parameter.grad is None for parameter in module.teacher_head.parameters())
    assert all(parameter.grad is not None for parameter in module.head.parameters())
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.add_(1)
    before = [parameter.clone() for parameter in module.teacher_head.parameters()]
    outputs = module.teacher_head(teacher).mean(0)
    module.after_step(local, teacher.detach())
    assert torch.allclose(module.centre_P, 0.1 * outputs)
    for old, now, student in zip(
        before, module.teacher_head.parameters(), module.head.parameters(), strict=True
    ):
        assert torch.allclose(now, 0.75 * old + 0.25 * student)


def test_supervised_contrast_of_different_concepts_is_nt_xent() -> None:
    first, second = unit_rows(2)
    assert torch.allclose(
        supervised_contrast(first, second, torch.arange(5), temperature=0.1),
        nt_xent(first, second, temperature=0.1),
    )


def test_semantic_separation_of_unlike_captions_is_separation() -> None:
    image, text = unit_rows(2)
    unlike = torch.eye(5, dtype=torch.float64)
    assert torch.allclose(
        semantic_separation(image, text, unlike, temperature=0.3),
        intra_modal_separation(image, text, temperature=0.3),
    )


def test_vicreg_without_an_expander() -> None:
    first, second = (3 * rows for rows in unit_rows(2))
    assert vicreg(first, second).item() == pytest.approx(plain_vicreg(first.tolist(), second.tolist()))
    rows = [row.requires_grad_() for row in unit_rows(2)]
    assert torch.autograd.gradcheck(vicreg, rows)


def test_sliced_wasserstein_nears_its_expectation() -> None:
    # point masses at a distance of 2 in D dimensions: 4 E[theta_1^2] = 4 / D
    value = sliced_wasserstein(SAME, -SAME, generator=stream(0), directions=20_000)
    assert value.item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("batch", [2, 7])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_closed_forms_at_other_temperatures(batch: int, temperature: float) -> None:
    same, apart = torch.eye(1, 3).double().expand(batch, -1), torch.eye(batch).double()
    small = math.exp(-1 / temperature)
    for function, others in ((info_nce, batch - 1), (nt_xent, 2 * batch - 2)):
        assert function(same, same, temperature=temperature).item() == pytest.approx(math.log(others + 1))
        apart_value = function(apart, apart, temperature=temperature).item()
        assert apart_value == pytest.approx(math.log1p(others * small), abs=1e-15)


def test_one_antipodal_pair_of_views_has_only_its_positive() -> None:
    row = torch.tensor([[1.0, 0.0]])
    assert nt_xent(row, -row, temperature=0.1).item() == 0.0


def test_info_nce_equals_open_clip() -> None:
    image_BD, text_BD = unit_rows(2, 6)
    assert torch.allclose(
        info_nce(image_BD, text_BD, temperature=0.07), ClipLoss()(image_BD, text_BD, torch.tensor(1 / 0.07))
    )


def test_nt_xent_punishes_likeness_within_a_view() -> None:
    first, second = unit_rows(2, 6)
    crowded = F.normalize(first + 5 * first[:1], dim=-1)
    assert nt_xent(crowded, crowded, temperature=0.1) > nt_xent(first, first, temperature=0.1)
    assert nt_xent(first, first, temperature=0.1) < nt_xent(first, second, temperature=0.1)


def test_sharp_temperature_stays_finite() -> None:
    image_BD, text_BD = (rows.float() for rows in unit_rows(2))
    assert info_nce(image_BD, text_BD, temperature=0.01).isfinite()
    assert nt_xent(image_BD, text_BD, temperature=0.01).isfinite()


# modifiers of the CLIP loss


def modified(strengths: dict[str, float], image_BD: Tensor, text_BD: Tensor, step: int = 0) -> Tensor:
    config = ObjectiveConfig(modifiers=strengths)
    views = {"image_BD": image_BD, "text_BD": text_BD}
    return evaluate_objective(views, config, temperature=0.3, moment=Moment(step, 100, 0)).total


@pytest.mark.parametrize("name", MODIFIERS)
def test_a_modifier_of_strength_0_changes_nothing(name: str) -> None:
    rows = unit_rows(2)
    assert torch.equal(modified({name: 0.0}, *rows), modified({}, *rows))
    assert not torch.allclose(modified({name: 1.0}, *rows), modified({}, *rows))


@pytest.mark.parametrize("name", MODIFIERS)
def test_modifiers_pass_gradcheck(name: str) -> None:
    rows = [row.requires_grad_() for row in unit_rows(2)]
    assert torch.autograd.gradcheck(lambda i, t: modified({name: 1.0}, i, t), rows)


@pytest.mark.parametrize("strength", [0.1, 0.7])
def test_label_smoothing_equals_a_plain_loop_and_its_closed_form(strength: float) -> None:
    rows = unit_rows(2)
    plain = plain_info_nce(Call(rows), strength)
    assert modified({"label_smoothing": strength}, *rows).item() == pytest.approx(plain)
    # all alike: log B whatever the targets; orthogonal: 3/4 of eps sit at logits that are lower by 1/.3
    assert modified({"label_smoothing": strength}, SAME, SAME).item() == pytest.approx(math.log(4))
    expected = math.log1p(3 * SMALL) + strength * 3 / 4 / 0.3
    assert modified({"label_smoothing": strength}, APART, APART).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["swap_hard", "swap_soft"])
def test_swapping_equals_a_plain_loop(name: str) -> None:
    image, text = unit_rows(2)
    generator = stream(0)
    result = MODIFIERS[name](HostInputs(image, text), 1.0, stream(0))
    torch.rand((), generator=generator)  # whether this step swaps
    draws = torch.rand(image.shape, generator=generator, dtype=torch.float64).tolist()
    for row, (i, t) in enumerate(zip(image.tolist(), text.tolist(), strict=True)):
        kept = [float(d < 0.5) if name == "swap_hard" else d for d in draws[row]]
        one = unit([k * u + (1 - k) * v for k, u, v in zip(kept, i, t, strict=True)])
        two = unit([k * v + (1 - k) * u for k, u, v in zip(kept, i, t, strict=True)])
        assert result.image_BD[row].tolist() == pytest.approx(one)
        assert result.text_BD[row].tolist() == pytest.approx(two)
        assert dot(one, one) == pytest.approx(1)


@pytest.mark.parametrize("name", ["swap_hard", "swap_soft"])
def test_swapping_of_a_pair_of_equal_rows_changes_nothing(name: str) -> None:
    rows = unit_rows(1)[0]
    assert torch.allclose(modified({name: 1.0}, rows, rows), modified({}, rows, rows))


@pytest.mark.parametrize("name", ["swap_hard", "swap_soft"])
def test_swapping_happens_in_its_share_of_the_steps(name: str) -> None:
    rows: Any = unit_rows(2)
    plain = modified({}, *rows)
    changed = sum(not torch.equal(modified({name: 0.25}, *rows, step=step), plain) for step in range(100))
    assert changed == pytest.approx(25, abs=15)
