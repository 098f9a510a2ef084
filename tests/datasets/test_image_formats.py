"""One decoder for all: what it makes of odd images, and that every reader shows the same pixels."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from open_clip import SimpleTokenizer
from PIL import Image

from crossgap.command import run_command
from crossgap.datasets.bad import BadSamples
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.image_formats import (
    FORMATS,
    IMAGE_EXTENSIONS,
    allow_pixels,
    decode_image,
    extension_of,
    is_image,
)
from crossgap.errors import InputError
from pretrain.data.images import ImagesInShards
from pretrain.data.pairs import load_pairs
from pretrain.data.resampled import ShardStream, _Pairs, _Reader
from pretrain.prepare import main as prepare
from tests.odd_images import SIDE, bomb, encoded, odd_images, picture, sixteen_bits

ODD = odd_images()
GOOD = [name for name, (_, fine) in ODD.items() if fine]


@pytest.fixture(autouse=True)
def _the_limit_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, where="x"))


@pytest.mark.parametrize("name", ODD)
def test_what_can_be_decoded_is_rgb_and_what_cannot_is_named(name: str) -> None:
    data, fine = ODD[name]
    if fine:
        assert decoded(data).shape == (SIDE, SIDE, 3)
    else:
        with pytest.raises(InputError, match=rf"^here: the image \({len(data)} bytes\) cannot be decoded"):
            decode_image(data, where="here")


@pytest.mark.parametrize("name", ["bmp", "tiff", "ppm", "webp"])
def test_formats_without_loss_keep_every_pixel(name: str) -> None:
    assert (decoded(ODD[name][0]) == np.asarray(picture())).all()


@pytest.mark.parametrize("name", ["gif", "tiff", "mpo", "avif", "jpeg 2000"])
def test_the_first_of_several_pictures_is_shown(name: str) -> None:
    assert np.abs(decoded(ODD[name][0]).astype(int) - np.asarray(picture())).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_levels_of_16_bits_are_scaled_not_cut(kind: str) -> None:
    levels = decoded(encoded(sixteen_bits(), kind))
    assert (levels.min(), levels.max()) == (1, 255)
    assert levels.mean() == pytest.approx(128, abs=1)
    assert (levels[..., 0] == np.asarray(sixteen_bits()) >> 8).all()
    assert (levels[..., 0] == levels[..., 2]).all()


def test_a_transparent_grey_level_of_16_bits_becomes_white() -> None:
    levels = np.full((SIDE, SIDE), 0x1234, dtype=np.uint16)
    levels[0, 0] = 0x1235
    shown = decoded(encoded(Image.fromarray(levels), "PNG", transparency=0x1234))
    assert (shown[1:] == 255).all()
    assert shown[0, 0].tolist() == [0x12] * 3


def test_colours_of_other_models_stay_near() -> None:
    for name in ("cmyk", "palette", "progressive", "turned by exif"):
        assert np.abs(decoded(ODD[name][0]).astype(int) - np.asarray(picture())).mean() < 25, name


def test_the_limit_of_pixels_is_pillows_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_pixels(None)  # without the warning of Pillow, which is an error in tests
    # 108 megapixels, as telephones take them: admitted, then found to be cut
    with pytest.raises(InputError, match="cannot be decoded") as refused:
        decode_image(bomb(12_000, 9_000), where="x")
    assert "exceeds limit" not in str(refused.value)
    with pytest.raises(InputError, match=r"exceeds limit of 178956970 pixels.*--max-pixels N"):
        decode_image(bomb(20_000, 9_000), where="x")
    allow_pixels(200_000_000)
    with pytest.raises(InputError) as refused:
        decode_image(bomb(20_000, 9_000), where="x")
    assert "exceeds limit" not in str(refused.value)
    allow_pixels(SIDE * SIDE)
    decode_image(encoded(picture(), "PNG"), where="x")
    allow_pixels(SIDE * SIDE - 2)
    with pytest.raises(InputError, match="exceeds limit"):
        decode_image(encoded(picture(), "PNG"), where="x")
    with pytest.raises(InputError, match="--max-pixels must be at least 1, not 0"):
        allow_pixels(0)


def test_files_are_images_by_ending_or_content(tmp_path: Path) -> None:
    for name, data, expected in (
        ("a.JFIF", b"whatever", True),
        ("b", encoded(picture(), "BMP"), True),
        ("c.img", encoded(picture(), "AVIF"), True),
        ("d.txt", b"P5 is the name of a group", False),
        ("e.heic", b"\0\0\0\x18ftypheic", False),
        ("f", b"", False),
    ):
        (tmp_path / name).write_bytes(data)
        assert is_image(tmp_path / name) == expected, name


def test_every_format_has_endings_of_its_own_and_is_written_with_the_first() -> None:
    assert {"jpg", "jfif", "jpe", "bmp", "gif", "tif", "ppm", "avif", "mpo"} <= set(IMAGE_EXTENSIONS)
    kinds = {"bmp": "BMP", "gif": "GIF", "tiff": "TIFF", "ppm": "PPM", "avif": "AVIF", "webp": "WEBP"}
    for name, kind in kinds.items():
        assert extension_of(ODD[name][0]) == FORMATS[kind][0]
    assert extension_of(ODD["mpo"][0]) == "jpg"


def reasons(bad: BadSamples) -> set[str]:
    """Return the names of the images that were left out."""
    return {name for name in ODD if any(repr(key(name)) in reason for reason in bad.reasons)}


def key(name: str) -> str:
    return name.replace(" ", "-")


def write_tar(path: Path) -> str:
    with tarfile.open(path, "w") as archive:
        for name, (data, _) in ODD.items():  # all called .jpg, whatever they are
            for ending, part in (("jpg", data), ("txt", name.encode())):
                member = tarfile.TarInfo(f"{key(name)}.{ending}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    return str(path)


class TestEveryReaderShowsTheSame:
    @pytest.fixture
    def shown(self) -> dict[str, np.ndarray]:
        return {name: decoded(data) for name, (data, fine) in ODD.items() if fine}

    @pytest.fixture
    def shard(self, tmp_path: Path) -> str:
        return write_tar(tmp_path / "odd.tar")

    def test_evaluation_of_a_folder(self, tmp_path: Path, shown: dict[str, np.ndarray]) -> None:
        for name, (data, _) in ODD.items():
            place = tmp_path / "data" / ("x" if name in GOOD[::2] else "y")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{key(name)}.jpg").write_bytes(data)
        dataset = load_dataset(str(tmp_path / "data"), max_bad=len(ODD))
        items = dataset.tasks[0].query
        found = {Path(name).stem: items.image(place) for place, name in enumerate(items.ids)}
        assert set(found) == {key(name) for name in shown}
        assert all((np.asarray(found[key(name)]) == pixels).all() for name, pixels in shown.items())
        assert f"Bad samples left out: {len(ODD) - len(GOOD)} (" in dataset.tasks[0].protocol

    def test_evaluation_of_shards(self, shard: str, shown: dict[str, np.ndarray]) -> None:
        dataset = load_dataset(shard, max_bad=len(ODD))
        items = dataset.tasks[0].query
        found = {name.split("/")[1]: items.image(place) for place, name in enumerate(items.ids)}
        assert set(found) == {key(name) for name in shown}
        assert all((np.asarray(found[key(name)]) == pixels).all() for name, pixels in shown.items())

    def test_training_from_memory(self, shard: str, shown: dict[str, np.ndarray]) -> None:
        bad = BadSamples(limit=len(ODD))
        pairs = load_pairs(shard, image_size=SIDE, context_length=12, bad=bad)
        assert reasons(bad) == set(ODD) - set(GOOD)
        for place, name in enumerate(GOOD):
            assert pairs.captions_M[pairs.caption_of_K[place]] == name
            assert (pairs.images.rows(_index(place))[1][0].numpy() == shown[name]).all(), name

    def test_training_from_indexed_shards(self, shard: str, shown: dict[str, np.ndarray]) -> None:
        bad = BadSamples(limit=len(ODD))
        pairs = load_pairs(shard, image_size=SIDE, context_length=12, bad=bad, keep_in_shards=True)
        assert isinstance(pairs.images, ImagesInShards)
        wanted = [place for place, name in enumerate(name for name, (data, _) in ODD.items() if data)]
        for place, name in zip(wanted, (name for name, (data, _) in ODD.items() if data), strict=True):
            indices, images = pairs.images.rows(_index(place))
            assert (int(indices[0]) == place) == (name in GOOD), name
            if name in GOOD:
                assert (images[0].numpy() == shown[name]).all(), name
        assert reasons(bad) == set(ODD) - set(GOOD)

    def test_training_from_a_stream(self, shard: str, shown: dict[str, np.ndarray]) -> None:
        stream = ShardStream(
            shards=(shard,), image_size=SIDE, context_length=12, share=len(GOOD), rank=0, seed=0, start=0,
            workers=0,
        )  # fmt: skip
        bad = BadSamples(limit=len(ODD))
        for made in _until_pairs(iter(_Reader(stream))):
            if isinstance(made, _Pairs):
                tokens = SimpleTokenizer(context_length=12)(GOOD)
                rows = [(made.ids_BL == ids).all(dim=1).nonzero().item() for ids in tokens]
                for name, row in zip(GOOD, rows, strict=True):
                    assert (made.images_BHWC[int(row)].numpy() == shown[name]).all(), name
            else:
                bad.add(shard, InputError(made.reason))
        assert reasons(bad) == set(ODD) - set(GOOD)

    @pytest.mark.parametrize("ending", ["jpg", "dat"])
    def test_preparing(
        self, tmp_path: Path, shown: dict[str, np.ndarray], ending: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "source").mkdir()
        for name, (data, _) in ODD.items():
            (tmp_path / "source" / f"{key(name)}.{ending}").write_bytes(data)
            (tmp_path / "source" / f"{key(name)}.txt").write_text(name)
        command = ["--data", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--max-bad", "99"]
        assert run_command(prepare, command) == 0
        said = capsys.readouterr().err
        assert all(key(name) in said for name in set(ODD) - set(GOOD)) or ending == "dat"
        pairs = load_pairs(str(tmp_path / "out"), image_size=SIDE, context_length=12)
        assert len(pairs) == len(GOOD)
        for place in range(len(pairs)):
            name = pairs.captions_M[pairs.caption_of_K[place]]
            assert (pairs.images.rows(_index(place))[1][0].numpy() == shown[name]).all(), name


def _index(place: int) -> object:
    import torch

    return torch.tensor([place])


def _until_pairs(made: Iterator[object]) -> Iterator[object]:
    for item in made:
        yield item
        if isinstance(item, _Pairs):
            return
