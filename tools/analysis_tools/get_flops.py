"""Print the MACs of a config's model by purpose, its parameters, and a reduction."""

from pathlib import Path

from prettytable import PrettyTable

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.files import write_json


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


def main():
    args = parse_args()
    paths = [args.config] if args.vs is None else [args.vs, args.config]
    configs = [load_config(path, args.cfg_options) for path in paths]
    names = [Path(path).stem for path in paths]
    height, width = args.shape or input_size(configs[-1])
    counts = [count_complexity(build_model(c), (1, 3, height, width)) for c in configs]

    table = PrettyTable(["", *names], align="r")
    table.title = f"GMACs (10^9 multiply-accumulates) at 1 x 3 x {height} x {width}"
    for label, part in [
        ("convolution", "convolution"),
        ("squeeze-excite", "squeeze_excite"),
        ("kernel fusion", "fusion"),
        ("coefficient prediction", "prediction"),
        ("head", "head"),
        ("total", "macs"),
    ]:
        table.add_row([label, *(f"{getattr(c, part) / 1e9:.3f}" for c in counts)])
    table.add_row(["parameters, 10^6", *(f"{c.parameters / 1e6:.3f}" for c in counts)])
    report = {
        "unit": "MACs",
        "shape": [1, 3, height, width],
        "configs": {n: c.as_dict() for n, c in zip(names, counts, strict=True)},
    }
    if args.vs is not None:
        reduction = 100 * (1 - counts[1].macs / counts[0].macs)
        report["reduction_percent"] = reduction
        table.add_row(["reduction, %", "", f"{reduction:.2f}"])
    print(table)
    if args.json is not None:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
