"""BM25: which of many short texts share rare words with a query.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the idf of Lucene,
which is never negative.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigError

_WITHOUT_SPACES = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
"""A character of Thai, Lao, Burmese, Khmer, Japanese or Chinese, in which spaces do not separate words."""


@dataclass(frozen=True)
class Bm25:
    """Scores a text by the words that it shares with a query.

    The score is the sum, over the different words q of the query, of

        idf(q) f (k1 + 1) / (f + k1 (1 - b + b n / mean n)),  idf(q) = ln(1 + (N - N_q + 0.5) / (N_q + 0.5))

    where f is how often q is in the text, n the number of words of the text, N the number of texts and N_q the number
    of those that have q. Words are compared without case, and not by their stems.
    """

    k1: float
    """How much a word counts that comes again in a text."""
    b: float
    """From 0 to 1: how much a word counts less in a long text."""
    ignored: tuple[str, ...]
    """Words that say nothing about what a text is about, such as "what"."""

    def __post_init__(self) -> None:
        if self.k1 < 0:
            raise ConfigError(
                f"sampler.bm25.k1={self.k1} would count a word for less, the more often it comes",
                "set sampler.bm25.k1=1.2",
            )
        if not 0 <= self.b <= 1:
            raise ConfigError(f"sampler.bm25.b={self.b} is not from 0 to 1", "set sampler.bm25.b=0.75")


class Index:
    """Texts that queries are compared with.

    Args:
        texts: any number of them.
        settings: of the formula.
    """

    def __init__(self, texts: Sequence[str], settings: Bm25) -> None:
        self._settings = settings
        self._ignored = frozenset(settings.ignored)
        self._counts = [Counter(words(text)) for text in texts]
        self._lengths = [count.total() for count in self._counts]
        self._mean = sum(self._lengths) / max(len(texts), 1)
        self._texts_with = Counter(word for count in self._counts for word in count)

    def scores(self, query: str) -> list[float]:
        """The score of each text: 0 where it has no word of the query."""
        asked = [word for word in dict.fromkeys(words(query)) if word in self._texts_with and word not in self._ignored]
        return [
            math.fsum(self._score(word, count[word], length) for word in asked if count[word])
            for count, length in zip(self._counts, self._lengths, strict=True)
        ]

    def _score(self, word: str, often: int, length: int) -> float:
        k1, b = self._settings.k1, self._settings.b
        texts, having = len(self._counts), self._texts_with[word]
        idf = math.log1p((texts - having + 0.5) / (having + 0.5))
        return idf * often * (k1 + 1) / (often + k1 * (1 - b + b * length / self._mean))


def words(text: str) -> list[str]:
    """The words of a text in their order, without case; single characters of scripts without spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in plain)
    return _WITHOUT_SPACES.sub(r" \1 ", letters).split()
