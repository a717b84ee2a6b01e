"""Classifier: a body with a head that gives logits, pooled features and class-activation maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import UsageError
from trainer.images.arrays import Floats
from trainer.model.layers import Localisation
from trainer.model.spec import PerChannel, Preprocessing
from trainer.networks.body import Body

Outputs = tuple[Tensor, Tensor, Tensor]


class Classifier(nn.Module):
    """A convolutional body, average pooling, and one linear layer: exact class-activation maps.

    One that localises has a second way beside it: a lesion map, whose highest places speak for the image.
    """

    def __init__(
        self,
        body: Body,
        widths: tuple[int, int],
        localisation: Localisation | None,
        grey: bool,
        preprocessing: Preprocessing,
    ) -> None:
        """Take a body, its output channels and the number of classes, and how it localises."""
        super().__init__()
        assert isinstance(body, nn.Module)
        channels, classes = widths
        self.body = body
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, classes)
        self.locate = None if localisation is None else _locating(localisation)
        self._highest = 0 if localisation is None else localisation.highest
        if localisation is not None:
            self.places = nn.Linear(1, classes, bias=False)
            nn.init.zeros_(self.places.weight)
        self._grey = grey
        self._normalisation = preprocessing.mean, preprocessing.std
        self.channels = preprocessing.channels  # of the pictures
        self._factors: dict[torch.device, tuple[Tensor, Tensor]] = {}  # no buffers: those are averaged
        self.float32_on_cpu = False
        self._frozen: list[nn.Module] = []

    @torch.no_grad()
    def look_for(self, positive: int) -> None:
        """Begin with a lesion map that speaks for the class `positive` and against the others."""
        if self.locate is not None:
            self.places.weight.fill_(-0.5)
            self.places.weight[positive] = 0.5

    def freeze(self, count: int) -> None:
        """Keep the first `count` parts of the body as they are, norms' statistics included.

        Raises UsageError if the body has no such parts or fewer.
        """
        parts: list[nn.Module] = self.body.parts
        if count > len(parts):
            raise UsageError(
                f"--freeze {count} cannot be: this network has {len(parts)} parts to keep as they are",
                hint="the Lite0 networks have some; give --freeze 0 for others",
            )
        self._frozen = parts[:count]
        for part in self._frozen:
            part.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Switch between training and evaluation; frozen parts are always evaluated."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @torch.no_grad()
    def shift_logits(self, by: Floats) -> None:
        """Add to the logits (classes,) from now on."""
        self.head.bias.add_(torch.from_numpy(by).to(self.head.bias.device))

    def centre(self, images: Tensor) -> None:
        """Prepare the body for bfloat16 with uint8 images (batch, 1 or 3, S, S) like those to come."""
        self.body.centre(self.normalised(images))

    def fold(self) -> None:
        """Compute the same faster until training or evaluation is switched to, without gradients."""
        self.body.fold()

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the body takes, (batch, 1 or 3, S, S) float32, of uint8 or float 0..255 images."""
        mean, std = self._normalisation
        if isinstance(mean, float) and isinstance(std, float):
            x = images.float() * (1.0 / (255.0 * std)) + -mean / std
        else:
            if images.device not in self._factors:
                means, stds = (_of_channels(one, images.device) for one in (mean, std))
                self._factors[images.device] = 1 / (255 * stds), -means / stds
            scale, shift = self._factors[images.device]
            x = images.float() * scale + shift
        return x if self._grey or self.channels > 1 else x.expand(-1, 3, -1, -1)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits, features and maps of uint8 (or already augmented float 0..255) images."""
        return self.localised(images)[0]

    def localised(self, images: Tensor) -> tuple[Outputs, Tensor | None]:
        """Return the same, and the logits (batch, h, w) of the lesion map of a network that has one."""
        x, texture, joined = self.body(self.normalised(images))
        features = x.mean(dim=(2, 3))
        logits = self.head(self.drop(features))
        # The head applied at every pixel; a 1x1 convolution with the head's weights.
        maps = nn.functional.conv2d(x, self.head.weight[:, :, None, None])
        lesions = None
        if self.locate is not None:
            lesions = self.locate(joined)  # (batch, 1, h, w)
            places = lesions.flatten(1)
            highest = places.topk(min(self._highest, places.shape[1]), dim=1).values.mean(dim=1, keepdim=True)
            logits = logits + self.places(highest)
            enlarged = nn.functional.interpolate(maps, size=lesions.shape[-2:], mode="bilinear")
            maps = enlarged + self.places.weight.view(1, -1, 1, 1) * lesions
            lesions = lesions[:, 0].float()
        described = features if texture is None else torch.cat((features, texture), dim=1)
        return (logits.float(), described.float(), maps.float()), lesions


def blank_pictures(network: nn.Module, count: int, side: int) -> Tensor:
    """Return black pictures (count, 1 or 3, side, side) uint8 such as a network takes."""
    channels = network.channels if isinstance(network, Classifier) else 1
    return torch.zeros(count, channels, side, side, dtype=torch.uint8)


def _of_channels(numbers: PerChannel, device: torch.device) -> Tensor:
    """Return one number for all channels, or one for each, as (1 or 3, 1, 1)."""
    each = numbers if isinstance(numbers, tuple) else (numbers,)
    return torch.tensor(each, dtype=torch.float32, device=device).view(-1, 1, 1)


# Of a lesion map that begins: hardly anything of a picture is lesion.
_RARE = -3.0


def _locating(localisation: Localisation) -> nn.Sequential:
    hidden, last = localisation.hidden, localisation.last
    made = nn.Sequential(
        nn.Conv2d(hidden.inputs, hidden.outputs, 1, bias=False),
        nn.BatchNorm2d(hidden.outputs, eps=hidden.epsilon),
        nn.ReLU6(inplace=True),
        nn.Conv2d(last.inputs, last.outputs, 1),
    )
    bias = made[-1].bias
    assert isinstance(bias, Tensor)
    nn.init.constant_(bias, _RARE)
    return made
