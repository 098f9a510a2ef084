"""Cross-modal inversion, retrieval and modality-gap measurement for CLIP-like models.

Shape suffixes used everywhere: B batch, N items, Q queries, G gallery, D embedding, W tower width,
L sequence, K pseudo-tokens. ``image_BD`` is a batch of image embeddings with unit rows.
"""

__version__ = "0.2.0"
