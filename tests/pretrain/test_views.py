from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pretrain.data.batches import Batch, Batches
from pretrain.data.pairs import load_pairs
from pretrain.data.views import Embedder
from pretrain.model import build_model
from pretrain.settings import AugmentConfig, ModelConfig
from pretrain.terms import TERMS
from pretrain.terms.views import VIEWS
from pretrain.towers import encode_images, encode_text, pack_text
from tests.training_shards import write_shard

CONFIG = ModelConfig(image_size=16, patch_size=8, width=16, layers=2, heads=2, embed_dim=8, context_length=12)
PARTS = tuple(dict.fromkeys(view.part for view in VIEWS.values() if view.part != "semantic_BS"))
NAMES = tuple(name for name in VIEWS if name != "semantic_BS")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Embedder, Batch]:
    shard = write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar")
    pairs = load_pairs(str(shard), image_size=20, context_length=12)
    batches = Batches(pairs=pairs, batch_size=6, image_size=16, augment=AugmentConfig(), seed=0)
    model = build_model(CONFIG, seed=0, temperature=0.1).double()
    teacher = build_model(CONFIG, seed=1, temperature=0.1).double().visual
    table_VW = model.token_embedding.weight[pairs.vocabulary_V].detach().requires_grad_()
    embedder = Embedder(model=model, table_VW=table_VW, teacher=teacher, text_dropout=0.3, seed=5)
    return embedder, batches.batch(0, PARTS)


def test_every_view_is_taken_by_a_term_and_has_the_shape_its_name_says(drawn: tuple[Embedder, Batch]) -> None:
    assert set(VIEWS) == {view for term in TERMS.values() for view in term.inputs}
    embedder, batch = drawn
    views = embedder(batch, NAMES, step=0)
    sizes = {"B": 6, "D": 8, "W": 16, "K": 2}
    for name, values in views.items():
        assert values.shape == tuple(sizes[letter] for letter in name.rsplit("_", 1)[1]), name
        if VIEWS[name].level == "unit" and VIEWS[name].differentiable:
            assert torch.allclose(values.norm(dim=-1), torch.ones(6).double())
        assert values.requires_grad == VIEWS[name].differentiable


def test_levels_follow_from_each_other_and_equal_the_towers(drawn: tuple[Embedder, Batch]) -> None:
    embedder, batch = drawn
    views = embedder(batch, NAMES, step=0)
    for side, projection in (("image", embedder.model.visual.proj), ("text", embedder.model.text_projection)):
        assert torch.allclose(views[f"{side}_state_BW"] @ projection, views[f"{side}_raw_BD"])
        assert torch.allclose(F.normalize(views[f"{side}_raw_BD"], dim=1), views[f"{side}_BD"])
    text = pack_text(*batch.texts["text"])
    assert torch.allclose(views["text_BD"], encode_text(embedder.model, text, embedder.table_VW))
    pixels = embedder._colours(batch.images["image"])
    assert torch.allclose(views["image_BD"], encode_images(embedder.model, pixels))
    local = embedder._colours(batch.images["local_images"][:, 1])
    crops = F.normalize(views["local_state_BKW"][:, 1] @ embedder.model.visual.proj, dim=1)
    assert torch.allclose(crops, encode_images(embedder.model, local))


def test_the_teacher_is_another_tower(drawn: tuple[Embedder, Batch]) -> None:
    embedder, batch = drawn
    views = embedder(batch, ("image_state_BW", "teacher_state_BW"), step=0)
    assert not torch.allclose(views["image_state_BW"], views["teacher_state_BW"])


def test_dropout_depends_on_seed_step_and_row_alone(drawn: tuple[Embedder, Batch]) -> None:
    embedder, batch = drawn
    name = ("dropout_text_BD",)

    def embedded(chosen: Embedder, part: Batch, step: int) -> torch.Tensor:
        return chosen(part, name, step=step)[name[0]]

    whole = embedded(embedder, batch, 0)
    assert torch.equal(whole, embedded(embedder, batch, 0))
    assert not torch.allclose(whole, embedded(embedder, batch, 1))
    assert not torch.allclose(whole, embedded(replace(embedder, seed=6), batch, 0))
    parts = [embedded(embedder, batch.rows(*ends), 0) for ends in ((0, 2), (2, 6))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-12)


def test_dropout_drops_its_share_and_keeps_the_mean(drawn: tuple[Embedder, Batch]) -> None:
    embedder, batch = drawn
    text = pack_text(*batch.texts["text"])
    dropout = embedder._dropout(text, 0, 0)
    ones = torch.ones(len(text.tokens_T), 16).double()
    dropped = torch.stack([dropout(place, ones) for place in range(5)])
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    # the last block sees the masks of the end-of-text tokens
    assert torch.equal(dropout(4, ones[text.last_B]), dropped[4][text.last_B])


def test_no_dropout_is_the_plain_tower(drawn: tuple[Embedder, Batch]) -> None:
    embedder, batch = drawn
    views = replace(embedder, text_dropout=0.0)(batch, ("text_BD", "dropout_text_BD"), step=0)
    assert torch.allclose(views["text_BD"], views["dropout_text_BD"], atol=1e-12)
    with_some = embedder(batch, ("dropout_text_BD",), step=0)["dropout_text_BD"]
    assert not torch.allclose(views["text_BD"], with_some, atol=1e-3)
