"""What the measuring tools measure: a segmentor's config, or a network of the paper."""

from mmengine.registry import init_default_scope
from torch import nn

from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import load_config
from mmseg_dynet.models.paper_networks import NETWORKS

NUM_KERNELS = 6  # of the paper's networks
DYNAMIC = "Dy-"  # in the names of those that are dynamic
NUM_IMAGENET_CLASSES = 1000
HELP = "path of a config (Python: it is executed), or one of: " + ", ".join(
    f'"{name}"' for name in NETWORKS
)


def is_paper_network(name: str) -> bool:
    """Whether a name is one of the paper's networks, such as "Dy-ResNet50"."""
    return name in NETWORKS


def build_subject(name: str, cfg_options: dict | None = None) -> tuple[nn.Module, int]:
    """Build a network in eval mode with drawn weights.

    Args:
        name: A config's path, or a name of ``NETWORKS``.
        cfg_options: Overrides of the config's values.

    Returns:
        The network, and its number of classes.

    Raises:
        FileNotFoundError: There is neither such a config nor such a network.
    """
    if is_paper_network(name):
        init_default_scope("mmseg")
        num_kernels = NUM_KERNELS if DYNAMIC in name else None
        return NETWORKS[name].build(num_kernels).eval(), NUM_IMAGENET_CLASSES
    cfg = load_config(name, cfg_options)
    return build_model(cfg), cfg.model.decode_head.num_classes


def subject_size(name: str, cfg_options: dict | None = None) -> tuple[int, int]:
    """The (H, W) in pixels that a network is made for.

    Raises:
        FileNotFoundError: There is neither such a config nor such a network.
        ValueError: The config does not say.
    """
    if is_paper_network(name):
        return (NETWORKS[name].side,) * 2
    return input_size(load_config(name, cfg_options))
