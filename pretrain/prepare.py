"""``python -m pretrain.prepare``: write shards to train on, from captioned images in a folder or a table."""

from __future__ import annotations

import sys
from pathlib import Path

from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import check_place


def main(
    *,
    data: Path,
    out: Path,
    per_shard: int = 1000,
    image_size: int | None = None,
    limit: int | None = None,
    max_bad: int = 0,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    data_root: Path | None = None,
) -> int:
    """Write shards to train on, with a manifest; the same command does nothing when they are there.

    Args:
        data: a folder of images, each with its captions in a .txt beside it, a line each; or a table
            (.csv, .tsv, .parquet) with the columns path and text, perhaps label and split (then the rows of
            train); or, with --data-root, one of the known datasets, as coco (its training part).
        out: folder for the shards; train with --data OUT.
        per_shard: samples a shard.
        image_size: shorter side in pixels, of larger images; default: files as they are.
        limit: write no more samples than this.
        max_bad: bad samples (no caption, no readable image) to leave out, named in the manifest.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: a .txt is one caption, not one a line.
        data_root: where the folders of the known datasets lie (python -m crossgap.datasets names them).
    """
    # only now, so that --help answers at once: these load torch
    from crossgap.datasets.readers.image_formats import allow_pixels
    from pretrain.data.shards import prepare

    allow_pixels(max_pixels)
    check_place(out)
    for name, value in {"per-shard": per_shard, "image-size": image_size, "limit": limit}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    manifest = prepare(
        data, out, per_shard=per_shard, image_size=image_size, limit=limit, max_bad=max_bad,
        data_root=data_root, whole_texts=whole_texts,
    )  # fmt: skip
    for sentence in manifest.get("left_out", []):
        print(f"warning: {sentence}", file=sys.stderr)
    for reason in manifest["bad"]:
        print(f"left out: {reason}", file=sys.stderr)
    left_out = f", {len(manifest['bad'])} left out" if manifest["bad"] else ""
    print(f"{out}: {manifest['samples']} samples in {len(manifest['shards'])} shards{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
