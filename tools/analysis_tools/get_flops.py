"""Print the MACs of a config's model by place and purpose, and its parameters."""

from pathlib import Path

from prettytable import PrettyTable

from mmseg_dynet.analysis import Complexity, count_complexity
from mmseg_dynet.apis import build_model, input_channels, input_size, load_config
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.files import write_json

ROWS = {
    "backbone": "backbone",
    "- convolution": "convolution",
    "- squeeze-excite": "squeeze_excite",
    "head": "head",
    "total": "macs",
    "- of which kernel fusion": "fusion",
    "- of which coefficient prediction": "prediction",
}


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("--vs", metavar="CONFIG", help="config to compare with")
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs=2,
        metavar=("H", "W"),
        help="input size in pixels (default: the size that the config trains on)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    return parser.parse_args()


def saved(counts: list[Complexity], part: str) -> float:
    """The percentage that the last network spends less than the first."""
    first, *_, last = (getattr(count, part) for count in counts)
    return 100 * (1 - last / first)


def main():
    args = parse_args()
    paths = [args.config] if args.vs is None else [args.vs, args.config]
    configs = [load_config(path, args.cfg_options) for path in paths]
    stems = [Path(path).stem for path in paths]
    names = stems if len({*stems}) == len(stems) else paths
    size = args.shape or input_size(configs[-1])
    shapes = [(1, input_channels(cfg), *size) for cfg in configs]
    counts = [
        count_complexity(build_model(cfg), shape)
        for cfg, shape in zip(configs, shapes, strict=True)
    ]

    table = PrettyTable(["GMACs", *names], align="r")
    table.align["GMACs"] = "l"
    table.title = f"10^9 multiply-accumulates at {' x '.join(map(str, shapes[-1]))}"
    for label, part in ROWS.items():
        macs = [getattr(count, part) for count in counts]
        if any(macs):
            table.add_row([label, *(f"{value / 1e9:.3f}" for value in macs)])
    table.add_row(["parameters, 10^6", *(f"{c.parameters / 1e6:.3f}" for c in counts)])
    report = {
        "unit": "MACs",
        "shape": list(shapes[-1]),
        "configs": {n: c.as_dict() for n, c in zip(names, counts, strict=True)},
    }
    if args.vs is not None:
        report["reduction_percent"] = saved(counts, "macs")
        table.add_row(["saved, %", "", f"{saved(counts, 'macs'):.2f}"])
        table.add_row(["saved in the backbone, %", "",
                       f"{saved(counts, 'backbone'):.2f}"])  # fmt: skip
    print(table)
    if args.json is not None:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
