"""Blocks of the networks: each built static or dynamic from one description."""
