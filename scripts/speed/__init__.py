"""What ``scripts/benchmark_speed.py`` measures, and how. Imported before torch, which reads the variable."""

import os

import pipeline.families.loading  # noqa: F401  # prepares the import of torchvision

# Stock Aria does not fit 80 GB otherwise.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
