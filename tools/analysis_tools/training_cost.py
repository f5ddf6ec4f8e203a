"""Print what the training of configs costs a GPU: memory, arithmetic, traffic.

All of it is counted on a CPU, on random images: no GPU or data set is needed. With
--measure, training steps of a config and its static twin are timed instead, in turns,
on this machine.
"""

import re
from argparse import Namespace
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from mmengine.config import Config
from rich.progress import track

from mmseg_dynet.analysis.benchmark import Spread, training_call
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.analysis.training_cost import (
    Activations,
    TrainingCost,
    optimizer_state_tensors,
    render_costs,
    render_step_times,
    small_shapes,
    training_macs,
    weigh_activations,
)
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.files import write_json
from mmseg_dynet.markdown import update_block
from mmseg_dynet.model_zoo import segmentor_configs
from mmseg_dynet.subjects import build_subject

ROOT = Path(__file__).resolve().parents[2]
COSTS_BLOCK, TIMES_BLOCK = "training-cost", "training-time"
# (B, H, W) of the steps that are timed.
TIMED = ((2, 128, 256), (4, 128, 256), (2, 192, 384), (2, 256, 512))
REPEATS = 5
EXTRAPOLATED = 2, (512, 1024)  # images a GPU, and their size in the configs


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="paths of configs (Python: they are executed; default: all for Cityscapes "
        "with 80 000 iterations)",
    )
    parser.add_argument(
        "--gpus",
        type=at_least(1),
        default=8,
        help="how many share the training; the images of the config's schedule stay "
        "the same (default: 8)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="time steps of CONFIG beside --vs"
    )
    parser.add_argument(
        "--vs", metavar="CONFIG", help="with --measure, the static twin"
    )
    parser.add_argument(
        "--threads",
        type=at_least(1),
        help="with --measure, of the CPU (default: PyTorch's)",
    )
    parser.add_argument(
        "--repeats",
        type=at_least(2),
        help=f"with --measure, timed rounds (default: {REPEATS})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--update",
        type=Path,
        metavar="FILE",
        help=f"rewrite the block {COSTS_BLOCK} of this document; with --measure, "
        f"{TIMES_BLOCK}",
    )
    args = parser.parse_args()
    if args.measure and (len(args.configs) != 1 or args.vs is None):
        parser.error("--measure times one CONFIG beside its static twin, --vs CONFIG")
    if args.vs is not None and not args.measure:
        parser.error("--vs belongs to --measure: give all that is to count as CONFIG")
    if not (args.measure or args.threads is args.repeats is None):
        parser.error(
            "--threads and --repeats belong to --measure: counting times nothing"
        )
    args.configs = args.configs or default_configs()
    return args


def default_configs() -> list[str]:
    """The configs of 80 000 iterations on Cityscapes, each beside its twins."""
    return [str(p) for p in segmentor_configs(ROOT) if "-80k_cityscapes-" in p.stem]


def images_of_a_step(path: str) -> int:
    """The images of a step on all GPUs that a config's schedule was made for.

    Raises:
        ValueError: Its name does not say.
    """
    planned = re.search(r"_(\d+)xb(\d+)-", Path(path).stem)
    if planned is None:
        raise ValueError(
            f"the name of {path} must say for how many GPUs and images a GPU it was "
            "made, as _4xb2-80k_ does"
        )
    gpus, batch = map(int, planned.groups())
    return gpus * batch


@dataclass(frozen=True)
class Plan:
    """How a config trains.

    Attributes:
        cfg: The config.
        images: Of all steps, on all GPUs.
        state_tensors: What its optimizer keeps for each parameter.
    """

    cfg: Config
    images: int
    state_tensors: int

    @classmethod
    def read(cls, path: str, args: Namespace) -> "Plan":
        cfg = load_config(path, args.cfg_options)
        return cls(
            cfg,
            cfg.train_cfg.max_iters * images_of_a_step(path),
            optimizer_state_tensors(cfg.optim_wrapper.optimizer),
        )


def cost_of(plan: Plan, args: Namespace) -> TrainingCost:
    cfg = plan.cfg
    model, size = build_model(cfg), input_size(cfg)
    shapes, num_classes = small_shapes(model), cfg.model.decode_head.num_classes
    float32, bfloat16 = (
        Activations.fit(weigh_activations(model, num_classes, shapes, autocast))
        for autocast in (None, torch.bfloat16)
    )
    return TrainingCost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=training_macs(model, size),
        float32=float32,
        bfloat16=bfloat16,
        size=size,
        batch=cfg.train_dataloader.batch_size,
        gpus=args.gpus,
        images=plan.images,
        state_tensors=plan.state_tensors,
    )


def count(args: Namespace) -> tuple[list[dict], str, str]:
    # First what can be wrong with any config, then what takes time.
    plans = {Path(path).stem: Plan.read(path, args) for path in args.configs}
    costs = {
        name: cost_of(plan, args) for name, plan in track(plans.items(), "configs")
    }
    print(render_costs(costs))
    figures = [{"config": name} | cost.as_dict() for name, cost in costs.items()]
    named = {f"`{name}`": cost for name, cost in costs.items()}
    return figures, COSTS_BLOCK, render_costs(named, markdown=True)


def measure(args: Namespace) -> tuple[list[dict], str, str]:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    paths = {"static": args.vs, "dynamic": args.configs[0]}
    subjects = {side: build_subject(p, args.cfg_options) for side, p in paths.items()}
    calls = {}
    for (batch, *size), side in product(TIMED, paths):
        (model, num_classes), x = subjects[side], torch.rand(batch, 3, *size)
        calls[f"{side} {[*x.shape]}"] = training_call(model, x, num_classes)
    seconds = time_alternating(calls, args.repeats or REPEATS, warmup=1)

    origin = provenance()
    records = []
    for batch, *size in TIMED:
        record = paths | {"shape": [batch, 3, *size]}
        for side, (model, _) in subjects.items():
            spread = Spread.of(seconds[f"{side} {record['shape']}"])
            record[f"{side}_ms"] = spread.median
            record[f"{side}_quartiles_ms"] = [spread.first, spread.third]
            record[f"{side}_macs"] = batch * training_macs(model, size)
        record["ratio"] = record["static_ms"] / record["dynamic_ms"]
        record["mac_ratio"] = record["static_macs"] / record["dynamic_macs"]
        record["mac_ratio_reached"] = record["ratio"] / record["mac_ratio"]
        records.append(record | origin)
    table = render_step_times(records, *EXTRAPOLATED)
    print(table)
    return records, TIMES_BLOCK, table


def main():
    args = parse_args()
    figures, block, table = measure(args) if args.measure else count(args)
    if args.json is not None:
        write_json(args.json, figures)
    if args.update is not None:
        update_block(args.update, block, table)


if __name__ == "__main__":
    main()
