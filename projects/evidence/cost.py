"""Count MACs and parameters of every arm, and time it; write results/cost.json.

Start it in the root of the repository, on a machine that does nothing else.
"""

from itertools import product

import torch
from train import ARMS, FOLDER, config_path, describe_commit

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import inference_call, time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

SIZES = {"labelmefacade": (256, 344), "camvid": (360, 480)}


def main() -> None:
    """Measure all arms with one thread, those of one network and data set in turns."""
    torch.set_num_threads(1)
    costs = []
    for network, dataset in product(ARMS, SIZES):
        image = torch.rand(1, 3, *SIZES[dataset])
        image = image.contiguous(memory_format=torch.channels_last)
        calls, counts = {}, {}
        for arm in ARMS[network]:
            path = config_path(network, dataset, arm)
            if path.exists() and arm != "constant":  # which becomes control
                model = build_model(load_config(path))
                counts[arm] = count_complexity(model, image.shape)
                calls[arm] = inference_call(optimize_for_inference(model), image)
        for arm, latency in time_alternating(calls, repeats=15).items():
            cost = {"network": network, "dataset": dataset, "arm": arm}
            cost |= {"macs": counts[arm].macs, "parameters": counts[arm].parameters}
            costs.append(cost | {"ms": round(latency.median, 1)})
    origin = {"commit": describe_commit()} | provenance()
    write_json(FOLDER / "results/cost.json", {"costs": costs} | origin)


if __name__ == "__main__":
    main()
