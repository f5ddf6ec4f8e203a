"""One hook that finds configuration mistakes before the first step."""

from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.models.decode_heads import SideAdapterCLIPHead, STDCHead, VPDDepthHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss, OhemCrossEntropy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .checkpoint import weights_of
from .hooks import unwrapped_model
from .resume_check import check_settings
from .weights_check import check_pretrained, check_weights, shapes_of, wanted_shapes

CROSS_ENTROPY = (CrossEntropyLoss, OhemCrossEntropy)
# They predict edges, depths and masks, rather than the classes of the data.
OTHER_CLASSES = (STDCHead, VPDDepthHead, SideAdapterCLIPHead)


class CheckSetupHook(Hook):
    """Stop before the first step if weights, classes or loops do not fit together.

    MMEngine loads the weights of a checkpoint that fit, and only logs the rest. With
    this hook, ``load_from`` and each pretrained ``init_cfg`` must fill all weights of
    their module. Two exceptions: a classifier may have been trained for another number
    of classes, and whole parts such as the head may be missing, but not a stage of a
    backbone. In a test, only auxiliary heads may lack weights.

    Heads and data sets must have the same number of classes (MaskFormer's are not
    checked), a head of one channel must not have a softmax, and an epoch of training
    must end. Resuming needs the optimizer of the checkpoint, and warns of settings that
    the checkpoint overrides.

    It also accepts a checkpoint of a bare backbone as ``load_from``, and adds the
    prefix ``backbone.``, without which MMEngine would not find the weights.

    Args:
        strict_weights: False accepts checkpoints that fit in part.
        strict_classes: False accepts heads of other numbers of classes than the data,
            such as one that predicts edges, or parents of the classes.

    Raises:
        ValueError: Before the first step or the test: one of these checks fails.
    """

    def __init__(
        self, strict_weights: bool = True, strict_classes: bool = True
    ) -> None:
        self.strict_weights = strict_weights
        self.strict_classes = strict_classes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint before the model loads it, also in a test."""
        model = _model(runner)
        resumes = runner._resume and not runner._has_loaded  # the first load only
        training = isinstance(runner.optim_wrapper, OptimWrapper | OptimWrapperDict)
        weights = weights_of(checkpoint)
        if training and _are_of_backbone(weights, model):
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
        model, loader = _model(runner), runner.train_loop.dataloader
        by_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epochs and isinstance(loader.sampler, InfiniteSampler):
            raise ValueError(
                "an epoch never ends, since the sampler of train_dataloader is an "
                "InfiniteSampler: set train_dataloader.sampler.type=DefaultSampler"
            )
        _check_losses(model)
        if self.strict_classes:
            _check_classes(model, loader, "train_dataloader")
            if runner.val_loop is not None:
                _check_classes(model, runner.val_dataloader, "val_dataloader")
        if self.strict_weights:
            check_pretrained(model)

    def before_test(self, runner: Runner) -> None:
        """Check the classes."""
        if self.strict_classes:
            _check_classes(_model(runner), runner.test_dataloader, "test_dataloader")


def inner_datasets(dataset: object, key: str = "") -> Iterator[tuple[str, object]]:
    """The data sets inside wrappers such as RepeatDataset, by their keys in a config.

    They are parts of ``dataset``, a ConfigDict or built, which is at ``key``.
    """
    if hasattr(dataset, "dataset"):
        yield from inner_datasets(dataset.dataset, f"{key}.dataset")
    elif hasattr(dataset, "datasets"):
        for index, inner in enumerate(dataset.datasets):
            yield from inner_datasets(inner, f"{key}.datasets.{index}")
    else:
        yield key, dataset


def _model(runner: Runner) -> nn.Module:
    model = unwrapped_model(runner)
    return model.module if isinstance(model, BaseTTAModel) else model


def _are_of_backbone(weights: dict[str, Tensor], model: nn.Module) -> bool:
    """Whether weights fill the backbone of a model by their names in the backbone."""
    given = shapes_of(weights)
    wanted = wanted_shapes(getattr(model, "backbone", nn.Identity()), given)
    return bool(wanted) and wanted.items() <= given.items()


def _check_classes(model: nn.Module, loader: DataLoader, key: str) -> None:
    """Raise a ValueError unless all heads predict the classes of the data."""
    key, dataset = next(inner_datasets(loader.dataset, f"{key}.dataset"))
    classes = getattr(dataset, "metainfo", {}).get("classes")
    if classes is None:
        return
    for name, head in _heads(model):
        # One channel under a sigmoid tells two classes apart, however they are counted.
        pair = head.num_classes, len(classes)
        if pair[0] != pair[1] and pair != (1, 2):
            option = f"model.{name}.num_classes"
            raise ValueError(
                f"{option} is {head.num_classes}, but {key} ({type(dataset).__name__}) "
                f"has {len(classes)} classes: set {option}={len(classes)}, or "
                f"{key}.metainfo.classes. If the head predicts something else, set "
                "default_hooks.check_setup.strict_classes=False"
            )


def _check_losses(model: nn.Module) -> None:
    """Raise a ValueError if a head of one output channel has a softmax."""
    for name, head in _heads(model):
        losses = [m for m in head.modules() if isinstance(m, CROSS_ENTROPY)]
        softmax = any(not getattr(loss, "use_sigmoid", False) for loss in losses)
        if softmax and head.out_channels == 1:
            raise ValueError(
                f"model.{name} has one output channel under softmax, which is always 1 "
                f"and learns nothing: set model.{name}.num_classes=2 (background and "
                "the class), with loss_decode.use_sigmoid=True if out_channels=1"
            )


def _heads(model: nn.Module) -> Iterator[tuple[str, BaseDecodeHead]]:
    """The heads that predict the classes of the data, by their names."""
    for name, head in model.named_modules():
        if isinstance(head, BaseDecodeHead) and not isinstance(head, OTHER_CLASSES):
            yield name, head
