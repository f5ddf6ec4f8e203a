"""Decode every image and label map of a config's data sets once, and report on them.

Files are read by the config's own loading transforms, so nothing is refused that a
training would read. The exit status is 1 if a file cannot be read, sizes or label
values do not fit, or a training set has fewer than two classes.
"""

import sys
from collections import Counter

import numpy as np
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from prettytable import PrettyTable
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mmseg_dynet.apis import inner_datasets, load_config
from mmseg_dynet.cli import config_parser

SPLITS = ("train", "val", "test")
SHOWN = 5  # of many files or sizes


class Decoded(Dataset):
    """What the report needs of each sample; worker processes return little."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.loaders = [
            transform
            for transform in dataset.pipeline.transforms
            if type(transform).__name__.startswith("Load")
        ]

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        """Return the path, (H, W), label values, their pixels, and the error if any."""
        sample = self.dataset.get_data_info(index)
        path, labels_path = sample.get("img_path"), sample.get("seg_map_path")
        size, none = None, np.array([], dtype=int)
        for load in self.loaders:
            if "Annotation" in type(load).__name__:
                if labels_path is None:  # as in test sets whose labels are secret
                    continue
                path = labels_path
            try:
                sample = load(sample)
                if sample is None:
                    raise ValueError("the loader ignores it")
            except Exception as error:  # a damaged file can raise anything
                reason = f"{type(error).__name__}: {error}"
                return path, size, none, none, f"{path} cannot be read ({reason})"
            if size is None and sample.get("img") is not None:
                size = sample["img"].shape[:2]
        labels = sample.get("gt_seg_map")
        if labels is None:
            return path, size, none, none, None
        # Volumes are left alone: (C, X, Y, Z) with labels (X, Y, Z).
        if sample["img"].ndim <= 3 and labels.shape != size:
            error = f"{path} has the shape {labels.shape}, its image {size}"
            return path, size, none, none, error
        return path, size, *np.unique(labels, return_counts=True), None


def as_is(sample):
    return sample


def shortened(items):
    """The first of many items, one per line."""
    more = [f"... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [*items[:SHOWN], *more]


def check(dataset, title, num_workers):
    """Print the report on one data set, and return the number of errors."""
    decoded = DataLoader(
        Decoded(dataset), batch_size=None, num_workers=num_workers, collate_fn=as_is
    )
    sizes, pixels, maps, examples, errors = Counter(), Counter(), Counter(), {}, []
    for path, size, values, counts, error in track(decoded, title, len(decoded)):
        if size is not None:
            sizes[size] += 1
        if error is not None:
            errors.append(error)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            pixels[value] += count
            maps[value] += 1
            examples.setdefault(value, path)
    print(f"\n{title}: {len(dataset)} images, height x width:")
    found = [f"{h}x{w} ({n} images)" for (h, w), n in sizes.most_common()]
    for line in shortened(found):
        print(f"  {line}")
    if pixels:
        errors += check_labels(dataset, title, pixels, maps, examples)
    for error in shortened(errors):
        print(f"ERROR: {error}")
    return len(errors)


def check_labels(dataset, title, pixels, maps, examples):
    """Print the share of each class, and return what is wrong with the labels."""
    ignored = getattr(dataset, "ignore_index", 255)
    known = range(1 + max(pixels.keys() - {ignored}, default=0))
    classes = dataset.metainfo.get("classes") or [str(label) for label in known]
    total = sum(pixels.values())
    table = PrettyTable(["label", "class", "pixels, %", "label maps"], align="r")
    rows = [*enumerate(classes), (ignored, "(ignored)")]
    for label, name in rows:
        table.add_row([label, name, f"{100 * pixels[label] / total:.3f}", maps[label]])
    print(table)
    if absent := [name for label, name in enumerate(classes) if not pixels[label]]:
        print(f"WARNING: never occur: {', '.join(absent)}")
    errors = [
        f"label {label} in {maps[label]} label maps, e.g. {examples[label]}: classes "
        f"are 0 to {len(classes) - 1}, and {ignored} is ignored"
        for label in sorted(pixels.keys() - {label for label, _ in rows})
    ]
    if title == "train" and len(absent) >= len(classes) - 1:
        number = max(len(classes), 2)  # the background is one
        errors.append(
            f"the label maps hold {sorted(pixels)}, so that at most one class occurs: "
            f"write the {number} classes as 0 to {number - 1}"
        )
    return errors


def main():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument(
        "--splits", nargs="+", choices=SPLITS, default=SPLITS, help="default: all"
    )
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get("default_scope") or "mmseg")
    num_errors, seen = 0, {}
    for split in args.splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        same = next(
            (s for s, dataset in seen.items() if dataset == loader.dataset), None
        )
        if same is not None:
            print(f"\n{split}: the same as {same}")
            continue
        seen[split] = loader.dataset
        try:
            dataset = DATASETS.build(loader.dataset)
            found = [inner for _, inner in inner_datasets(dataset)]
        except Exception as error:  # of an empty folder: need at least one array
            reason = f"{type(error).__name__}: {error}"
            print(
                f"\n{split}\nERROR: cannot be listed, or is empty ({reason}): check "
                "data_root, data_prefix, img_suffix and seg_map_suffix"
            )
            num_errors += 1
            continue
        for number, dataset in enumerate(found, start=1):
            title = split if len(found) == 1 else f"{split} {number}/{len(found)}"
            num_errors += check(dataset, title, loader.get("num_workers", 0))
    sys.exit(num_errors > 0)


if __name__ == "__main__":
    main()
