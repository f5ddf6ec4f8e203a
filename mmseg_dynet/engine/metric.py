"""The metric of MMSegmentation, with a value for each class."""

from mmseg.evaluation import IoUMetric


class ClassIoUMetric(IoUMetric):
    """IoU as IoUMetric computes it, and each class's as a value ``IoU.NAME``.

    IoUMetric prints classes as a table, which no log or plot can take up. Arguments are
    those of IoUMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up the areas of all images.

        Args:
            results: For each image: areas of intersection, union, prediction and label,
                a tensor of one value a class each.

        Returns:
            What IoUMetric returns, and each class's IoU in percent; nan for a class
            that neither occurs nor is predicted.
        """
        metrics = super().compute_metrics(results)
        if not self.format_only:
            intersections, unions, *_ = zip(*results, strict=True)
            values = 100 * sum(intersections) / sum(unions)
            for name, value in zip(self.dataset_meta["classes"], values, strict=True):
                metrics[f"IoU.{name}"] = round(value.item(), 2)
        return metrics
