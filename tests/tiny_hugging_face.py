"""Tiny random models as ``transformers`` keeps them, file by file as released ones, and all families."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from crossgap.encoders.hugging_face.load import HuggingFaceModel, load
from examples.hugging_face import write_clip
from tests import tiny_towers
from tests.tiny_towers import CONTEXT, SIZE, WORDS, Family

_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""


def write_siglip(folder: Path) -> None:
    """SigLIP: texts in lower case without punctuation, in unigrams; padded with the id of their end."""
    _write_model(folder, vocab_size=400)
    special = ["<pad>", "</s>", "<unk>"]
    pieces = [*special, *(f"▁{word}" for word in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz0123456789é"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 - n / 100) for n, piece in enumerate(pieces)], 2))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(_PUNCTUATION), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "</s>",
            "pad_token": "</s>",
            "unk_token": "<unk>",
        },
    )


def write_siglip2(folder: Path) -> None:
    """SigLIP 2 of fixed resolution: SigLIP's towers, Gemma's tokenizer, padding with an id of its own."""
    _write_model(folder, vocab_size=300)
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = sorted({"▁", *"".join(WORDS), *"abcdefghijklmnopqrstuvwxyz0123456789é"})
    grown = [(word[:end], word[end]) for word in WORDS for end in range(1, len(word))]
    merges = list(dict.fromkeys([*grown, *(("▁", word) for word in WORDS)]))
    pieces = list(dict.fromkeys([*special, *letters, *(left + right for left, right in merges)]))
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": False,
            "add_eos_token": True,
            "padding_side": "right",
            "pad_token": "<pad>",
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "unk_token": "<unk>",
        },
    )


def _write_model(folder: Path, *, vocab_size: int) -> None:
    both = {"hidden_size": 32, "intermediate_size": 49, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**both, "vocab_size": vocab_size, "max_position_embeddings": CONTEXT},
        vision_config={**both, "image_size": SIZE, "patch_size": 8},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.SiglipModel(config).save_pretrained(folder)
    _write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "size": {"height": SIZE, "width": SIZE},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
        },
    )


def _write_json(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings), "utf-8")


def write(kind: str, folder: Path) -> Path:
    """Write a model of a kind into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[kind](folder)
    return folder


@functools.cache
def _loaded(kind: str) -> HuggingFaceModel:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*keeps capital letters")  # as Gemma's tokenizer does
        return load(write(kind, Path(folder)))


def _family(kind: str, **reasons: str) -> Family:
    return Family(
        build=lambda: copy.deepcopy(_loaded(kind).model),
        tokenizer=lambda: _loaded(kind).tokenizer,
        **reasons,
    )


WRITERS: dict[str, Callable[[Path], None]] = {
    "hf-clip": functools.partial(write_clip, context_length=CONTEXT, image_size=SIZE),
    "hf-siglip": write_siglip,
    "hf-siglip2": write_siglip2,
}
FAMILIES = {
    **tiny_towers.FAMILIES,
    "hf-clip": _family("hf-clip"),
    "hf-siglip": _family("hf-siglip", not_causal="bidirectional"),
    "hf-siglip2": _family("hf-siglip2", not_causal="bidirectional"),
}
