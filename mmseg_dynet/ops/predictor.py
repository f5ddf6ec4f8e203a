"""Prediction of the coefficients that fuse a bank of fixed kernels.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

L1_EPS = 1e-3  # KernelWarehouse's
GRANULARITIES = ("channel", "kernel", "product")
NORMALISERS = {  # of K logits
    "sigmoid": torch.sigmoid,
    "softmax": lambda logits: logits.softmax(-1),
    "l1": lambda logits: logits / (logits.abs().sum(-1, keepdim=True) + L1_EPS),
}


@dataclass(frozen=True)
class CoefficientOptions:
    """How coefficients are predicted: DyNet's way by default, or a later paper's.

    Whatever the options, a layer gets coefficients (B, O, K).

    Args:
        granularity: "channel": each output channel has K coefficients of its own, as in
            DyNet and WeightNet (G = 1). "kernel": all output channels of a layer share
            K, as in CondConv and DY-Conv. "product": those of "kernel" times a sigmoid
            per output channel, as the kernel and filter attention of ODConv.
        normaliser: How K logits z become coefficients: "sigmoid"; "softmax" of
            z / temperature, as in DY-Conv; "l1", z / (sum of abs(z) + 0.001), as in
            KernelWarehouse.
        temperature: For "softmax" only: divides its logits and, with "product", those
            of the sigmoid per channel. It is a buffer, which
            :class:`mmseg_dynet.engine.TemperatureHook` lowers.
        static_kernel: Whether kernel 0 has coefficient 1, and the other kernels, whose
            coefficients are predicted, start at zero.
        centred: Whether the predictor sees the pooled input minus its running mean,
            divided by its running standard deviation. Both follow the training images
            in the backward pass: no image is normalised by others of its batch, and
            ``with_cp`` recomputes with the same statistics. In distributed training,
            each process follows its own images, and the first one's buffers are saved.
        momentum: Weight of a batch in the running statistics.

    Raises:
        ValueError: An option has a value that is not allowed.
    """

    granularity: str = "channel"
    normaliser: str = "sigmoid"
    temperature: float = 30.0
    static_kernel: bool = False
    centred: bool = False
    momentum: float = 0.01

    def __post_init__(self) -> None:
        allowed = dict(granularity=GRANULARITIES, normaliser=NORMALISERS)
        for name, values in allowed.items():
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(values)}")
        if self.temperature <= 0 or not 0 < self.momentum <= 1:
            raise ValueError(
                "temperature must be above 0, and momentum above 0 and at most 1, got "
                f"temperature={self.temperature} and momentum={self.momentum}"
            )

    @classmethod
    def of(cls, options: "Mapping | CoefficientOptions | None") -> "CoefficientOptions":
        """Take options as a config gives them: a dict, or None for the defaults."""
        if isinstance(options, cls):
            return options
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in options or {} if name not in names]:
            raise ValueError(f"coefficients: {unknown} are not of {', '.join(names)}")
        return cls(**(options or {}))

    def num_predicted(self, num_kernels: int) -> int:
        """How many of K coefficients are predicted: all but that of a static kernel."""
        if self.static_kernel and num_kernels < 2:
            raise ValueError(
                f"static_kernel=True needs at least 2 kernels, got {num_kernels=}"
            )
        return num_kernels - self.static_kernel

    def start(self, num_kernels: int) -> float:
        """The initial coefficient of a kernel, ignoring the random weights."""
        predicted = self.num_predicted(num_kernels)
        value = dict(sigmoid=0.5, softmax=1 / predicted, l1=1 / (predicted + L1_EPS))
        return value[self.normaliser] * (0.5 if self.granularity == "product" else 1)


class Affine(nn.Module):
    """A linear layer, but not an nn.Linear: networks of the host initialise those.

    That would undo ``predict_start``, or leave all coefficients dead (ICNet).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        linear = nn.Linear(in_features, out_features)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, in_features) to (B, out_features)."""
        return F.linear(x, self.weight, self.bias)


class CoefficientPredictor(nn.Module):
    """Predict the coefficients of all dynamic layers of a block from its input.

    Global average pooling, one or two fully connected layers, a sigmoid (or another
    normaliser, see ``coefficients``); the output is split between the layers (DyNet,
    section 3.1 and figure 2). By default nothing is normalised: the K coefficients of
    a channel lie in (0, 1) and need not sum to one; BatchNorm cannot train on a single
    pooled image.

    Costs C * M MACs per image, or C * hidden + hidden * M with a hidden layer. With L
    layers, M is sum(out_channels) * K for the granularity "channel", L * K for
    "kernel", L * K + sum(out_channels) for "product". With a static kernel, K is
    one less.

    Args:
        in_channels: C, the channels of the block's input.
        out_channels: Output channels O of each dynamic layer.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t).
        hidden_channels: Width of a hidden layer with ReLU. None means one linear
            layer, as in Dy-mobile and Dy-shuffle; Dy-ResNet uses C / 4.
        coefficients: The arguments of :class:`CoefficientOptions`.

    Raises:
        ValueError: A width is not positive, out_channels is empty, an option is not
            allowed, or a static kernel is the only one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        num_kernels: int = 6,
        hidden_channels: int | None = None,
        coefficients: Mapping | CoefficientOptions | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = tuple(out_channels)
        self.num_kernels = num_kernels
        self.options = options = CoefficientOptions.of(coefficients)
        hidden = in_channels if hidden_channels is None else hidden_channels
        widths = [in_channels, num_kernels, hidden, *self.out_channels]
        if not self.out_channels or min(widths) < 1:
            raise ValueError(
                "in_channels, num_kernels, hidden_channels and each of out_channels "
                f"must be at least 1, got in_channels={in_channels}, "
                f"num_kernels={num_kernels}, hidden_channels={hidden_channels}, "
                f"out_channels={self.out_channels}"
            )
        self.num_predicted = options.num_predicted(num_kernels)
        self.hidden = None if hidden_channels is None else Affine(in_channels, hidden)
        channels, num_layers = sum(self.out_channels), len(self.out_channels)
        rows = channels if options.granularity == "channel" else num_layers
        filters = channels if options.granularity == "product" else 0
        # Numbers of logits: of coefficients, and of filters.
        self.widths = (rows * self.num_predicted, filters)
        self.logits = Affine(hidden, sum(self.widths))
        self._offset_logits()
        if options.normaliser == "softmax":
            temperature = torch.tensor(float(options.temperature))
            self.register_buffer("temperature", temperature)
        if options.centred:
            self.register_buffer("running_mean", torch.zeros(in_channels))
            self.register_buffer("running_var", torch.ones(in_channels))

    def predict_start(self) -> None:
        """Initialise so that each coefficient is the options' start for any image.

        With a static kernel, do nothing: the network starts equal to the static one
        anyway, and equal coefficients would keep its other kernels equal to each other.
        """
        if self.options.static_kernel:
            return
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        self._offset_logits()

    def _offset_logits(self) -> None:
        if self.options.normaliser == "l1":
            # Otherwise coefficients would start with random signs.
            nn.init.ones_(self.logits.bias[: self.widths[0]])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map the block's input (B, C, H, W) to one (B, O, K) tensor per layer.

        Raises:
            ValueError: The input does not have four dimensions or C channels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"x must be (B, C, H, W) = (B, {self.in_channels}, H, W), got shape "
                f"{tuple(x.shape)}"
            )
        pooled = context = x.mean((2, 3))  # (B, C)
        if self.options.centred:
            context = (pooled - self.running_mean) * (self.running_var + 1e-5).rsqrt()
        if self.hidden is not None:
            context = F.relu(self.hidden(context))
        logits = self.logits(context)
        if self.options.centred and self.training and logits.requires_grad:
            logits.register_hook(lambda _: self._follow(pooled.detach()))
        return self._coefficients(logits)

    def _coefficients(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Map logits (B, sum(widths)) to one (B, O, K) tensor per layer."""
        options = self.options
        if options.normaliser == "softmax":
            logits = logits / self.temperature
        if options.granularity == "product":
            logits, filters = logits.split(self.widths, dim=1)
        coeff = logits.unflatten(1, (-1, self.num_predicted))  # (B, sum(O) or L, K)
        coeff = NORMALISERS[options.normaliser](coeff)
        if options.granularity != "channel":
            layers = zip(coeff.split(1, dim=1), self.out_channels, strict=True)
            coeff = torch.cat([c.expand(-1, o, -1) for c, o in layers], dim=1)
        if options.granularity == "product":
            coeff = coeff * filters.sigmoid()[:, :, None]
        if options.static_kernel:
            coeff = F.pad(coeff, (1, 0), value=1.0)
        return coeff.split(self.out_channels, dim=1)

    @torch.no_grad()
    def _follow(self, pooled: Tensor) -> None:
        """Mix the moments of pooled inputs (B, C) into the running ones."""
        if not len(pooled):
            return
        weight = self.options.momentum
        deviation = pooled.to(self.running_mean) - self.running_mean
        step = weight * deviation.mean(0)
        # The variance about the old mean, less step**2, is that about the new mean.
        self.running_var.lerp_(deviation.square().mean(0), weight).sub_(step.square())
        self.running_mean.add_(step)
