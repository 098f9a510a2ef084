"""Long words: the same pieces as CLIP's tokenizer, in a moment, in evaluation and training alike."""

from __future__ import annotations

import random
import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer

from crossgap.encoders.long_words import pieces, remember_long_words
from pretrain.data.images import ImagesInMemory
from pretrain.data.pairs import pairs_of
from tests.conftest import tiny_encoder

TOKENIZER = SimpleTokenizer(context_length=77)


def slow(word: str) -> list[str]:
    """Let the tokenizer do it itself, without its memory."""
    TOKENIZER.cache.pop(word, None)
    return TOKENIZER.bpe(word).split(" ")


@settings(max_examples=300)
@given(st.one_of(st.text("abcest", min_size=1, max_size=60), st.text("an-=_!0", min_size=1, max_size=80)))
def test_pieces_equal_the_tokenizers(word: str) -> None:
    assert pieces(word, TOKENIZER.bpe_ranks) == slow(word)


@pytest.mark.parametrize(
    "word", ["a" * 700, "-" * 700, "ab" * 300, "the" * 200, "xylophone" * 60, "写真猫" * 100, "🙂" * 150]
)
def test_long_words_give_the_same_tokens(word: str) -> None:
    fresh, warm = SimpleTokenizer(), SimpleTokenizer()
    texts = [word, f"a photo of {word} & a dog", f"{word} {word}!"]
    remember_long_words(warm, texts)
    assert len(warm.cache) > len(fresh.cache)
    assert torch.equal(warm(texts, context_length=500), fresh(texts, context_length=500))


def joined_pairs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every long word that the tokenizer itself would divide."""
    asked: list[str] = []
    plain = SimpleTokenizer.bpe

    def bpe(self: SimpleTokenizer, token: str) -> str:
        if token not in self.cache and len(token) > 200:
            asked.append(token)
        return plain(self, token)

    monkeypatch.setattr(SimpleTokenizer, "bpe", bpe)
    return asked


def test_a_word_of_20000_letters_takes_the_quick_way_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = joined_pairs(monkeypatch)
    word = "".join(random.Random(0).choices(string.ascii_lowercase, k=20_000))
    encoder = tiny_encoder()
    assert encoder.tokenize([word, f"x{word}!"]).shape == (2, encoder.context_length)
    images = ImagesInMemory(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    pairs_of(images, [[f"y{word}"]], [None], context_length=10, digest="")
    assert not asked
