"""Reading shards: captions, order, and every way in which a shard can be bad."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.readers.shards import expand_shards, read_shards
from crossgap.errors import InputError


def encoded(colour: object = "red", *, kind: str = "PNG", mode: str = "RGB", size: int = 16) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (size, size), colour).save(stream, kind)
    return stream.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def samples(keys: Sequence[str]) -> list[tuple[str, bytes]]:
    """Samples of 3 kB each whose bytes are not regular, so that a cut never looks like an end."""
    noise = random.Random(0)
    return [
        part
        for key in keys
        for part in ((f"{key}.jpg", noise.randbytes(3000)), (f"{key}.txt", f"caption {key}".encode()))
    ]


def test_samples_come_in_file_order_with_their_parts(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "00.tar", samples(["b", "a"]))
    second = write_tar(tmp_path / "01.tar", samples(["c"]))
    read = list(read_shards(str(tmp_path / "{00..01}.tar")))
    assert [sample.key for sample in read] == ["b", "a", "c"]
    assert [sample.shard for sample in read] == [str(first), str(first), str(second)]
    assert [sample.captions for sample in read] == [("caption b",), ("caption a",), ("caption c",)]
    assert read[2].image == samples(["c"])[0][1]
    assert read == list(read_shards([str(first), str(second)]))


def test_a_compressed_shard_and_a_url_read_the_same(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(["a", "b"]))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with fsspec.open("memory://shards/a.tar", "wb") as stream:
        stream.write(path.read_bytes())
    expected = [(sample.key, sample.image, sample.captions) for sample in read_shards(str(path))]
    for other in (str(tmp_path / "a.tar.gz"), "memory://shards/a.tar", path.as_uri()):
        assert [(sample.key, sample.image, sample.captions) for sample in read_shards(other)] == expected


@pytest.mark.parametrize(
    ("parts", "captions"),
    [
        ({"txt": b" one \n\ntwo\n"}, ("one", "two")),
        ({"txt": "\ufeffcaf\u00e9\r\n".encode()}, ("caf\u00e9",)),
        ({"txt": b"text", "json": b'{"caption": "json"}'}, ("text",)),
        ({"txt": b"text", "json": b'{"captions": ["a", "b"], "caption": "c"}'}, ("a", "b")),
        ({"json": b'{"caption": "json", "width": 3}'}, ("json",)),
        ({"json": b'{"captions": null, "caption": null}'}, ()),
        ({"txt": b""}, ()),
    ],
)
def test_captions_are_taken_from_captions_then_txt_then_caption(
    tmp_path: Path, parts: dict[str, bytes], captions: tuple[str, ...]
) -> None:
    members = [("k.webp", b"x"), *((f"k.{extension}", data) for extension, data in parts.items())]
    (sample,) = read_shards(str(write_tar(tmp_path / "a.tar", members)), need=())
    assert sample.captions == captions


def test_extensions_are_case_blind_and_others_ignored(tmp_path: Path) -> None:
    members = [
        ("d/k.JPG", b"x"),
        ("d/k.npy", b"?"),
        ("d/k.mask.png", b"?"),
        ("d/k.TXT", b"y"),
        ("README", b""),
    ]
    (sample,) = read_shards(str(write_tar(tmp_path / "a.tar", members)))
    assert (sample.key, sample.image, sample.captions) == ("d/k", b"x", ("y",))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([], ["a.tar", "empty"]),
        ([("k.npy", b"1")], ["a.tar", "'k'", "no image", "its parts: .npy"]),
        ([("k.txt", b"x")], ["a.tar", "'k'", "no image", ".txt"]),
        ([("k.png", b"x")], ["a.tar", "'k'", "no captions", ".png"]),
        ([("k.png", b"x"), ("k.txt", b" \n")], ["a.tar", "'k'", "no captions"]),
        ([("k.png", b"x"), ("l.txt", b"x"), ("k.txt", b"x")], ["'k'", "no captions", "next to each other"]),
        ([("k.png", b"x"), ("k.png", b"x")], ["a.tar", "duplicate", "k.png"]),
        ([("k.png", b"x"), ("k.json", b"{")], ["a.tar", "'k'", "not JSON"]),
        ([("k.png", b"x"), ("k.json", b"[1]")], ["a.tar", "'k'", "list", "object"]),
        ([("k.png", b"x"), ("k.json", b'{"captions": "one"}')], ["a.tar", "'k'", "'one'"]),
        ([("k.png", b"x"), ("k.txt", b"\xff\xfe\xff")], ["a.tar", "'k'", "UTF-8"]),
    ],
)
def test_a_bad_sample_is_refused_by_name(
    tmp_path: Path, members: list[tuple[str, bytes]], says: list[str]
) -> None:
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(InputError) as refused:
        list(read_shards(str(path)))
    assert [part for part in says if part not in str(refused.value)] == []


def test_a_cut_tar_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", samples(["a", "b", "c"])).read_bytes()
    content = len(whole.rstrip(b"\0"))
    for length in [0, 1, 511, 512, 513, *range(700, content, 487), content, -(-content // 512) * 512]:
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.tar.*truncated or damaged"):
            list(read_shards(str(tmp_path / "cut.tar")))


def test_a_damaged_header_and_a_cut_gzip_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(["a", "b", "c"]))
    whole = bytearray(path.read_bytes())
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(bytes(whole))[:-2000])
    with pytest.raises(InputError, match=r"cut\.tar\.gz.*truncated"):
        list(read_shards(str(tmp_path / "cut.tar.gz")))
    whole[512 + 3072 + 20] ^= 1  # in the header of the second member
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.tar"):
        list(read_shards(str(path), need=("image",)))


def test_bytes_that_are_no_tar_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(encoded(size=200) * 20)
    with pytest.raises(InputError, match=r"a\.tar.*truncated or damaged"):
        list(read_shards(str(tmp_path / "a.tar")))


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("pipe:cat a.tar", ["'pipe'", "https"]),
        ("ftp://host/a.tar", ["'ftp'"]),
        ("missing-{0..1}.tar", ["missing-0.tar", "no such file"]),
        ("file:///nowhere/a.tar", ["/nowhere/a.tar"]),
        ([], ["names no shard"]),
        ("{a", ["braces"]),
    ],
)
def test_a_bad_pattern_is_refused(pattern: str | list[str], says: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        list(read_shards(pattern))
    assert [part for part in says if part not in str(refused.value)] == []


def test_braces_and_lists_expand_in_order(tmp_path: Path) -> None:
    names = ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    for name in names:
        (tmp_path / name).touch()
    expected = [str(tmp_path / name) for name in names]
    assert expand_shards(f"{tmp_path}/{{a,b}}-{{0..1}}.tar") == expected
    assert expand_shards([f"{tmp_path}/a-{{0..1}}.tar", f"{tmp_path}/b-{{0..1}}.tar"]) == expected
    assert expand_shards("s3://bucket/{00..02}.tar") == [f"s3://bucket/0{n}.tar" for n in range(3)]


def test_transparent_pixels_become_white() -> None:
    assert decode_image(encoded((255, 0, 0, 0), mode="RGBA"), where="x").getpixel((3, 3)) == (255, 255, 255)
    half = decode_image(encoded((0, 0, 0, 128), mode="RGBA"), where="x").getpixel((3, 3))
    assert half == (127, 127, 127)
    for kind, mode in (("PNG", "L"), ("PNG", "P"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("PNG", "1")):
        assert decode_image(encoded(0, kind=kind, mode=mode), where="x").mode == "RGB"


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", encoded(size=64)[:-40], encoded(kind="JPEG", size=64)[:300], encoded(kind="ICO")],
    ids=["empty", "text", "cut png", "cut jpeg", "another format"],
)
def test_an_undecodable_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"shard\.tar, sample 'k'.*cannot be decoded"):
        decode_image(data, where="shard.tar, sample 'k'")


def test_json_is_kept_as_meta(tmp_path: Path) -> None:
    meta = {"label": 3, "key": "k", "exif": None}
    path = write_tar(tmp_path / "a.tar", [("k.png", b"x"), ("k.json", json.dumps(meta).encode())])
    (sample,) = read_shards(str(path), need=("image",))
    assert sample.meta == meta
