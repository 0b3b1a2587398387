"""Checkpoints, and the models that are loaded from them."""

from pipeline.families.loading.torchvision_import import install

install()
