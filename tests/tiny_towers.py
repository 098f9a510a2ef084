"""Tiny random models of each family that researchers use, with tokenizers built on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import transformers
from open_clip.tokenizer import HFTokenizer
from timm.models import register_model
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SIZE = 32
CONTEXT = 16
WIDTH = 24
EMBED = 16
VIT = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": SIZE}
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 2}
WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "in",
    "park",
    "big",
    "red",
    "cat",
    "fish",
    "dog",
    "tree",
    "bus",
    "line",
    "two",
    "one",
    ".",
    ",",
    "!",
]


VIT_SIZES = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@register_model
def crossgap_tiny_vit(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    return timm.create_model("vit_base_patch16_224", **{**VIT_SIZES, **changes})


@register_model
def crossgap_tiny_dynamic_vit(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    return crossgap_tiny_vit(dynamic_img_size=True, reg_tokens=3, no_embed_class=True, **changes)


@register_model
def crossgap_tiny_eva(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    return timm.create_model("eva02_tiny_patch14_224", **{**VIT_SIZES, **changes})


@register_model
def crossgap_tiny_pe_core(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    # timm starts the head near 0, where randomise's noise on its bias would be all of the feature
    sizes = {**VIT_SIZES, "attn_pool_num_heads": 2, "ref_feat_shape": (4, 4), "head_init_scale": 50.0}
    return timm.create_model("vit_pe_core_base_patch16_224", **{**sizes, **changes})


@register_model
def crossgap_tiny_swin(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    sizes = {"img_size": SIZE, "patch_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)}
    return timm.create_model("swin_tiny_patch4_window7_224", **{**sizes, "window_size": 4, **changes})


@register_model
def crossgap_tiny_hybrid(pretrained: bool = False, **changes: Any) -> torch.nn.Module:
    stem = ConvStem(channels=(8, 16, 32), stride=(2, 2, 2))
    return crossgap_tiny_vit(
        patch_size=1, embed_layer=partial(HybridEmbed, backbone=stem, proj=False), **changes
    )


def timm_vision(name: str, pool: str = "map", proj: str | None = "none", **changes: Any) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": SIZE, **changes}


def word_tokenizer(special: dict[str, str], template: str, words: list[str] | None = None) -> Tokenizer:
    """Build a tokenizer of whole words with special tokens (in the order of their ids) and a frame."""
    pieces = [*special.values(), *(WORDS if words is None else words)]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(pieces)}, special["unk_token"])
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = frame(template, pieces)
    return tokenizer


def piece_tokenizer(special: dict[str, str], template: str) -> Tokenizer:
    """Build a sentencepiece-like unigram tokenizer: pieces carry the space before them."""
    pieces = [*special.values(), *(f"▁{word}" for word in WORDS), *WORDS, "▁", *"abcdefghijklmnopqrstuvwxyz"]
    scores = [(piece, -1.0 - len(pieces[:index]) / 100) for index, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scores, list(special).index("unk_token")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = frame(template, pieces)
    return tokenizer


def byte_tokenizer(special: dict[str, str], template: str) -> Tokenizer:
    """Build a byte-level tokenizer as RoBERTa's: a space belongs to the word behind it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    grown = [(word[:end], word[end]) for word in WORDS for end in range(1, len(word))]
    merges = list(dict.fromkeys([*grown, *(("Ġ", word) for word in WORDS)]))
    pieces = [*special.values(), *letters, *(left + right for left, right in merges)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = frame(template, pieces)
    return tokenizer


def frame(template: str, pieces: list[str]) -> processors.TemplateProcessing:
    special = [(part, pieces.index(part)) for part in template.split() if part != "$A"]
    return processors.TemplateProcessing(single=template, special_tokens=special)


def save_tokenizer(tokenizer: Tokenizer, special: dict[str, str], folder: Path) -> None:
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def local_tokenizer(tokenizer: Tokenizer, special: dict[str, str], **options: Any) -> HFTokenizer:
    """Write a tokenizer to disk and read it through open_clip."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, special, Path(folder))
        return HFTokenizer(folder, context_length=CONTEXT, **options)


# SigLIP's tokenizer pads with its own end-of-text; SigLIP 2's (Gemma's) does not
T5 = {"unk_token": "<unk>", "eos_token": "</s>"}
GEMMA = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA = {"cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
CLIPS = {
    "pad_token": "[PAD]",
    "bos_token": "[BOS]",
    "eos_token": "[EOS]",
    "cls_token": "[CLS]",
    "unk_token": "[UNK]",
}


def siglip_tokenizer() -> HFTokenizer:
    special = {**T5, "pad_token": "</s>"}
    return local_tokenizer(piece_tokenizer(T5, "$A </s>"), special, clean="canonicalize")


def siglip2_tokenizer() -> HFTokenizer:
    return local_tokenizer(piece_tokenizer(GEMMA, "$A <eos>"), GEMMA, clean="canonicalize")


def mt5_tokenizer() -> HFTokenizer:
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return local_tokenizer(piece_tokenizer(special, "$A </s>"), special)


def bert_tokenizer(**options: Any) -> HFTokenizer:
    return local_tokenizer(word_tokenizer(BERT, "[CLS] $A [SEP]"), BERT, **options)


def clips_tokenizer() -> HFTokenizer:
    return local_tokenizer(word_tokenizer(CLIPS, "[CLS] $A"), CLIPS, tokenizer_mode="clips")


def roberta_tokenizer() -> HFTokenizer:
    return local_tokenizer(byte_tokenizer(ROBERTA, "<s> $A </s>"), ROBERTA)


def xlm_roberta_tokenizer() -> HFTokenizer:
    return local_tokenizer(piece_tokenizer(ROBERTA, "<s> $A </s>"), ROBERTA)


def nllb_tokenizer() -> HFTokenizer:
    """Put the code of the language where others have their start."""
    special = {**ROBERTA, "additional": "eng_Latn"}
    return local_tokenizer(piece_tokenizer(special, "eng_Latn $A </s>"), ROBERTA)


def clip_tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


def hugging_face(folder: str, kind: str, pooler: str, **changes: Any) -> dict[str, Any]:
    """Write a tiny configuration into a folder, and return open_clip's options that read it."""
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    settings = {"vocab_size": 400, "max_position_embeddings": 40, **sizes, **changes}
    transformers.AutoConfig.for_model(kind, **settings).save_pretrained(folder)
    return {"hf_model_name": folder, "hf_model_pretrained": False, "hf_pooler_type": pooler}


def randomise(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Freeze a model with noise on every parameter: zeros and ones would hide a mistake."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    preprocessing = vars(open_clip.transform.PreprocessCfg(size=SIZE))
    open_clip.model.set_model_preprocess_cfg(model, preprocessing)
    return model.eval().requires_grad_(False).to(dtype)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of model: how to build it, and what the encoder must say of it.

    ``not_causal`` and ``no_patches`` are words of the expected reasons; empty where there is none.
    """

    build: Callable[[], torch.nn.Module]
    tokenizer: Callable[[], Any] = clip_tokenizer
    not_causal: str = ""
    no_patches: str = ""

    def model(self, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return randomise(self.build(), dtype)


def clip(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **options: Any
) -> open_clip.CLIP:
    return open_clip.CLIP(EMBED, {**(VIT if vision is None else vision)}, {**TEXT, **(text or {})}, **options)


def custom(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None
) -> open_clip.CustomTextCLIP:
    return open_clip.CustomTextCLIP(EMBED, {**(VIT if vision is None else vision)}, {**TEXT, **(text or {})})


def coca(vision: dict[str, Any], text: dict[str, Any]) -> open_clip.CoCa:
    both = {"output_tokens": True}
    decoder = {"context_length": CONTEXT, "width": WIDTH, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    return open_clip.CoCa(EMBED, decoder, {**TEXT, **text, **both}, {**VIT, **vision, **both})


def siglip(vision: str, vocabulary: int) -> open_clip.CustomTextCLIP:
    text = {"vocab_size": vocabulary, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    return open_clip.CustomTextCLIP(32, timm_vision(vision), {**TEXT, **text}, init_logit_bias=-10)


def hugging_face_clip(kind: str, pooler: str, **changes: Any) -> open_clip.CustomTextCLIP:
    with tempfile.TemporaryDirectory() as folder:
        return open_clip.CustomTextCLIP(EMBED, {**VIT}, hugging_face(folder, kind, pooler, **changes))


def coca_roberta() -> open_clip.CoCa:
    with tempfile.TemporaryDirectory() as folder:
        return coca({}, hugging_face(folder, "roberta", "mean_pooler", pad_token_id=1))


ATTENTION_POOL = {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}
EOS = {"vocab_size": 400, "pool_type": "eos"}
RESNET = {"layers": (1, 1, 1, 1), "width": 8, "head_width": 16, "image_size": SIZE}
FAMILIES = {
    "clip": Family(build=clip),
    "clip-quickgelu": Family(build=partial(clip, quick_gelu=True)),
    "clip-dropout": Family(build=partial(clip, {**VIT, "patch_dropout": 0.5})),
    "custom-text": Family(build=custom),
    "custom-text-tuples": Family(
        build=partial(custom, {**VIT, "output_tokens": True}, {"output_tokens": True})
    ),
    "clip-worldwide": Family(
        build=partial(clip, None, {**EOS, "eos_id": 2}), tokenizer=xlm_roberta_tokenizer
    ),
    "clip-worldwide-mt5": Family(build=partial(clip, None, {**EOS, "eos_id": 1}), tokenizer=mt5_tokenizer),
    "clip-qk-norm": Family(build=partial(clip, None, {"qk_norm": True, "scale_fc": True})),
    "clipa": Family(
        build=partial(
            custom,
            {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
            {"vocab_size": 400, "pool_type": "last", "no_causal_mask": True},
        ),
        tokenizer=partial(bert_tokenizer, strip_sep_token=True),
        not_causal="bidirectional",
    ),
    "clips": Family(
        build=partial(custom, None, {"vocab_size": 400, "pool_type": "last"}),
        tokenizer=clips_tokenizer,
        not_causal="the last position",
    ),
    "siglip": Family(
        build=partial(siglip, "crossgap_tiny_vit", 400),
        tokenizer=siglip_tokenizer,
        not_causal="bidirectional",
    ),
    "siglip2": Family(
        build=partial(siglip, "crossgap_tiny_dynamic_vit", 400),
        tokenizer=siglip2_tokenizer,
        not_causal="bidirectional",
    ),
    "coca": Family(build=partial(coca, ATTENTION_POOL, {"embed_cls": True}), not_causal="class token"),
    "coca-roberta": Family(build=coca_roberta, tokenizer=roberta_tokenizer, not_causal="Hugging Face"),
    "attention-pool": Family(build=partial(clip, {**VIT, **ATTENTION_POOL})),
    "sine-positions": Family(build=partial(clip, {**VIT, "pos_embed_type": "sin_cos_2d"})),
    "bert": Family(
        build=partial(hugging_face_clip, "bert", "cls_pooler"),
        tokenizer=bert_tokenizer,
        not_causal="Hugging Face",
    ),
    "roberta": Family(
        build=partial(hugging_face_clip, "roberta", "mean_pooler", pad_token_id=1),
        tokenizer=roberta_tokenizer,
        not_causal="Hugging Face",
    ),
    "xlm-roberta": Family(
        build=partial(hugging_face_clip, "xlm-roberta", "mean_pooler", pad_token_id=1),
        tokenizer=xlm_roberta_tokenizer,
        not_causal="Hugging Face",
    ),
    "mt5": Family(
        build=partial(
            hugging_face_clip,
            "mt5",
            "mean_pooler",
            d_model=WIDTH,
            d_kv=12,
            d_ff=32,
            num_heads=2,
            num_layers=2,
        ),
        tokenizer=mt5_tokenizer,
        not_causal="Hugging Face",
    ),
    "nllb": Family(
        build=partial(
            hugging_face_clip,
            "m2m_100",
            "cls_pooler",
            pad_token_id=1,
            d_model=WIDTH,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
        ),
        tokenizer=nllb_tokenizer,
        not_causal="Hugging Face",
    ),
    "eva": Family(build=partial(custom, timm_vision("crossgap_tiny_eva", "token", "linear"))),
    # as open_clip configures EVA02 and PE-Core: the projection is the trunk's own head, which has a bias
    "eva02": Family(build=partial(custom, timm_vision("crossgap_tiny_eva", "token", None))),
    "pe-core": Family(build=partial(custom, timm_vision("crossgap_tiny_pe_core", "map", None))),
    "timm-registers": Family(
        build=partial(clip, timm_vision("crossgap_tiny_dynamic_vit", "token", "linear"))
    ),
    "swin": Family(build=partial(clip, timm_vision("crossgap_tiny_swin", "avg", "linear"))),
    "resnet": Family(build=partial(clip, RESNET), no_patches="ModifiedResNet is not a vision transformer"),
    "convnext": Family(
        build=partial(clip, timm_vision("test_convnext", "avg", "mlp")),
        no_patches="ConvNeXt embeds no patches",
    ),
    "hybrid": Family(
        build=partial(clip, timm_vision("crossgap_tiny_hybrid", "avg", "linear")),
        no_patches="convolutional stem",
    ),
}
