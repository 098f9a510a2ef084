"""What a run starts from: random weights of any architecture, or a CLIP that exists (fine-tuning)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip import CLIP, SimpleTokenizer
from open_clip.transformer import PatchDropout as UnseededPatchDropout
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossgap.encoders.hugging_face import folder as hugging_face
from crossgap.encoders.loading import CONFIG_FILE, HUB, LOCAL, load_encoder, newest_checkpoint
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.text_towers import find_text_tower, find_token_embedding
from crossgap.errors import InputError
from crossgap.settings.same import differences
from pretrain.architectures.named import build_architecture, read_architecture
from pretrain.architectures.patch_dropout import PatchDropout
from pretrain.config import TrainConfig
from pretrain.data.tokens import Tokens, clip_tokens, tokens_of
from pretrain.data.whole import image_states
from pretrain.model import build_model
from pretrain.terms.views import VIEWS
from pretrain.towers import encode_images, encode_text, pack_text

_CLOSE = 1e-4  # features of the towers as they are trained against those of the model, unit rows


class Widths(NamedTuple):
    """Widths of what the image tower and the text tower project, and of the embedding."""

    image: int
    text: int
    embedding: int


class Start(NamedTuple):
    """A model to train, its tokenizer, and what open_clip writes beside its weights.

    ``why_whole`` says in words why it runs its own forward pass, None where the packed pass of
    :mod:`pretrain.towers` is the same; ``notes`` is what the run tells of it.
    """

    model: Any
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    tokens: Tokens
    widths: Widths
    why_whole: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        """Side in pixels of what the image tower takes."""
        return _image_size(self.model_cfg)

    @property
    def context_length(self) -> int:
        """Tokens that the text tower takes."""
        return self.tokens.context_length

    @property
    def table_VW(self) -> Tensor:
        """The model's own table of tokens."""
        table: Tensor = find_token_embedding(find_text_tower(self.model)).weight
        return table

    @property
    def tokenizer_files(self) -> Any:
        """What writes the tokenizer's files into a checkpoint; None for CLIP's, which has none."""
        tokenizer: Any = self.tokens.tokenizer
        return None if isinstance(tokenizer, SimpleTokenizer) else tokenizer


def start_model(config: TrainConfig) -> Start:
    """Build or load the model of a run, on the CPU, with its locked towers locked.

    Raises:
        InputError: an encoder or architecture that is not known, not to be had, or whose towers do not allow
            what the config asks for.
    """
    tau = torch.tensor(config.objective.temperature.initial)
    if config.encoder is not None:
        start = _existing(config.encoder, config.pretrained)
    elif config.architecture is not None:
        start = _random(config)
    else:
        model = build_model(config.model, seed=config.seed, temperature=float(tau))
        tokens = clip_tokens(config.model.context_length)
        start = Start(model, config.model.open_clip, config.model.preprocess, tokens, _packed_widths(model))
    with torch.no_grad():
        start.model.logit_scale.fill_(-tau.log())
    _seed_patch_dropout(start.model.visual, config)
    if start.why_whole is not None:
        _check_whole(config, start)
    lock(start.model, config.locked)
    return start


def lock(model: Any, towers: Collection[str]) -> None:
    """Keep towers as they are, with their projections.

    [0] Zhai et al., LiT, 2022, arXiv 2111.07991 (a locked image tower).
    """
    if "image" in towers:
        model.visual.requires_grad_(False)
    if "text" in towers:
        tower = find_text_tower(model)
        own = (tower,) if tower is not model else (model.transformer, model.token_embedding, model.ln_final)
        for part in own:
            part.requires_grad_(False)
        if tower is model:
            model.positional_embedding.requires_grad_(False)
            if model.text_projection is not None:
                model.text_projection.requires_grad_(False)


def set_training(model: Any, locked: Collection[str]) -> None:
    """Set a model to training, except its locked towers: their norms and dropout stay at rest."""
    model.train()
    if "image" in locked:
        model.visual.eval()
    if "text" in locked and find_text_tower(model) is not model:
        find_text_tower(model).eval()


def check_norms(model: Any, *, parts: int, recompute: bool) -> None:
    """Refuse a batch norm that would not see the batch, once.

    Raises:
        InputError: the batch goes through the towers in parts, or activations are computed twice.
    """
    if (parts > 1 or recompute) and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise InputError(
            "the towers have batch norms, which take their moments from what goes through at once: "
            f"{'recompute' if parts == 1 else 'a batch in parts (accumulate, or several processes)'} would "
            "change them; leave it out, or take a model without batch norms"
        )


def check_same_model(start: Start, held: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with another model than the one that was begun, as after a change of its JSON file.

    Raises:
        InputError: names what differs.
    """
    differing = list(differences(held["model_cfg"], json.loads(json.dumps(start.model_cfg))))
    if differing:
        raise InputError(
            f"{out} was begun with another model: {'; '.join(differing[:4])}; give another --out, or the "
            "same model and tokenizer"
        )


def _random(config: TrainConfig) -> Start:
    assert config.architecture is not None
    architecture = read_architecture(
        config.architecture, image_size=config.image_size, context_length=config.context_length
    )
    model = build_architecture(architecture, seed=config.seed)
    size = _image_size(architecture.model_cfg)
    try:
        with torch.no_grad():
            image_BD = model.eval().encode_image(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"model {config.architecture}: its image tower takes no images of {size} pixels ({error}); give "
            "the size that it was made for: vision_cfg.image_size of the file, or --set image_size=N"
        ) from error
    wanted = architecture.model_cfg["embed_dim"]
    if image_BD.shape[1] != wanted:
        raise InputError(
            f"model {config.architecture}: its image tower gives {image_BD.shape[1]} numbers an image, and "
            f"its embed_dim is {wanted}; set embed_dim to {image_BD.shape[1]}, or give the tower a "
            'projection (vision_cfg.timm_proj "linear")'
        )
    encoder = OpenClipEncoder(model, architecture.tokenizer, name=config.architecture)
    notes = () if architecture.note is None else (f"model {config.architecture}: {architecture.note}",)
    return _start(encoder, architecture.model_cfg, notes)


def _existing(name: str, pretrained: str | None) -> Start:
    kept = Path(name.removeprefix(LOCAL))
    if name.startswith(hugging_face.HUB) or hugging_face.is_transformers_folder(kept):
        raise InputError(
            f"encoder {name!r} is kept in the format of transformers, which training does not write; take "
            "the same weights under their name in open_clip, or a folder in its format"
        )
    encoder = load_encoder(name, pretrained, device="cpu")
    model = encoder.model
    folder = Path(name.removeprefix(LOCAL))
    if folder.is_dir():
        held = json.loads((newest_checkpoint(folder) / CONFIG_FILE).read_text("utf-8"))
        model_cfg = held["model_cfg"]
    else:
        model_name = name if name.startswith(HUB) else name.replace("/", "-")
        model_cfg = dict(open_clip.get_model_config(model_name) or {})
        if not model_cfg:
            raise InputError(
                f"encoder {encoder.name!r} cannot be fine-tuned here: open_clip has no configuration of it, "
                "so it could not read the checkpoint; take a model of open_clip"
            )
        if any(isinstance(module, QuickGELU) for module in model.modules()):
            model_cfg["quick_gelu"] = True
    return _start(encoder, model_cfg, ())


def _start(encoder: OpenClipEncoder, model_cfg: dict[str, Any], notes: tuple[str, ...]) -> Start:
    """Choose the pass: the packed one where it gives the same features, else the model's own."""
    model = encoder.model.requires_grad_(True)
    preprocess_cfg = dict(open_clip.get_model_preprocess_cfg(model))
    reason = _why_not_packed(encoder)
    if reason is None:
        tokens = clip_tokens(encoder.context_length)
        return Start(model, model_cfg, preprocess_cfg, tokens, _packed_widths(model), None, notes)
    tokens = tokens_of(encoder.tokenizer, encoder.context_length, encoder.token_embedding.num_embeddings)
    with torch.no_grad():
        states_BW = image_states(model.visual, torch.zeros(1, 3, *_sides(preprocess_cfg["size"])))
    widths = Widths(states_BW.shape[1], encoder.embed_dim, encoder.embed_dim)
    said = f"{encoder.name} runs its own forward pass, not the packed one: {reason}"
    return Start(model, model_cfg, preprocess_cfg, tokens, widths, reason, (*notes, said))


def _image_size(model_cfg: Mapping[str, Any]) -> int:
    size = model_cfg["vision_cfg"].get("image_size", 224)  # open_clip's default
    return int(size if isinstance(size, int) else size[0])


def _packed_widths(model: CLIP) -> Widths:
    image, embedding = model.visual.proj.shape
    return Widths(image, model.text_projection.shape[0], embedding)


def _sides(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if height != width:
        raise InputError(f"the image tower takes {height} x {width} pixels; only squares are trained here")
    return height, width


def _seed_patch_dropout(visual: Any, config: TrainConfig) -> None:
    """Put our own patch dropout, whose draws depend on seed and step, in the place of open_clip's."""
    place = getattr(visual, "patch_dropout", None)
    share = config.patch_dropout
    if isinstance(place, UnseededPatchDropout) and share == 0:
        share = place.prob
    if share == 0:
        return
    if not isinstance(place, nn.Module):
        raise InputError(
            f"patch_dropout={share:g}: the image tower, a {type(visual).__name__}, has no place where "
            "patches can be left out; only open_clip's own vision transformer has"
        )
    visual.patch_dropout = PatchDropout(share, config.seed)


def _check_whole(config: TrainConfig, start: Start) -> None:
    """Refuse what only the packed pass can do."""
    dropped = [view for view in config.objective.views if VIEWS[view].tower == "dropout"]
    asked = "compiled" if config.compiled else f"a term that takes {dropped[0]}" if dropped else None
    if asked is not None:
        raise InputError(
            f"{asked} needs the packed pass of CLIP's own towers, and the model runs its own: "
            f"{start.why_whole}; leave it out"
        )


def _why_not_packed(encoder: OpenClipEncoder) -> str | None:
    """Say why the towers as they are packed would not be this model; None if they are."""
    model = encoder.model
    if type(model) is not CLIP or not isinstance(model.visual, VisionTransformer):
        return f"it is a {type(model).__name__} with a {type(getattr(model, 'visual', None)).__name__}"
    if encoder.why_not_causal is not None:
        return f"its text tower is not causal ({encoder.why_not_causal})"
    words = ["A photo of two cats & a d\u00f6g"]
    plain = SimpleTokenizer(context_length=model.positional_embedding.shape[0])
    if not torch.equal(encoder.tokenize(words), plain(words)):
        return "its tokenizer is not that of CLIP"
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    pixels_BCHW = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    tokens_BL = encoder.tokenize(["a photo of two cats", "a word"])
    with torch.no_grad():
        try:
            text = pack_text(tokens_BL, tokens_BL.argmax(1) + 1)
            ours = (encode_images(model, pixels_BCHW), encode_text(model, text, model.token_embedding.weight))
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"its towers have other parts ({error})"
        theirs = (encoder.encode_image(pixels_BCHW), encoder.encode_text(tokens_BL))
    off = max(_difference(a, b) for a, b in zip(ours, theirs, strict=True))
    return (
        None if off < _CLOSE else f"its towers pool or attend in another way (features differ by {off:.2g})"
    )


def _difference(one_BD: Tensor, other_BD: Tensor) -> float:
    return (one_BD - other_BD).abs().max().item()
