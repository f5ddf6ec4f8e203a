"""Backbones: Dy-ResNet, based on the host's ResNet, and those on our own base."""
