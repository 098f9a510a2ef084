"""Pure measures of scores and embeddings: retrieval, gap, misalignment, geometry, and their intervals."""
