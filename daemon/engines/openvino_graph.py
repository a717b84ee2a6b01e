"""Build a network that `trainer.model.layers` describes as an OpenVINO graph of a weights file's tensors.

It computes what the torch module of the same description does in evaluation mode, without torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from config.errors import WeightsError
from config.text import printable
from daemon.engines.foreign_graph import foreign_graph
from trainer.images.arrays import Floats
from trainer.model.layers import Block, Convolution, Layer, Localisation, described, localisation
from trainer.model.openvino_import import openvino_without_telemetry
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Tensors, network_tensors

_COUNTER = ".num_batches_tracked"  # of a norm's training steps, which files of earlier versions may hold


def graph(spec: ModelSpec, tensors: Tensors) -> Any:
    """Return the `openvino.Model` of a model, or None where its architecture is torchvision's.

    It takes pictures (batch, 1 or 3, S, S) uint8 and gives logits (batch, classes), features (batch,
    channels) and maps (batch, classes, h, w), float32.
    Raises WeightsError if the tensors do not fit the architecture.
    """
    if spec.foreign is not None:
        return foreign_graph(spec, tensors)
    try:
        layers = described(spec.architecture, spec.architecture_options, spec.preprocessing.channels)
        if layers is None:
            return None
        builder = _Builder(tensors)
        network = builder.model(layers, localisation(spec.architecture), spec.preprocessing)
        builder.check_all_used()
        return network
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        first = printable((str(error).strip() or type(error).__name__).splitlines()[-1])[:160]
        raise WeightsError(
            f"the tensors do not fit the architecture {spec.architecture} ({first})", hint="train it again"
        ) from error


def _factors(preprocessing: Preprocessing) -> tuple[Any, Any]:
    """Return what bytes are multiplied by and what is added then, one number or (1, 3, 1, 1)."""
    mean, std = preprocessing.mean, preprocessing.std
    if isinstance(mean, float) and isinstance(std, float):
        return np.float32(1 / (255 * std)), np.float32(-mean / std)
    means, stds = (np.asarray(one, dtype=np.float64).reshape(1, -1, 1, 1) for one in (mean, std))
    return (1 / (255 * stds)).astype(np.float32), (-means / stds).astype(np.float32)


class _Builder:
    def __init__(self, tensors: Tensors) -> None:
        openvino = openvino_without_telemetry()
        self._make_model = openvino.Model
        self._op: Any = openvino.opset13
        self._tensors = network_tensors(tensors)
        self._used: set[str] = set()

    def model(
        self, layers: tuple[Layer, ...], localisation: Localisation | None, preprocessing: Preprocessing
    ) -> Any:
        op, side = self._op, preprocessing.image_size
        pictures = op.parameter([-1, preprocessing.channels, side, side], np.uint8, name="pictures")
        scale, shift = _factors(preprocessing)
        x = op.add(op.multiply(op.convert(pictures, "f32"), scale), shift)
        first = layers[0]
        assert isinstance(first, Convolution)
        if first.inputs > preprocessing.channels:
            x = op.concat([x] * first.inputs, 1)
        made = []  # by the blocks
        textures = []
        for layer in layers:
            x = self._layer(x, layer)
            if isinstance(layer, Block):
                made.append(x)
                if layer.textured:
                    textures.append(self._mean(x))
        pooled = self._mean(x)
        weight, bias = self._float32("head.weight"), self._float32("head.bias")
        logits = op.add(op.matmul(pooled, weight, False, True), bias[None])
        maps = op.convolution(x, weight[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])
        if localisation is not None:
            logits, maps = self._localised(logits, maps, made, localisation)
        features = op.concat([pooled, *textures], 1) if textures else pooled
        return self._make_model([logits, features, maps], [pictures], "network")

    def _localised(self, logits: Any, maps: Any, made: list[Any], localisation: Localisation) -> Any:
        """Add what the lesion map says to logits and maps; see `Classifier.localised`."""
        op = self._op
        earlier = made[localisation.block]
        size = [int(earlier.get_output_partial_shape(0)[axis].get_length()) for axis in (2, 3)]
        joined = op.concat([earlier, self._enlarged(made[-1], size)], 1)
        lesions = self._convolution(joined, localisation.hidden, "")
        lesions = self._convolution(lesions, localisation.last, "")
        count = min(localisation.highest, size[0] * size[1])
        places = op.reshape(lesions, np.array([0, -1], dtype=np.int64), True)
        highest = op.topk(places, np.int64(count), 1, "max", "value").output(0)
        speaks = op.reduce_mean(highest, np.array([1], dtype=np.int64), True)
        weight = self._float32("places.weight")  # (classes, 1)
        logits = op.add(logits, op.matmul(speaks, weight, False, True))
        spoken = op.convolution(lesions, weight[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])
        return logits, op.add(self._enlarged(maps, size), spoken)

    def _enlarged(self, x: Any, size: list[int]) -> Any:
        """Return maps (batch, channels, h, w) at another size, as torch's bilinear interpolation."""
        return self._op.interpolate(
            x, np.array(size, dtype=np.int64), "linear_onnx", "sizes",
            coordinate_transformation_mode="half_pixel", axes=np.array([2, 3], dtype=np.int64),
        )  # fmt: skip

    def _layer(self, x: Any, layer: Layer) -> Any:
        if isinstance(layer, Convolution):
            return self._convolution(x, layer)
        if isinstance(layer, Block):
            y = x
            for convolution in layer.convolutions:
                y = self._convolution(y, convolution)
            return self._op.add(x, y) if layer.adds else y
        return self._op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    def _convolution(self, x: Any, layer: Convolution, inside: str = "body.") -> Any:
        """Add a convolution whose tensors' names begin with `inside`."""
        op = self._op
        weight, bias = self._folded(layer, inside)
        near, far = layer.padding
        where = ([layer.stride] * 2, [near] * 2, [far] * 2, [1, 1])
        if layer.depthwise:
            y = op.group_convolution(x, weight[:, None], *where)
        else:
            y = op.convolution(x, weight, *where)
        y = op.add(y, bias.reshape(1, -1, 1, 1))
        if layer.activation:
            y = op.relu(y) if layer.activation == "relu" else op.clamp(y, 0.0, 6.0)
        name = f"{inside}{layer.centre}"
        if name in self._tensors:  # weights made before there were centres have none
            centre = self._float32(name)
            y = op.subtract(y, centre.reshape(1, -1, 1, 1)) if centre.any() else y
        return y

    def _folded(self, layer: Convolution, inside: str) -> tuple[Floats, Floats]:
        """Return a convolution's weight and bias (outputs,) with the batch norm behind it folded in."""
        weight = self._float32(f"{inside}{layer.name}.weight")
        expected = (layer.outputs, 1 if layer.depthwise else layer.inputs, layer.kernel, layer.kernel)
        if weight.shape != expected:
            raise ValueError(f"{layer.name}.weight is {weight.shape}, not {expected}")
        if not layer.norm:
            return weight, self._float32(f"{inside}{layer.name}.bias")
        gain, shift, mean, variance = (
            self._float32(f"{inside}{layer.norm}.{name}")
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + np.float32(layer.epsilon))
        return weight * scale[:, None, None, None], shift - mean * scale

    def _mean(self, x: Any) -> Any:
        return self._op.reduce_mean(x, np.array([2, 3], dtype=np.int64), False)

    def check_all_used(self) -> None:
        """Raise ValueError if the file has a tensor that the description does not know."""
        unknown = {name for name in self._tensors.keys() - self._used if not name.endswith(_COUNTER)}
        if unknown:
            raise ValueError(f"unknown tensor {min(unknown)}")

    def _float32(self, name: str) -> Floats:
        self._used.add(name)
        return self._tensors[name].astype(np.float32)
