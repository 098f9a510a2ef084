"""Small-scale CLIP pre-training with intra-modal terms and gap-narrowing regularizers."""
