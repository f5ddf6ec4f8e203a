"""MMSegmentation's IoU metric, with a value per class."""

from mmseg.evaluation import IoUMetric


class ClassIoUMetric(IoUMetric):
    """IoUMetric that also returns the IoU of each class, as ``IoU.NAME``.

    IoUMetric prints them as a table only, which logs and plots cannot use. Arguments
    are those of IoUMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add each class's IoU in percent to what IoUMetric returns.

        It is NaN for a class that neither occurs nor is predicted.
        """
        metrics = super().compute_metrics(results)
        if not self.format_only:
            intersections, unions, *_ = zip(*results, strict=True)
            values = 100 * sum(intersections) / sum(unions)
            for name, value in zip(self.dataset_meta["classes"], values, strict=True):
                metrics[f"IoU.{name}"] = round(value.item(), 2)
        return metrics
