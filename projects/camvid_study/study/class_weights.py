"""How often classes occur, and the loss weights that make up for it."""

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from rich.progress import track


def class_shares(dataset: BaseSegDataset) -> dict[str, float]:
    """Count the labelled pixels of each class, over all label maps at full size.

    Args:
        dataset: Its transforms are not applied.

    Returns:
        The share of each class in the pixels that are not ignored; the sum is 1.

    Raises:
        ValueError: No pixel is labelled with a class, or one with a label that is
            neither a class nor ignored.
    """
    names = dataset.metainfo["classes"]
    load = LoadAnnotations()
    pixels = np.zeros(len(names), dtype=np.int64)
    for index in track(range(len(dataset)), "label maps", transient=True):
        sample = load(dataset.get_data_info(index))
        labels = sample["gt_seg_map"]
        counts = np.bincount(
            labels[labels != dataset.ignore_index], minlength=len(names)
        )
        if len(counts) > len(names):
            raise ValueError(
                f"{sample['seg_map_path']} holds the label {len(counts) - 1}: allowed "
                f"are 0 to {len(names) - 1} and {dataset.ignore_index}, which is "
                "ignored; prepare the label maps, or correct the data set's classes"
            )
        pixels += counts
    if not pixels.any():
        raise ValueError(
            f"none of {len(dataset)} label maps has a pixel of the classes "
            f"{', '.join(names)}: is this the labelled split, and are its maps those "
            "of the data set's classes?"
        )
    return dict(zip(names, (pixels / pixels.sum()).tolist(), strict=True))


def balancing_weights(shares: dict[str, float], offset: float) -> dict[str, float]:
    """Weigh a class with the share p by 1 / log(offset + p), scaled alike for all.

    The rule is that of ENet (Paszke et al. 2016, section 5.1, arXiv 1606.02147), where
    the offset is 1.02. The scale makes the mean over all pixels 1, so that the loss
    keeps its size and the learning rate its meaning.

    Args:
        shares: Of each class in all labelled pixels, their sum 1.
        offset: Above 1. The nearer to 1, the more a rare class counts.

    Returns:
        The weight of each class.

    Raises:
        ValueError: The offset is not above 1.
    """
    if not offset > 1:
        raise ValueError(
            f"the offset must be above 1, got {offset}: at 1 the weight of a class "
            "that does not occur is infinite"
        )
    weights = {name: 1 / np.log(offset + share) for name, share in shares.items()}
    mean = sum(shares[name] * weight for name, weight in weights.items())
    return {name: float(weight / mean) for name, weight in weights.items()}
