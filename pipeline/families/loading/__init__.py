"""Checkpoints, and the models that are loaded from them."""

from pipeline.families.loading.moving_parts import prepare_torchvision

prepare_torchvision()
