"""Training of a segmentor with the logits of another: knowledge distillation.

Shape legend:

    B       images in the batch
    N       classes
    H, W    height and width of the student's logits

Source: "Distilling the Knowledge in a Neural Network", Hinton, Vinyals and Dean, 2015,
arXiv 1503.02531, section 2.
"""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import load_state_dict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.checkpoint import read_weights

from .validation import check_positive

# What a preprocessor does to the values of pixels.
PIXELS = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr")


class DistillationLoss(nn.Module):
    """Divergence of softened predictions from a teacher's, in nats a pixel.

    With p the softmax of logits divided by the temperature T, it is T^2 times the mean
    over pixels of sum_n p_teacher log(p_teacher / p_student). The factor keeps the
    gradient's size when T grows. Every pixel counts: a teacher has an opinion on those
    without a label, too.

    Args:
        weight: Factor of the loss.
        temperature: T; higher ones tell more of the order of improbable classes.

    Raises:
        ValueError: An option is not greater than 0.
    """

    def __init__(self, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight, temperature=temperature)
        self.weight = weight
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare logits (B, N, H, W), in float32 also in mixed precision."""
        student, teacher = (
            F.log_softmax(logits.float() / self.temperature, dim=1)
            for logits in (student, teacher)
        )
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True)
        return self.weight * self.temperature**2 * divergence.sum(1).mean()


class DistilledEncoderDecoder(EncoderDecoder):
    """A segmentor that learns from labels and from a teacher, a trained segmentor.

    To the losses of MMSegmentation's EncoderDecoder it adds ``loss_distill``, which
    compares the logits of the decode heads. Everything else is EncoderDecoder: the
    teacher is there in training only, the checkpoints are those of the student alone
    and load into the config of a plain EncoderDecoder.

    To that end the teacher is an attribute that :class:`nn.Module` does not list.
    Listed, it would be in each checkpoint, be set to training mode, be drawn anew by
    ``init_weights``, and be among the parameters that an optimizer steps and
    distributed training waits for. Deep copies of the student, as those of an EMA,
    share it; it goes to the device and the dtype of the images that it is shown.

    Its structure is built with the student; its checkpoint is read when training
    begins (``init_weights``, or the first loss), so that whoever tests, counts or
    exports the student needs none.

    Args:
        teacher: ``config``, the path of the teacher's config, and ``checkpoint``, of
            its weights.
        loss_distill: Arguments of :class:`DistillationLoss`.
        **kwargs: Those of EncoderDecoder.

    Raises:
        ValueError: The teacher does not fit the student, or a head gives no logits of
            pixels; when training begins: no checkpoint is named.
    """

    def __init__(
        self, *, teacher: dict, loss_distill: dict | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.loss_distill = DistillationLoss(**(loss_distill or {}))
        cfg = Config.fromfile(teacher["config"])
        # The student's weights are those that it would have without a teacher.
        with torch.random.fork_rng(devices=[]):
            network = build_model(cfg).requires_grad_(False)
        self._teacher = _Unlisted(network)
        self._checkpoint = teacher.get("checkpoint")
        self._is_taught = False
        ours = kwargs.get("data_preprocessor") or {}
        _check_pixels(ours, cfg.model.get("data_preprocessor", {}), teacher["config"])
        _check_heads(self.decode_head, network.decode_head)

    @property
    def teacher(self) -> nn.Module:
        """The teacher, in eval mode and without gradients."""
        return self._teacher.module

    def init_weights(self) -> None:
        """Draw the student's weights, and read the teacher's."""
        super().init_weights()
        self._read_teacher()

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of EncoderDecoder, and ``loss_distill``.

        Args:
            inputs: Images, (B, 3, height, width), preprocessed.
            data_samples: Their labels.
        """
        if not self._is_taught:
            self._read_teacher()
        features = self.extract_feat(inputs)
        logits = self.decode_head(features)
        losses = self.decode_head.loss_by_feat(logits, data_samples)
        losses = add_prefix(losses, "decode")
        if self.with_auxiliary_head:
            losses |= self._auxiliary_head_forward_train(features, data_samples)
        losses["loss_distill"] = self.loss_distill(
            logits, self._teach(inputs, logits.shape[2:])
        )
        return losses

    @torch.no_grad()
    def _teach(self, inputs: Tensor, size: torch.Size) -> Tensor:
        """The teacher's logits, (B, N, H, W), at the size (H, W) of the student's."""
        # It follows where it is used, and not where a student is moved or converted:
        # copies of a student have it in common.
        self.teacher.to(inputs.device, inputs.dtype)
        logits = self.teacher(inputs)
        if logits.shape[2:] == size:
            return logits
        align_corners = self.teacher.align_corners
        return resize(logits, size, None, "bilinear", align_corners, warning=False)

    def _read_teacher(self) -> None:
        """Give the teacher its weights.

        Raises:
            ValueError: There is no checkpoint to read.
        """
        if self._checkpoint is None:
            raise ValueError(
                "the teacher has no checkpoint: name that of a trained teacher, with "
                "--cfg-options model.teacher.checkpoint=FILE"
            )
        load_state_dict(self.teacher, read_weights(self._checkpoint), strict=True)
        self._is_taught = True


class _Unlisted:
    """Keeps a module out of the tree of its owner, and one for all copies of it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict) -> "_Unlisted":
        return self


def _check_pixels(student: dict, teacher: dict, config: str) -> None:
    """Raise a ValueError unless both preprocessors give a network the same pixels."""
    for name in PIXELS:
        ours, theirs = (side.get(name) or 0 for side in (student, teacher))
        if not np.array_equal(ours, theirs):
            raise ValueError(
                f"data_preprocessor.{name} is {ours} for the student and {theirs} for "
                f"the teacher ({config}), but both see the images that the student's "
                "has prepared: give both the same"
            )


def _check_heads(student: nn.Module, teacher: nn.Module) -> None:
    """Raise a ValueError unless the logits of two heads can be compared."""
    # Heads that give more than logits, for a loss of their own, override one of these.
    methods = dict(student=("loss", "loss_by_feat"), teacher=("loss", "predict"))
    for role, head in dict(student=student, teacher=teacher).items():
        for name in methods[role]:
            if getattr(type(head), name, None) is not getattr(BaseDecodeHead, name):
                raise ValueError(
                    f"the {role}'s decode head, {type(head).__name__}, has a {name} of "
                    "its own, not that of logits of pixels, which are distilled: take "
                    "another head, such as FCNHead"
                )
    if not 1 < student.out_channels == teacher.out_channels:
        raise ValueError(
            f"the student's decode head gives {student.out_channels} classes, the "
            f"teacher's {teacher.out_channels}: give both the same number, at least 2"
        )
