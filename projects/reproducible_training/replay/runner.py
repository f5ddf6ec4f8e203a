"""The runner that a config asks for by ``runner_type="ReplayRunner"``."""

import copy

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint


@RUNNERS.register_module()
class ReplayRunner(Runner):
    """A Runner whose resumed training repeats the training that was interrupted."""

    @classmethod
    def from_cfg(cls, cfg: Config) -> "ReplayRunner":
        """Build a runner with the sampler, the data set wrapper and the hook.

        Raises:
            ValueError: The training loop is not iteration-based.
        """
        cfg = copy.deepcopy(cfg)
        loop = cfg.get("train_cfg") or {}
        if loop.get("by_epoch", loop.get("type") != "IterBasedTrainLoop"):
            raise ValueError(
                f"train_cfg={dict(loop)}: the loop must be IterBasedTrainLoop"
            )
        loader = cfg.train_dataloader
        loader.sampler = dict(type="ReplayableSampler")
        loader.dataset = dict(type="SeededDataset", dataset=loader.dataset)
        cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="ReplayHook")]
        if cfg.get("resume") and cfg.get("randomness", {}).get("seed") is None:
            # MMEngine would restore the seed after the sampler has taken another.
            path = cfg.get("load_from") or find_latest_checkpoint(cfg.work_dir)
            if path is not None:
                meta = CheckpointLoader.load_checkpoint(path, "cpu")["meta"]
                cfg.merge_from_dict({"randomness.seed": meta["seed"]})
        return super().from_cfg(cfg)
