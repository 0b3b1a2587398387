"""Checkpoints, and the models that are loaded from them."""

from pipeline.models.torchvision_import import install

install()
