"""One hook that finds mistakes of a set-up before the first step."""

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.models.decode_heads import SideAdapterCLIPHead, STDCHead, VPDDepthHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss, OhemCrossEntropy
from torch import nn
from torch.utils.data import DataLoader

from .checkpoint import weights_of
from .hooks import unwrapped_model
from .resume_check import check_settings
from .weights_check import check_pretrained, check_weights, shapes_of

CROSS_ENTROPY = (CrossEntropyLoss, OhemCrossEntropy)
# They predict edges, depths and masks, rather than the classes of the data.
OTHER_CLASSES = (STDCHead, VPDDepthHead, SideAdapterCLIPHead)


class CheckSetupHook(Hook):
    """Stop before the first step if weights, classes or loops do not fit together.

    MMEngine loads the weights of a checkpoint that fit, and logs the others among
    thousands of lines. With this hook, ``load_from`` and each pretrained ``init_cfg``
    must fill all weights of their module. Two exceptions: a classifier may have been
    trained for another number of classes, and whole parts may be missing, such as the
    head, but no stages of a backbone. A test needs all but an auxiliary head.

    Heads, losses and data sets must have the same number of classes, and epoch-based
    loops must not use an endless sampler. Resuming needs the optimizer of the
    checkpoint, and warns of settings that the checkpoint overrides.

    Args:
        strict_weights: False accepts checkpoints that fit in part.
    """

    def __init__(self, strict_weights: bool = True) -> None:
        self.strict_weights = strict_weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint before the model loads it, also in a test."""
        model, resumes = _model(runner), runner._resume
        training = isinstance(runner.optim_wrapper, OptimWrapper | OptimWrapperDict)
        weights = weights_of(checkpoint)
        backbone = shapes_of(getattr(model, "backbone", nn.Identity()).state_dict())
        if training and backbone and backbone.items() <= shapes_of(weights).items():
            # A backbone alone, by names that MMEngine would not recognise.
            weights = {f"backbone.{name}": weight for name, weight in weights.items()}
            checkpoint["state_dict"] = weights
        checkpoint.setdefault("state_dict", weights)  # where MMEngine looks
        if self.strict_weights:
            source = runner.cfg.get("load_from") or "the checkpoint"
            check_weights(model, weights, source, partial=training and not resumes)
        if training and resumes:
            check_settings(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Check the loop, the classes and the pretrained weights."""
        model, loop = _model(runner), runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        _check_loader(model, loop.dataloader, "train_dataloader", by_epoch)
        if runner.val_loop is not None:
            _check_loader(model, runner.val_dataloader, "val_dataloader")
        if self.strict_weights:
            check_pretrained(model)

    def before_test(self, runner: Runner) -> None:
        """Check the classes."""
        _check_loader(_model(runner), runner.test_dataloader, "test_dataloader")


def _model(runner: Runner) -> nn.Module:
    model = unwrapped_model(runner)
    return model.module if isinstance(model, BaseTTAModel) else model


def _check_loader(
    model: nn.Module, loader: DataLoader, key: str, ends: bool = True
) -> None:
    """Raise a ValueError unless all heads can learn the classes of the data.

    ``key`` is the loader's place in the config, and ``ends`` whether an epoch must end.
    """
    if ends and isinstance(loader.sampler, InfiniteSampler):
        raise ValueError(
            f"an epoch of {key} never ends, since its sampler is an InfiniteSampler: "
            f"set {key}.sampler.type=DefaultSampler"
        )
    dataset, key = loader.dataset, f"{key}.dataset"
    while hasattr(dataset, "dataset") or hasattr(dataset, "datasets"):
        if hasattr(dataset, "dataset"):
            dataset, key = dataset.dataset, f"{key}.dataset"
        else:
            dataset, key = dataset.datasets[0], f"{key}.datasets.0"
    classes = getattr(dataset, "metainfo", {}).get("classes")
    for name, head in model.named_modules():
        if not isinstance(head, BaseDecodeHead) or isinstance(head, OTHER_CLASSES):
            continue
        option = f"model.{name}.num_classes"
        # One channel under a sigmoid tells two classes apart, however they are counted.
        numbers = {head.num_classes, 2 if head.num_classes == 1 else 0}
        if classes is not None and len(classes) not in numbers:
            raise ValueError(
                f"{option} is {head.num_classes}, but {key} ({type(dataset).__name__}) "
                f"has {len(classes)} classes: set {option}={len(classes)}, or "
                f"{key}.metainfo.classes"
            )
        if not key.startswith("train_"):
            continue  # no losses are computed
        losses = [m for m in head.modules() if isinstance(m, CROSS_ENTROPY)]
        for weights in (loss.class_weight for loss in losses):
            if weights is not None and len(weights) not in (1, head.out_channels):
                raise ValueError(
                    f"model.{name}.loss_decode.class_weight has {len(weights)} numbers "
                    f"for {head.out_channels} classes: set it for these, or to None"
                )
        losses = [loss for loss in losses if not getattr(loss, "use_sigmoid", False)]
        if losses and head.out_channels == 1:
            raise ValueError(
                f"model.{name} has one output channel under softmax, which is always 1 "
                f"and learns nothing: set {option}=2 (background and the class), with "
                "loss_decode.use_sigmoid=True if out_channels=1"
            )
