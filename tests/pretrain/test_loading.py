"""Where pairs come from: memory, indexed shards, a stream; and what happens when the shards are bad."""

from __future__ import annotations

import io
import json
import multiprocessing
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from crossgap.datasets.bad import BadSamples
from crossgap.errors import InputError
from crossgap.files import read_json
from pretrain.config import Loading, TrainConfig, smoke
from pretrain.data import resampled, tokens
from pretrain.data.batches import Batches
from pretrain.data.pairs import load_pairs
from pretrain.data.resampled import ResampledBatches, ShardStream
from pretrain.recipes import RECIPES
from pretrain.run import train
from pretrain.settings import AugmentConfig
from tests.commands import Process
from tests.training_shards import write_shard

PARTS = ("image", "text", "second_image", "second_text", "fewer_words", "local_images")
SECONDS = 10
ROOT = Path(__file__).resolve().parent.parent.parent


def config(data: str, loading: Loading, **more: Any) -> TrainConfig:
    given = replace(smoke(RECIPES["baseline"]()), data=data, limit=None, device="cpu", threads=1)
    return replace(given, loading=loading, **{"batch_size": 8, **more})


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "open_clip_model.safetensors")


def streamed(
    shards: list[Path], *, workers: int = 0, share: int = 8, limit: int = 0, buffer: int = 1000,
    start: int = 0, rank: int = 0,
) -> ResampledBatches:  # fmt: skip
    stream = ShardStream(
        shards=tuple(map(str, shards)), image_size=20, context_length=12, share=share, rank=rank, seed=0,
        start=start, workers=workers, buffer=buffer,
    )  # fmt: skip
    return ResampledBatches(
        stream=stream, bad=BadSamples(limit=limit), batch_size=share, image_size=16, augment=AugmentConfig(),
        seed=0,
    )  # fmt: skip


# ------------------------------------------------------------------------------ images that stay in shards


@pytest.mark.parametrize("workers", [1, 3])
def test_indexed_shards_train_to_the_bits_of_memory(tmp_path: Path, workers: int) -> None:
    write_shard(tmp_path / "a.tar")
    write_shard(tmp_path / "b.tar", [[f"thing {k}"] for k in range(5)], size=31)
    data = str(tmp_path / "{a,b}.tar")
    memory = train(config(data, "memory"), tmp_path / "memory", progress=False)
    indexed = train(config(data, "indexed", workers=workers), tmp_path / "indexed", progress=False)
    ours, theirs = weights(memory.checkpoint), weights(indexed.checkpoint)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_process_makes_its_own_rows_alone_and_they_are_those_of_the_batch(tmp_path: Path) -> None:
    shard = str(write_shard(tmp_path / "a.tar"))
    pairs = load_pairs(shard, image_size=20, context_length=12, keep_in_shards=True, workers=2)
    batches = Batches(pairs=pairs, batch_size=8, image_size=16, augment=AugmentConfig(), seed=0)
    whole = batches.batch(3, (*PARTS, "concept_B"))
    cut = whole.rows(4, 8)
    own = batches.batch(3, (*PARTS, "concept_B"), rows=slice(4, 8))
    assert own.first_row == cut.first_row == 4
    for name in ("images", "given"):
        ours, theirs = getattr(own, name), getattr(cut, name)
        assert all(torch.equal(ours[part], theirs[part]) for part in theirs)
    for part, text in cut.texts.items():
        assert torch.equal(own.texts[part].ids_BL, text.ids_BL)
        assert torch.equal(own.texts[part].lengths_B, text.lengths_B)


def test_an_image_that_cannot_be_decoded_gives_its_place_to_the_pair_after_it(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [[f"thing {k}"] for k in range(6)])
    damage_image(shard, 2)
    bad = BadSamples(limit=1)
    pairs = load_pairs(str(shard), image_size=20, context_length=12, bad=bad, keep_in_shards=True)
    assert not bad.reasons
    drawn, images = pairs.images.rows(torch.tensor([1, 2, 3, 2]))
    assert drawn.tolist() == [1, 3, 3, 3]
    assert torch.equal(images[1], images[2])
    assert len(bad.reasons) == 1  # met twice, counted once
    assert "a.tar" in bad.reasons[0]
    assert "'0002'" in bad.reasons[0]
    assert bad.by_shard == {str(shard): 1}


def test_images_cannot_stay_in_a_packed_shard(tmp_path: Path) -> None:
    plain = write_shard(tmp_path / "a.tar")
    packed = tmp_path / "a.tar.gz"
    import gzip

    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError, match=r"a\.tar\.gz is packed or not local.*resampled"):
        load_pairs(
            str(packed), image_size=20, context_length=12, keep_in_shards=True, bad=BadSamples(limit=99)
        )


# ------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_of_a_stream_holds_every_pair_once(tmp_path: Path, workers: int) -> None:
    shards = [
        write_shard(tmp_path / f"{s}.tar", [[f"number {8 * s + k}", f"other {8 * s + k}"] for k in range(8)])
        for s in range(4)
    ]
    batches = streamed(shards, workers=workers, buffer=5)
    seen: list[tuple[int, ...]] = []
    for step in range(4 * max(1, workers)):
        batch = batches.batch(step, PARTS)
        assert batch.images["image"].shape == (8, 3, 16, 16)
        assert batch.images["local_images"].shape == (8, 2, 3, 16, 16)
        assert not torch.equal(batch.texts["text"].ids_BL, batch.texts["second_text"].ids_BL)
        seen += [tuple(row.tolist()) for row in batch.texts["text"].ids_BL]
    numbers = [row[2] if len({row[2], row[3]}) else None for row in seen]
    assert len(numbers) == 32 * max(1, workers)
    # the pair of captions of a picture ends in the same number: each occurs once a pass of a worker
    ends = sorted(row[2:4] for row in seen)
    assert all(ends.count(end) == max(1, workers) for end in ends)
    assert seen != sorted(seen)


def test_streams_of_other_ranks_workers_and_starts_differ_and_the_same_one_repeats(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{s}.tar", [[f"n {16 * s + k}"] for k in range(16)]) for s in range(4)]

    def first(**more: Any) -> torch.Tensor:
        return streamed(shards, **more).batch(0, ("text",)).texts["text"].ids_BL

    assert torch.equal(first(), first())
    assert torch.equal(first(workers=2), first(workers=2))
    assert not torch.equal(first(), first(rank=1))
    assert not torch.equal(first(), first(start=50))


def test_a_stream_numbers_concepts_alike_everywhere_and_needs_them(tmp_path: Path) -> None:
    named, bare = write_shard(tmp_path / "a.tar"), write_shard(tmp_path / "b.tar", [["x"], ["y"]] * 4)
    one, other = (
        streamed([named], share=16, start=k).batch(0, ("concept_B", "text")).given["concept_B"]
        for k in (0, 1)
    )
    assert set(one.tolist()) == set(other.tolist())
    assert len(set(one.tolist())) == 4
    with pytest.raises(InputError, match="not every sample of the data names one"):
        streamed([bare]).batch(0, ("concept_B",))


def test_a_streamed_run_trains_stops_and_goes_on(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    shard = write_shard(tmp_path / "b.tar")
    damage_image(shard, 3)
    given = config(str(tmp_path / "{a,b}.tar"), "resampled", max_bad=1, workers=1)
    out = tmp_path / "run"
    done = train(given, out, progress=False)
    assert done.pairs_seen == given.steps * 8
    assert read_json(done.checkpoint / "state.json")["bad"] == [
        reason for reason in read_json(done.checkpoint / "state.json")["bad"] if "b.tar" in reason
    ]
    assert read_json(out / "config.json")["data"]["amount"] == "a stream of 2 shards"
    import shutil

    shutil.rmtree(done.checkpoint)  # as if it was never written
    again = train(given, out, progress=False)
    assert again.pairs_seen == done.pairs_seen


def test_what_a_reader_remembers_of_words_is_bounded_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def word(k: int, j: int) -> str:
        return "".join(chr(97 + digit) for digit in (k // 8, k % 8, j, 20, k % 5))

    shard = write_shard(tmp_path / "a.tar", [[word(k, j) for j in range(3)] for k in range(64)])
    kept: list[int] = []
    tokenizers: list[Any] = []

    class Watched(tokens.SimpleTokenizer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            tokenizers.append(self)

    def texts() -> torch.Tensor:
        batches = streamed([shard])
        found = []
        for step in range(24):
            found.append(batches.batch(step, ("text",)).texts["text"].ids_BL)
            kept.append(len(tokenizers[-1].cache))
        return torch.cat(found)

    monkeypatch.setattr(tokens, "SimpleTokenizer", Watched)
    plain = texts()
    assert max(kept) > 100
    kept.clear()
    monkeypatch.setattr(resampled, "WORDS", 40)
    assert torch.equal(texts(), plain)
    assert max(kept) < 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "emoji"}, "give them, and no limit"),
        ({"limit": 5}, "give them, and no limit"),
        ({"loading": "ram"}, "loading"),
        ({"workers": -1}, "workers=-1"),
        ({"objective": RECIPES["separation-semantic"]().objective}, "use indexed"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(config("x.tar", "resampled"), **change)


_MEASURE = """
import resource, sys
from pathlib import Path
import torch
from tests.pretrain.test_loading import streamed
torch.set_num_threads(1)
batches = streamed(sorted(Path(sys.argv[1]).glob("*.tar")), share=500)
for step in range(80):
    batches.batch(step, ("image", "text"))
    if step in (9, 79):
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_stream_of_forty_thousand_pairs_has_constant_memory(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0000.tar", [[f"thing {k}"] for k in range(1000)])
    for number in range(1, 40):
        (tmp_path / f"{number:04d}.tar").hardlink_to(shard)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parent.parent.parent,
    )  # fmt: skip
    early, late = map(float, done.stdout.split())
    print(f"peak {early:.0f} MiB after 5,000 pairs, {late:.0f} MiB after 40,000")
    assert late < early + 3.5, f"{early} MiB after 5,000 pairs, {late} after 40,000"  # 105 bytes a pair


# --------------------------------------------------------------------------------------------- bad shards


def rewrite(shard: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a shard again with changed members."""
    with tarfile.open(shard) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as archive:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(changed)
                archive.addfile(entry, io.BytesIO(changed))


def damage_image(shard: Path, number: int) -> None:
    rewrite(shard, lambda name, data: data[:40] if name == f"{number:04d}.png" else data)


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few hundred bytes that says that it has many pixels: 3.6 billion."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def _captionless(name: str, data: bytes) -> bytes | None:
    return json.dumps({}).encode() if name == "0002.json" else data


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated tar": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "truncated or"),
    "zero-byte tar": (lambda p: p.write_bytes(b""), "bad.tar: "),
    "bomb image": (
        lambda p: rewrite(p, lambda name, data: bomb() if name == "0002.png" else data), "cannot be decoded"
    ),
    "large image": (
        lambda p: rewrite(p, lambda name, data: bomb(13_400) if name == "0002.png" else data),
        "exceeds limit of 178956970 pixels",  # 180 million are hardly more
    ),
    "cut image": (lambda p: damage_image(p, 2), "cannot be decoded"),
    "missing captions": (lambda p: rewrite(p, _captionless), "no captions"),
    "not a tar": (lambda p: p.write_bytes(b"<html>404</html>" * 100), "truncated or damaged|unreadable"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("loading", ["memory", "indexed", "resampled"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_shard_is_refused_or_counted_and_never_waited_for(
    tmp_path: Path, damage: str, loading: Loading
) -> None:
    write_shard(tmp_path / "good.tar")
    spoil, message = DAMAGES[damage]
    spoil(write_shard(tmp_path / "bad.tar"))
    given = config(str(tmp_path / "{bad,good}.tar"), loading, workers=3)  # more workers than shards
    started = time.monotonic()
    with pytest.raises(InputError, match=message) as refused:
        train(replace(given, batch_size=16), tmp_path / "refused", progress=False)
    assert "bad.tar" in str(refused.value)
    assert "--max-bad" in str(refused.value)
    assert time.monotonic() - started < SECONDS
    done = train(replace(given, max_bad=1), tmp_path / "counted", progress=False)
    assert time.monotonic() - started < 2 * SECONDS
    bad = read_json(done.checkpoint / "state.json")["bad"]
    assert len(bad) == 1
    assert "bad.tar" in bad[0]


def test_shards_without_a_pair_that_can_be_used_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        shard = write_shard(tmp_path / f"{name}.tar", [["x"]])
        damage_image(shard, 0)
    started = time.monotonic()
    with pytest.raises(InputError, match="no pair of image and caption in any of 2 shards"):
        train(
            config(str(tmp_path / "{a,b}.tar"), "resampled", max_bad=9, workers=2), tmp_path / "run",
            progress=False,
        )  # fmt: skip
    with pytest.raises(InputError, match="no image of the data can be decoded"):
        train(
            config(str(tmp_path / "{a,b}.tar"), "indexed", max_bad=9, batch_size=2), tmp_path / "other",
            progress=False,
        )  # fmt: skip
    assert time.monotonic() - started < SECONDS


def test_readers_end_with_their_run_whoever_still_holds_its_error(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar")
    given = config(str(shard), "resampled", workers=2)
    train(given, tmp_path / "done", progress=False)
    assert not multiprocessing.active_children()
    damage_image(shard, 3)
    with pytest.raises(InputError) as refused:
        train(given, tmp_path / "refused", progress=False)
    assert not multiprocessing.active_children()
    assert refused.traceback


@pytest.mark.slow
def test_a_reader_that_is_killed_ends_the_run_with_a_message(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = Process(
        "pretrain.train", "--smoke", "--data", str(write_shard(tmp_path / "a.tar")), "--loading", "resampled",
        "--workers", "1", "--steps", "100000", "--batch-size", "8", "--threads", "1", "--out", str(out),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (reader,) = psutil.Process(process.pid).children()
    reader.kill()
    assert process.wait(timeout=SECONDS) == 2
    errors = process.errors()
    assert "reading the shards failed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_reader_killed_while_its_batch_is_taken_over_is_named(tmp_path: Path, error: Exception) -> None:
    class Killed:
        def __next__(self) -> None:
            raise error

    batches = streamed([write_shard(tmp_path / "a.tar")])
    batches.__dict__["_items"] = Killed()
    with pytest.raises(InputError, match=f"a reader ended .*{type(error).__name__}"):
        batches.batch(0)
