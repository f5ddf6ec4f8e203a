"""Synthetic streets in the layout of Cityscapes, where the real set cannot be had.

Image and annotation come from one list of polygons, and all 19 classes occur in each
split, so that converter, data set, training and evaluation run as they do on
Cityscapes. Colours overlap between classes; shape, place and texture tell them apart.

    geometry -> shapes -> figures, vehicles -> scene -> painting -> writing
"""

from .writing import generate_synthetic_streets

__all__ = ["generate_synthetic_streets"]
