"""Images decoded ahead of the encoder: open_clip's own pixels, any number of threads, bounded, ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from crossgap.compute import DEFAULT, Compute, default_workers
from crossgap.datasets.tasks import Items
from crossgap.embeddings import encode_items, encode_parts, feature_path
from crossgap.encoders import pixels
from crossgap.encoders.pixels import SplitPreprocessing, WholePreprocessing, pixels_ahead
from crossgap.errors import InputError
from tests.conftest import tiny_encoder
from tests.miniatures import picture
from tests.reference import plain_encoding

CPU = torch.device("cpu")


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def images(count: int) -> Items:
    ids = tuple(f"image-{place}" for place in range(count))
    contents = tuple(picture(place, place) for place in range(count))
    return Items(modality="image", ids=ids, contents=contents, labels=ids)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [32, (24, 40)])
def test_pixels_are_open_clips_own(mode: str, interpolation: str, size: int | tuple[int, int]) -> None:
    transform = open_clip.image_transform(
        size, is_train=False, resize_mode=mode, interpolation=interpolation, fill_color=7
    )
    split = SplitPreprocessing(transform)
    for width, height in ((50, 37), (20, 61), (32, 32), (9, 8)):
        shown = photo(width, height)
        found = split.finish(split.prepare(shown)[None])
        assert torch.equal(found, transform(shown)[None])


def test_every_byte_becomes_the_number_that_open_clip_makes_of_it() -> None:
    transform = open_clip.image_transform(16, is_train=False, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    shown = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2))
    split = SplitPreprocessing(transform)
    prepared_1CHW = split.prepare(shown)[None]
    assert torch.equal(split.finish(prepared_1CHW), transform(shown)[None])
    assert torch.equal(split._looked_up(prepared_1CHW), transform(shown)[None]), "as on a GPU"


@pytest.mark.parametrize("count", [1, 5, 23])
def test_features_are_those_of_the_plain_loop_for_any_number_of_workers(count: int) -> None:
    encoder, items = tiny_encoder(), images(count)
    expected = plain_encoding(encoder, items, 5)
    for workers in (1, 2, 7):
        assert torch.equal(
            encode_items(encoder, items, compute=Compute(workers=workers, batch_size=5)), expected
        )


def test_parts_are_cut_by_themselves() -> None:
    """A chunk that is made again has the same bits, whatever is made beside it."""
    encoder, items = tiny_encoder(), images(23)
    parts = [range(7), range(14, 21), range(21, 23)]
    found = list(encode_parts(encoder, items, parts, compute=Compute(batch_size=5)))
    for part, values_ND in zip(parts, found, strict=True):
        assert torch.equal(values_ND, plain_encoding(encoder, items.subset(part), 5))


def test_an_encoder_of_another_kind_preprocesses_by_itself() -> None:
    encoder = tiny_encoder()
    shown = [photo(40, 30, seed) for seed in range(6)]
    found = list(
        pixels_ahead(
            shown.__getitem__,
            [range(4), range(4, 6)],
            WholePreprocessing(encoder.preprocess),
            device=CPU,
            workers=2,
        )
    )
    assert torch.equal(torch.cat(found), encoder.preprocess(shown))


def ahead(read, count: int, *, size: int = 4, workers: int = 2):
    split = SplitPreprocessing(open_clip.image_transform(8, is_train=False))
    batches = [range(start, start + size) for start in range(0, count, size)]
    return pixels_ahead(read, batches, split, device=CPU, workers=workers)


@pytest.mark.parametrize(("cores", "beside"), [(3, pixels._AHEAD), (2, 0)])
def test_no_more_than_some_batches_are_read_ahead(
    cores: int, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is, where two threads that decode and two that encode have two cores."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(pixels, "own_cores", lambda: cores)
    read: list[int] = []

    def noted(place: int) -> Image.Image:
        read.append(place)
        return photo(9, 9)

    reading = ahead(noted, 400)
    for number in range(1, 6):
        next(reading)
        deadline = time.monotonic() + 10
        while len(read) < 4 * (number + beside) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(read) == 4 * (number + beside)
    reading.close()
    time.sleep(0.02)
    assert len(read) == 4 * (5 + beside)


@pytest.mark.parametrize("kind", [InputError, KeyboardInterrupt])
def test_what_a_reader_raises_comes_in_order_and_ends_the_threads(kind: type[BaseException]) -> None:
    def read(place: int) -> Image.Image:
        if place in (9, 11):
            raise kind(f"image {place}")
        return photo(9, 9)

    reading = ahead(read, 400)
    assert len(next(reading)) == len(next(reading)) == 4
    with pytest.raises(kind, match="image 9"):
        next(reading)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_bad_image_is_named_as_by_the_plain_loop(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(picture(0, 0)[:200])
    good = images(9)
    items = Items(
        modality="image",
        ids=(*good.ids, "bad"),
        contents=(*good.contents, tmp_path / "bad.jpg"),
        labels=(*good.labels, "bad"),
    )
    with pytest.raises(InputError) as expected:
        plain_encoding(tiny_encoder(), items)
    with pytest.raises(InputError) as found:
        encode_items(tiny_encoder(), items)
    assert str(found.value) == str(expected.value)


def test_workers_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(12)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    gpu = torch.device("cuda", 0)
    assert (default_workers(CPU), default_workers(gpu)) == (3, 11)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")
    assert (default_workers(CPU), default_workers(gpu)) == (2, 1)
    assert Compute(workers=5).workers_for(gpu) == 5
    with pytest.raises(InputError, match="--workers must be at least 1, not 0"):
        Compute(workers=0)


@pytest.mark.parametrize(
    ("gib", "encoded", "inverted"),
    [
        (7.8, 256, 64),
        (15.7, 256, 64),
        (23.6, 256, 64),
        (47.4, 512, 64),
        (79.1, 1024, 128),
        (139.8, 2048, 256),
    ],
)
def test_batches_grow_with_the_memory_of_the_device(
    gib: float, encoded: int, inverted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = SimpleNamespace(total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: about)
    gpu = torch.device("cuda", 0)
    assert (DEFAULT.encoded_at_once(gpu), DEFAULT.inverted_at_once(gpu)) == (encoded, inverted)
    assert (DEFAULT.encoded_at_once(CPU), DEFAULT.inverted_at_once(CPU)) == (256, 64)
    assert Compute(batch_size=7).encoded_at_once(gpu) == Compute(batch_size=7).inverted_at_once(CPU) == 7
    with pytest.raises(InputError, match="--batch-size must be at least 1, not 0"):
        Compute(batch_size=0)


def test_features_of_another_batch_size_are_kept_by_themselves(tmp_path: Path) -> None:
    encoder, items = tiny_encoder(), images(3)
    paths = {feature_path(encoder, items, tmp_path, Compute(batch_size=size)) for size in (256, 2, 3)}
    assert len(paths) == 3
    assert feature_path(encoder, items, tmp_path) in paths
