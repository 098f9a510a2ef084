"""Datasets: the embedded emoji, folders, shards and CSV files, as retrieval tasks."""

from crossgap.datasets.shards import Sample, decode_image, expand_shards, read_shards

__all__ = ["Sample", "decode_image", "expand_shards", "read_shards"]
