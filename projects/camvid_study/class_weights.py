"""Print how often each class occurs in the training data, and the weight that it needs.

A class with the share p of the pixels weighs 1 / log(OFFSET + p), scaled to a mean of 1
over pixels: for class_weight of a loss.
"""

from mmseg.registry import DATASETS
from prettytable import PrettyTable
from study.class_weights import balancing_weights, class_shares

from mmseg_dynet.cli import config_parser, load_config


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument(
        "--offset", type=float, default=1.1,
        help="above 1; the nearer to 1, the more rare classes weigh (default: 1.1; "
        "ENet's is 1.02)",
    )  # fmt: skip
    args = parser.parse_args()
    if not args.offset > 1:
        parser.error(f"--offset must be above 1, got {args.offset}")
    return args


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, "pipeline": []})
    shares = class_shares(dataset)
    weights = balancing_weights(shares, args.offset)
    table = PrettyTable(["class", "share of pixels, %", "weight"], align="r")
    table.align["class"] = "l"
    for name, share in shares.items():
        table.add_row([name, f"{100 * share:.2f}", f"{weights[name]:.2f}"])
    print(table)


if __name__ == "__main__":
    main()
