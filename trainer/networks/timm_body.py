"""Image classifiers of the package timm as bodies: whatever of them keeps a map of places to the end.

timm (Wightman, https://github.com/huggingface/pytorch-image-models) has over a thousand; a name is written
timm:resnet18. The classifying head is left out: ours comes after, so that the maps are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import UsageError
from config.extras import install_hint, installed
from config.text import printable
from trainer.model.layers import TIMM
from trainer.networks.body import BodyOutput

_SUGGESTED = 3


class TimmBody(nn.Module):
    """A network of timm without its head, for pictures of one size: a body."""

    def __init__(self, name: str, image_size: int) -> None:
        """Take timm's name of it; raise UsageError if there is none or it gives no map at that size."""
        super().__init__()
        self.image_size = image_size
        self.model = _created(name, image_size)
        self.channels = self._channels(name, image_size)

    @property
    def parts(self) -> list[nn.Module]:
        """Nothing: it is trained as a whole."""
        return []

    def forward(self, x: Tensor) -> BodyOutput:
        """Return the map of normalised images (batch, 3, S, S)."""
        found: Tensor = self.model.forward_features(x)
        if found.ndim == 3:  # tokens: those of no place come first, such as the one for the class
            side = math.isqrt(found.shape[1])
            tokens = found[:, found.shape[1] - side * side :]
            return BodyOutput(tokens.transpose(1, 2).reshape(len(found), -1, side, side))
        return BodyOutput(found.permute(0, 3, 1, 2) if self._channels_last() else found)

    def centre(self, images: Tensor) -> None:
        """Do nothing: measured for the Lite0s only."""

    def fold(self) -> None:
        """Do nothing: norms are folded in by the Lite0s only."""

    def _channels_last(self) -> bool:
        return getattr(self.model, "output_fmt", "NCHW") == "NHWC"

    @torch.no_grad()
    def _channels(self, name: str, image_size: int) -> int:
        """Return how many channels come out of a picture."""
        training = self.training
        try:
            found = self.eval()(torch.zeros(1, 3, image_size, image_size)).features
        except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
            raise _no_map(name, image_size, error) from error
        finally:
            self.train(training)
        if found.ndim != 4 or found.shape[1] != self.model.num_features:
            raise _no_map(name, image_size, None)
        return int(found.shape[1])


def timm_defaults(name: str) -> dict[str, Any]:
    """Return what timm says of a network: input_size (channels, height, width), mean, std.

    Raises UsageError where timm is not installed or does not know it.
    """
    timm = _timm(name)
    found: dict[str, Any] = timm.models.get_pretrained_cfg(name, allow_unregistered=False).to_dict()
    return found


def load_timm_weights(name: str, file: Path | None) -> Callable[[Any], None]:
    """Return what puts trained weights into a body, from the hub or a file; it raises UsageError."""

    def load(body: Any) -> None:
        timm = _timm(name)
        # timm reads .pth files without running code of theirs (torch.load, weights_only).
        source = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
        size = _sizes(timm, name, int(body.image_size))
        try:
            whole = timm.create_model(name, pretrained=True, num_classes=0, global_pool="", **size, **source)
        except Exception as error:  # the hub, its client and the file's reader have no common error
            what = printable(str(error).partition("\n")[0])[:120]
            if file is not None:
                raise UsageError(
                    f"{printable(str(file))} holds no weights of {TIMM}{name} ({what})",
                    hint=f"take the file from https://huggingface.co/timm/{name}",
                ) from error
            raise UsageError(
                f"the pretrained weights of {TIMM}{name} cannot be had ({what})",
                hint="give them as --pretrained-file FILE, or --from-scratch",
            ) from error
        body.model.load_state_dict(whole.state_dict())

    return load


def _created(name: str, image_size: int) -> Any:
    timm = _timm(name)
    try:
        return timm.create_model(
            name, pretrained=False, num_classes=0, global_pool="", **_sizes(timm, name, image_size)
        )
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise _no_map(name, image_size, error) from error


def _sizes(timm: Any, name: str, image_size: int) -> dict[str, int]:
    """Return how a network is told its input size, where it must be: others take any."""
    fixed = timm.models.get_pretrained_cfg(name, allow_unregistered=False).fixed_input_size
    return {"img_size": image_size} if fixed else {}


def _no_map(name: str, image_size: int, error: Exception | None) -> UsageError:
    why = "" if error is None else f" ({printable(str(error).partition(chr(10))[0])[:100]})"
    return UsageError(
        f"{TIMM}{printable(name)} makes no map of places of pictures of {image_size} pixels{why}",
        hint="give another --image-size, such as 224, or another network",
    )


def _timm(name: str) -> Any:
    if not installed("timm"):
        raise UsageError(
            f"{TIMM}{printable(name)} needs timm, which is not installed", hint=install_hint("timm")
        )
    import timm

    if not timm.is_model(name):
        like = timm.list_models(f"*{name.partition('_')[0].partition('.')[0]}*")[:_SUGGESTED]
        raise UsageError(
            f"timm {timm.__version__} has no network {printable(repr(name))}",
            hint="it has " + ", ".join(like) if like else "timm.list_models() lists them",
        )
    return timm
