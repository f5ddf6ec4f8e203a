"""Count the MACs of every arm and time them in turns; write results/cost.json.

Start it in the root of the repository, on a machine that does nothing else.
"""

import json
from functools import partial
from itertools import product
from statistics import median

import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from train import ARMS, FOLDER, config_path

import mmseg_dynet  # noqa: F401 (registers the backbones)
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import describe_machine

SIZES = {"labelmefacade": (256, 344), "camvid": (360, 480)}


def main() -> None:
    """Measure all arms with one thread, those of one network and data set in turns."""
    register_all_modules()
    torch.set_num_threads(1)
    costs = []
    for network, dataset in product(ARMS, SIZES):
        image = torch.rand(1, 3, *SIZES[dataset])
        image = image.contiguous(memory_format=torch.channels_last)
        models = {}
        for arm in ARMS[network]:
            path = config_path(network, dataset, arm)
            if path.exists():
                model = MODELS.build(Config.fromfile(path).model).eval()
                models[arm] = model.to(memory_format=torch.channels_last)
        calls = {arm: partial(model, image) for arm, model in models.items()}
        with torch.inference_mode():
            seconds = time_alternating(calls, repeats=15)
        for arm, model in models.items():
            macs = count_complexity(model, image.shape).macs
            ms = round(1000 * median(seconds[arm]), 1)
            cost = {"network": network, "dataset": dataset, "arm": arm}
            costs.append(cost | {"macs": macs, "ms": ms})
    text = json.dumps({"machine": describe_machine(), "costs": costs}, indent=1)
    (FOLDER / "results" / "cost.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
