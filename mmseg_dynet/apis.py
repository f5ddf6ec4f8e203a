"""From a config to a model and to samples, outside of a Runner."""

from math import ceil

import numpy as np
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_state_dict
from torch import nn
from torch.utils.data import Dataset, Subset

from mmseg_dynet.engine.checkpoint import read_weights


def build_model(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config's model on the CPU, in eval mode.

    SyncBN becomes BN, since no process group is needed to look at a model. Weights are
    those of the checkpoint, or freshly drawn ones; ``init_cfg`` loads nothing.

    Args:
        cfg: A config with ``model`` and ``default_scope``.
        checkpoint: A checkpoint of this model; every parameter must be in it. No code
            of a file runs; an address (https://) is trusted.
    """
    init_default_scope(cfg.get("default_scope", "mmseg"))
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    if checkpoint is not None:
        load_state_dict(model, read_weights(checkpoint), strict=True)
    model.eval()
    return model


def spread(dataset: Dataset, num_samples: int | None = None) -> Subset:
    """Pick samples, evenly spread from the first to the last.

    Args:
        dataset: With a length.
        num_samples: How many; None, or more than there are, means all.
    """
    num_samples = min(num_samples or len(dataset), len(dataset))
    picks = np.linspace(0, len(dataset) - 1, num_samples).round().astype(int)
    return Subset(dataset, picks.tolist())


def input_size(cfg: Config) -> tuple[int, int]:
    """The (H, W) that a config trains on.

    Raises:
        ValueError: The config does not say.
    """
    size = (cfg.model.get("data_preprocessor") or {}).get("size")
    if size is None:
        raise ValueError(
            "the config has no model.data_preprocessor.size to take the input size "
            'from: add it, or give --cfg-options "model.data_preprocessor.size=(H,W)"'
        )
    return tuple(size)


def input_channels(cfg: Config) -> int:
    """The channels of the images that a config's backbone takes, 3 by default."""
    return (cfg.model.get("backbone") or {}).get("in_channels", 3)


def windows_shape(
    cfg: Config, image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The shape (N, C, H, W) of what a segmentor sees of an image in a test.

    That is N windows, one after the other, which overlap where ``model.test_cfg``
    slides (``EncoderDecoder.slide_inference`` of the host), and else the image, N = 1.

    Args:
        cfg: A segmentor's config.
        image_size: (H, W) of the image, in pixels.
    """
    test_cfg = cfg.model.get("test_cfg") or {}
    if test_cfg.get("mode") != "slide":
        return (1, input_channels(cfg), *image_size)
    count, window = 1, []
    for size, crop, stride in zip(
        image_size, test_cfg["crop_size"], test_cfg["stride"], strict=True
    ):
        count *= max(ceil((size - crop) / stride), 0) + 1
        window.append(min(size, crop))
    return (count, input_channels(cfg), *window)
