"""Classifier: a body with a head that gives logits, pooled features and class-activation maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import UsageError
from trainer.images.arrays import Floats
from trainer.model.spec import Preprocessing
from trainer.networks.body import Body

Outputs = tuple[Tensor, Tensor, Tensor]


class Classifier(nn.Module):
    """A convolutional body, average pooling, and one linear layer: exact class-activation maps."""

    def __init__(
        self, body: Body, channels: int, classes: int, *, grey: bool, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        assert isinstance(body, nn.Module)
        self.body = body
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, classes)
        self._grey = grey
        self._scale = 1.0 / (255.0 * preprocessing.std)
        self._shift = -preprocessing.mean / preprocessing.std
        self.float32_on_cpu = False
        self._frozen: list[nn.Module] = []

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
        """Prepare the body for bfloat16 with uint8 images (batch, 1, S, S) like those to come."""
        self.body.centre(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the body takes, (batch, 1 or 3, S, S) float32, of uint8 or float 0..255 images."""
        x = images.float() * self._scale + self._shift
        return x if self._grey else x.expand(-1, 3, -1, -1)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits, features and maps of uint8 (or already augmented float 0..255) images."""
        x, texture = self.body(self.normalised(images))  # (batch, channels, h, w), (batch, k)
        features = x.mean(dim=(2, 3))
        logits = self.head(self.drop(features))
        # The head applied at every pixel; a 1x1 convolution with the head's weights.
        maps = nn.functional.conv2d(x, self.head.weight[:, :, None, None])
        described = features if texture is None else torch.cat((features, texture), dim=1)
        return logits.float(), described.float(), maps.float()
