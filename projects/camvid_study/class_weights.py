"""Print how often each class occurs in the training data, and a weight for its loss.

A class with the share p of the pixels weighs 1 / log(1.1 + p), scaled to a mean of 1
over all pixels, so that the learning rate keeps its meaning. The rule is that of ENet
(Paszke et al. 2016, section 5.1, arXiv 1606.02147), where the offset is 1.02.
"""

from argparse import ArgumentParser

import numpy as np
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.progress import track

from mmseg_dynet.apis import load_config

LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]


def balancing_weights(shares: np.ndarray, offset: float = 1.1) -> np.ndarray:
    """Weigh classes by their shares (C,) of the pixels, which add up to 1."""
    weights = 1 / np.log(offset + shares)
    return weights / (shares * weights).sum()


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    cfg = load_config(parser.parse_args().config)
    init_default_scope("mmseg")
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, "pipeline": LOAD})
    names = dataset.metainfo["classes"]
    pixels = np.zeros(len(names), dtype=np.int64)
    for index in track(range(len(dataset)), "label maps", transient=True):
        labels = dataset[index]["gt_seg_map"]
        pixels += np.bincount(labels[labels != 255], minlength=len(names))
    shares = pixels / pixels.sum()
    for row in zip(names, shares, balancing_weights(shares), strict=True):
        print("{:12} {:7.2%} {:6.2f}".format(*row))


if __name__ == "__main__":
    main()
