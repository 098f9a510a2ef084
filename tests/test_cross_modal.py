"""Zero-shot accuracy and retrieval across modalities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from crossgap.cross_modal import cross_modal_metrics
from crossgap.errors import InputError
from crossgap.zero_shot import zero_shot_accuracy
from tests.reference_metrics import plain_topk_accuracy


def unit(degrees: list[float]) -> Tensor:
    angle_B = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle_B.cos(), angle_B.sin()], dim=1)


def test_zero_shot_by_hand() -> None:
    classes = ["a", "b", "c"]
    image_ND, prompt_KD = unit([0, 50, 100]), unit([10, 80, 170])
    found = zero_shot_accuracy(image_ND, prompt_KD, labels=["a", "a", "c"], classes=classes, ks=(1, 2, 5))
    assert found["top-1"].tolist() == [1, 0, 0]
    assert found["top-2"].tolist() == [1, 1, 1]
    assert found["top-5"].tolist() == [1, 1, 1]  # three classes only


def test_zero_shot_ties_share_the_first_place() -> None:
    prompts_KD = unit([30, 30, 30, 200])
    found = zero_shot_accuracy(
        unit([0]), prompts_KD, labels=["b"], classes=["a", "b", "c", "d"], ks=(1, 2, 3)
    )
    assert [found[f"top-{k}"].item() for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


@given(st.lists(st.sampled_from([3, 40, 90, 200, 300]), min_size=2, max_size=6), st.integers(0, 5))
def test_zero_shot_equals_plain_loops(degrees: list[int], own: int) -> None:
    own %= len(degrees)
    classes = [str(number) for number in range(len(degrees))]
    image_1D = unit([20])
    found = zero_shot_accuracy(image_1D, unit(degrees), labels=[str(own)], classes=classes, ks=(1, 2, 5))
    scores = [round(float(torch.tensor(degree - 20).deg2rad().cos()), 6) for degree in degrees]
    for k in (1, 2, 5):
        assert found[f"top-{k}"].item() == pytest.approx(plain_topk_accuracy(scores, own, k), abs=1e-12)


def test_zero_shot_agrees_with_scikit_learn_without_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    image_ND = torch.randn((80, 6), generator=generator, dtype=torch.float64)
    prompt_KD = torch.randn((9, 6), generator=generator, dtype=torch.float64)
    labels = [str(k) for k in torch.randint(9, (80,), generator=generator).tolist()]
    classes = [str(k) for k in range(9)]
    found = zero_shot_accuracy(image_ND, prompt_KD, labels=labels, classes=classes)
    scores = (image_ND @ (prompt_KD / prompt_KD.norm(dim=1, keepdim=True)).T).numpy()
    for k in (1, 5):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=classes)
        assert found[f"top-{k}"].mean().item() == pytest.approx(expected)


def test_zero_shot_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="image 1 has the label 'd', which is none of the 2 classes"):
        zero_shot_accuracy(unit([0, 1]), unit([0, 9]), labels=["a", "d"], classes=["a", "b"])
    with pytest.raises(InputError, match="class 'a' occurs more than once"):
        zero_shot_accuracy(unit([0]), unit([0, 9]), labels=["a"], classes=["a", "a"])
    with pytest.raises(InputError, match="one label"):
        zero_shot_accuracy(unit([0]), unit([0, 9]), labels=["a", "b"], classes=["a", "b"])


def test_captions_that_belong_to_one_image() -> None:
    image_ND, text_MD = unit([0, 90]), unit([5, 80, 95, 85])
    found = cross_modal_metrics(
        image_ND, text_MD, image_groups=["x", "y"], text_groups=["x", "x", "y", "y"], ks=(1, 2, 3)
    )
    # image x: caption order 5, 80, 85, 95 -> x x y y; image y: 95 and 85 tie, then 80, then 5
    assert found.image_to_text["hit@1"].tolist() == [1, 1]
    assert found.image_to_text["recall@1"].tolist() == [0.5, 0.5]
    assert found.image_to_text["recall@2"].tolist() == [1, 1]
    # captions: 80 is nearer to image y; one partner each, so hit and recall agree
    assert found.text_to_image["hit@1"].tolist() == [1, 0, 1, 1]
    for k in (1, 2, 3):
        assert torch.equal(found.text_to_image[f"hit@{k}"], found.text_to_image[f"recall@{k}"])
    assert set(found.image_to_text) == {f"{name}@{k}" for name in ("hit", "recall") for k in (1, 2, 3)}


def test_exchanging_the_sides_exchanges_the_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    image_ND, text_MD = torch.randn((2, 20, 5), generator=generator, dtype=torch.float64)
    groups = [str(k % 7) for k in range(20)]
    forth = cross_modal_metrics(image_ND, text_MD, image_groups=groups, text_groups=groups[::-1])
    back = cross_modal_metrics(text_MD, image_ND, image_groups=groups[::-1], text_groups=groups)
    for name, values in forth.image_to_text.items():
        torch.testing.assert_close(back.text_to_image[name], values)
        assert (values <= 1 + 1e-12).all()


def test_an_image_without_caption_is_skipped_and_odd_input_refused() -> None:
    found = cross_modal_metrics(unit([0, 90]), unit([5]), image_groups=["x", "y"], text_groups=["x"])
    assert found.image_to_text["hit@1"].isnan().tolist() == [False, True]
    with pytest.raises(InputError, match="one group"):
        cross_modal_metrics(unit([0, 90]), unit([5]), image_groups=["x"], text_groups=["x"])
    with pytest.raises(InputError, match="empty label"):
        cross_modal_metrics(unit([0]), unit([5]), image_groups=[""], text_groups=["x"])
