"""The base of our own backbones: stages, freezing, checkpointing.

A subclass builds its stem and its stages from a table and passes them on; the structure
does not change afterwards. (DyResNet is based on the host's ResNet instead.)
"""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmseg_dynet.models.validation import check_stages, pretrained_init_cfg

InitCfg = dict | list[dict] | None
BATCH_NORM = dict(type="BN")


class StagedBackbone(BaseModule):
    """A stem and a chain of stages, each a chain of blocks.

    Stages after the last of ``out_indices`` are left out, so that every parameter
    contributes to the output, as distributed training requires.

    Args:
        stem: The first layers.
        stages: Each a :class:`mmengine.model.Sequential` of blocks.
        out_indices: Stages whose outputs are returned; 0 is the first after the stem.
        frozen_stages: -1 freezes nothing; i freezes the stem and the first i stages,
            whose norms then stay in eval mode.
        norm_eval: Whether all batch norms stay in eval mode.
        with_cp: Whether to recompute each block in the backward pass, which saves
            memory. As in the host's networks, norms then see each batch twice.
        init_cfg: As in :class:`mmengine.model.BaseModule`. None initialises static
            convolutions by Kaiming's rule and norms as the identity, as the host does;
            dynamic convolutions are initialised already.
        pretrained: Checkpoint, instead of ``init_cfg``: the host's older name.

    Raises:
        ValueError: A stage to return or to freeze does not exist, or both
            ``init_cfg`` and ``pretrained`` are given.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequential],
        out_indices: Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: InitCfg = None,
        pretrained: str | None = None,
    ) -> None:
        check_stages(len(stages), out_indices, frozen_stages)
        if pretrained is not None:
            init_cfg = pretrained_init_cfg(pretrained, init_cfg)
        if init_cfg is None:
            init_cfg = [
                dict(type="Kaiming", layer="Conv2d"),
                dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
            ]
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.stem = stem
        self.stages = ModuleList(stages[: max(out_indices) + 1])
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, C, H, W) to the outputs of ``out_indices``, in stage order."""
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            # A stage is called as a whole where it can be, for hooks on it.
            for block in stage if self.with_cp else [stage]:
                if self.with_cp and x.requires_grad:
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> "StagedBackbone":
        """Set the mode, keep what is frozen in eval mode, and return self."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.stem, *self.stages][: self.frozen_stages + 1]
