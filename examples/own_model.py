"""A model of your own, of no kind that open_clip knows: write an encoder around it, measure it, report.

    python examples/own_model.py --out runs/own-model

Weights are random here, so the numbers show the path and mean nothing: put your model in place of
``TwoTowers`` and load its weights. A model of open_clip's kinds needs no class of yours: ``load_encoder``.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import functional as pictures

from analysis.report import write_report
from analysis.study import read_runs
from crossgap.command import run_command
from crossgap.datasets import load_dataset
from crossgap.encoders.devices import use_threads
from crossgap.encoders.inject import put_at
from crossgap.encoders.prompts import Prompt
from crossgap.evaluation import EvaluationConfig, InversionPlan, evaluate
from crossgap.inversion.presets import preset
from crossgap.metrics.intervals import Bootstrap, mean_interval, paired_difference
from crossgap.provenance import Provenance, config_hash

ROUTES = ("oti", "ovi", "untrained_tokens", "centred", "class_pca")


class TwoTowers(nn.Module):
    """Stands for your model: embedded patches or words, a transformer layer, their mean, a projection."""

    size, patch, context, vocabulary = 32, 8, 16, 4096  # pixels, pixels, words of a text, ids of words

    def __init__(self, width: int = 64, embed_dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, self.patch, stride=self.patch)
        self.words = nn.Embedding(self.vocabulary, width)
        self.image, self.text = (nn.TransformerEncoderLayer(width, 4, batch_first=True) for _ in range(2))
        self.image_out, self.text_out = nn.Linear(width, embed_dim), nn.Linear(width, embed_dim)


class OwnEncoder:
    """What ``crossgap.encoders.Encoder`` asks for; features have unit rows."""

    def __init__(self, model: TwoTowers, name: str) -> None:
        self.model, self.name = model.eval().requires_grad_(False), name
        self.device, self.dtype = model.words.weight.device, model.words.weight.dtype
        self.embed_dim, self.text_width = model.text_out.weight.shape
        self.image_width, self.num_patches = model.patches.out_channels, (model.size // model.patch) ** 2
        weights = b"".join(tensor.cpu().numpy().tobytes() for tensor in model.state_dict().values())
        # keys every cache: features must not change while it stays (write 2 when preprocessing changes)
        self.fingerprint = hashlib.sha256(b"1" + weights).hexdigest()[:16]

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        sized = [image.resize((self.model.size, self.model.size)) for image in images]
        return torch.stack([pictures.to_tensor(image) for image in sized])

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        context, count = self.model.context, self.model.vocabulary - 1
        ids = [[1 + zlib.crc32(word.encode()) % count for word in text.lower().split()] for text in texts]
        return torch.tensor([(row + [0] * context)[:context] for row in ids], device=self.device)

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        return self.encode_image_with(self.model.patches(pixels_BCHW.to(self.device)).flatten(2).mT)

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        return self._text(self.model.words(tokens_BL))

    def prompt(self, template: str, num_tokens: int) -> Prompt:
        before, behind = (side.split() for side in template.split("{}"))
        words = [*before, *["it"] * num_tokens, *behind]
        positions = torch.arange(len(before), len(before) + num_tokens, device=self.device)
        return Prompt(tokens_L=self.tokenize([" ".join(words)])[0], positions=positions, length=len(words))

    def encode_text_with(self, prompt: Prompt, pseudo_BKW: Tensor) -> Tensor:
        words_BLW = self.model.words(prompt.tokens_L).expand(len(pseudo_BKW), -1, -1)
        return self._text(put_at(prompt.positions, pseudo_BKW)(words_BLW))

    def encode_image_with(self, patches_BNW: Tensor) -> Tensor:
        return F.normalize(self.model.image_out(self.model.image(patches_BNW).mean(dim=1)), dim=-1)

    def _text(self, words_BLW: Tensor) -> Tensor:
        return F.normalize(self.model.text_out(self.model.text(words_BLW).mean(dim=1)), dim=-1)


def main(out: Path, limit: int = 100, steps: int = 50, seed: int = 0, threads: int | None = 1) -> None:
    """Measure the model on emoji concepts; write rows, as python -m crossgap.evaluate does, and the report.

    Args:
        out: folder for both.
        limit: concepts of the test split to keep.
        steps: of inversion, both ways; no validation split chooses where to stop.
        seed: of weights and inversion noise.
        threads: of torch; more than one only slow towers this small.
    """
    use_threads(threads)
    torch.manual_seed(seed)
    encoder = OwnEncoder(TwoTowers(), "two-towers")
    plans = {}
    for into in ("text", "image"):
        config = replace(preset(encoder.name, into), steps=steps, seed=seed)
        # engine: the lean passes are those of open_clip's towers
        plans[into] = InversionPlan(config=config, token_counts=(1,), snapshots=(0, steps), engine="tower")
    about = {"encoder": encoder.fingerprint, "limit": limit, "steps": steps, "seed": seed}
    provenance = Provenance(study="own model", arm=encoder.name, seed=seed, config_hash=config_hash(about))
    config = EvaluationConfig(routes=ROUTES, plans=plans, seed=seed)
    data = load_dataset("emoji", limit=limit)
    evaluate(encoder, data, None, config=config, provenance=provenance, cache=out / "features").write(out)
    study, by = read_runs([out]), ("task", "route")
    values = study.per_query.query("metric == 'mAP' and selection != 'curve'")
    differences = paired_difference(values, values.query("route == 'native'"), on=("task",), by=by)
    gains = mean_interval(differences, by).set_index(list(by))
    for task, route in (("image-subgroup", "oti"), ("text-subgroup", "ovi")):
        gain = gains.loc[task, route]
        print(
            f"{task}: {route} changes mAP by {100 * gain.value:+.2f} [{100 * gain.low:+.2f}, "
            f"{100 * gain.high:+.2f}] points (95 %, {gain.n_queries:g} queries, seed {seed})"
        )
    page = write_report(study, out / "report", ("html",), Bootstrap())
    print(f"of random weights, so these numbers mean nothing; the report: {page}")


if __name__ == "__main__":
    sys.exit(run_command(main))
