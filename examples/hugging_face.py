"""Write a tiny CLIP of random weights as the library ``transformers`` keeps models, and read it.

    python examples/hugging_face.py tiny-clip
    python -m crossgap.evaluate --encoder tiny-clip --dataset emoji --smoke --out runs/tiny-clip

The folder has the files of a released model: config.json, model.safetensors, vocab.json, merges.txt,
tokenizer_config.json and preprocessor_config.json. A released one is given by its folder or its name on the
hub, ``--encoder hf:openai/clip-vit-base-patch32``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import tyro

from crossgap.command import run_command
from crossgap.encoders import Encoder, load_encoder


def write_clip(folder: Path, *, context_length: int = 77, image_size: int = 32) -> None:
    """Write a model of CLIP's kind with the vocabulary of CLIP, which open_clip brings along."""
    from open_clip import SimpleTokenizer
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    both = {"intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 24, "max_position_embeddings": context_length, **both}
    vision = {"hidden_size": 32, "image_size": image_size, "patch_size": 8, **both}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(config).save_pretrained(folder)
    known = SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {names.get(piece, piece): number for piece, number in known.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    merges = ["#version: 0.2", *(f"{left} {right}" for left, right in known.bpe_ranks), ""]
    (folder / "merges.txt").write_text("\n".join(merges), "utf-8")
    _write(
        folder / "tokenizer_config.json",
        tokenizer_class="CLIPTokenizer",
        model_max_length=context_length,
        bos_token=start,
        eos_token=end,
        unk_token=end,
        pad_token=end,
    )
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="CLIPImageProcessor",
        processor_class="CLIPProcessor",
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        resample=3,
    )


def _write(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(settings, indent=1), "utf-8")


def main(folder: Path) -> Encoder:
    """Write the folder and load it."""
    write_clip(folder)
    return load_encoder(str(folder), device="cpu")


def show(folder: tyro.conf.Positional[Path], /) -> None:
    """Write the model and say what was read.

    Args:
        folder: where to.
    """
    encoder = main(folder)
    print(
        f"{encoder.name}: {encoder.embed_dim} dimensions, {encoder.num_patches} patches, "
        f"text width {encoder.text_width}, fingerprint {encoder.fingerprint}"
    )


if __name__ == "__main__":
    sys.exit(run_command(show))
