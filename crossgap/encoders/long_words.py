"""Words of thousands of letters in time that grows with their length, as CLIP's tokenizer divides them.

``SimpleTokenizer.bpe`` rebuilds the whole word for each pair that it joins, which takes half a minute for
20,000 letters, and a text without spaces (Chinese, data that are no text) is one word. The same pairs are
joined here in the same order with a queue: [0] Sennrich et al., 2016, arXiv 1508.07909, algorithm 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from open_clip import SimpleTokenizer

_LONG = 200  # letters, from which on the queue is worth its while


def remember_long_words(tokenizer: Any, texts: Sequence[str]) -> None:
    """Put the long words of texts into the memory of a tokenizer of CLIP's kind; leave others alone."""
    if not isinstance(tokenizer, SimpleTokenizer):
        return
    for text in texts:
        if len(text) <= _LONG or max(map(len, text.split()), default=0) <= _LONG // 4:
            continue
        for word in tokenizer.pat.findall(tokenizer.clean_fn(text)):
            written = "".join(tokenizer.byte_encoder[byte] for byte in word.encode())
            if len(written) > _LONG and written not in tokenizer.cache:
                tokenizer.cache[written] = " ".join(pieces(written, tokenizer.bpe_ranks))


def pieces(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Divide a word, its bytes written as letters, into the pieces that byte-pair encoding joins.

    The pair of lowest rank is joined wherever it stands, from left to right, then the next one.
    """
    parts = [*word[:-1], f"{word[-1]}</w>"]
    count = len(parts)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    queue = [(ranks[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        rank = queue[0][0]
        joined = []
        while queue and queue[0][0] == rank:
            _, place = heapq.heappop(queue)
            right = after[place]
            if not parts[place] or right == count or ranks.get((parts[place], parts[right])) != rank:
                continue  # one of them was joined to something else since
            parts[place], parts[right] = parts[place] + parts[right], ""
            after[place] = after[right]
            if after[place] < count:
                before[after[place]] = place
            joined.append(place)
        for place in joined:
            for left in (before[place], place):
                if left >= 0 and after[left] < count:
                    pair = (parts[left], parts[after[left]])
                    if pair in ranks:
                        heapq.heappush(queue, (ranks[pair], left))
    return [part for part in parts if part]
