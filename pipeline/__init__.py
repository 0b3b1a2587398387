"""Two-stage VideoQA: a sampler says which moments matter, an answerer sees only those."""

__version__ = "0.1.0"
