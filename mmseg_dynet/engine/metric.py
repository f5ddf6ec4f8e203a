"""MMSegmentation's IoU metric, with a value per class."""

from mmseg.evaluation import IoUMetric


class ClassIoUMetric(IoUMetric):
    """IoUMetric that also returns the IoU of each class, as ``IoU.NAME``.

    IoUMetric only prints them as a table. Arguments are those of IoUMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add each class's IoU in percent to what IoUMetric returns.

        It is NaN, or ``nan_to_num``, for a class that neither occurs nor is predicted.
        """
        metrics = super().compute_metrics(results)
        if not self.format_only:
            areas = map(sum, zip(*results, strict=True))
            scores = self.total_area_to_metrics(*areas, ["mIoU"], self.nan_to_num)
            names = self.dataset_meta["classes"]
            for name, value in zip(names, scores["IoU"], strict=True):
                metrics[f"IoU.{name}"] = round(100 * value.item(), 2)
        return metrics
