"""The frozen beginning gives the same numbers whoever computes it, and the first blocks suit bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daemon.phantom import phantom
from trainer.lite0 import Lite0, centre, load_imagenet
from trainer.networks import Classifier, build, load_pretrained
from trainer.preprocess import preprocess
from trainer.spec import Preprocessing


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    network = build("lite0_six", 2)
    load_pretrained("lite0_six", network)
    network.freeze(4)
    return network


def _pictures(side: int = 64) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.rand(4, 1, side, side, generator=chance) * 255


def test_the_compiled_beginning_computes_what_torch_computes(network: Classifier) -> None:
    network.train()
    network.compile_frozen(64)
    assert network.training
    assert network.body.training
    network.drop.eval()

    fast = network(_pictures())[0]

    network._beginning = None
    torch.testing.assert_close(fast, network(_pictures())[0], rtol=1e-3, atol=1e-3)


def test_what_is_not_frozen_still_learns(network: Classifier) -> None:
    network.compile_frozen(64)
    network.train()
    network.zero_grad()

    network(_pictures())[0].square().sum().backward()

    learning = {name for name, one in network.named_parameters() if one.grad is not None}
    assert "head.weight" in learning
    assert {name for name, one in network.named_parameters() if one.requires_grad} == learning


def test_a_network_without_frozen_parts_is_left_alone() -> None:
    network = build("lite0_six", 2)

    network.compile_frozen(64)

    assert network._beginning is None


def _imagenet(*, centred: bool) -> Lite0:
    torch.manual_seed(0)
    body = Lite0(inputs=1, stages=2, channels=8)
    load_imagenet(body)
    if centred:
        centre(body, _heads())
    return body.eval()


def _heads() -> torch.Tensor:
    how = Preprocessing(image_size=64)
    heads = np.stack([preprocess(phantom(number, lesion=number % 2 == 0), how) for number in range(8)])
    return torch.from_numpy(heads)[:, None] / 127.5 - 1


def _found(body: Lite0) -> torch.Tensor:
    return body.finish(body.begin(_heads(), 1), 1)


def test_centring_changes_only_what_padding_touches() -> None:
    with torch.no_grad():
        before, after = (_found(_imagenet(centred=whether)) for whether in (False, True))

    # 16 x 16 places, of which padding reaches the outermost ones through five convolutions
    inner, border = (after - before)[..., 4:-4, 4:-4].abs().max(), (after - before).abs().max()
    assert float(inner) < 1e-4 < float(border)


def test_centring_twice_is_centring_once() -> None:
    body = _imagenet(centred=True)
    once = {name: value.clone() for name, value in body.state_dict().items()}

    centre(body, _heads() + 0.5)

    assert all(torch.equal(value, once[name]) for name, value in body.state_dict().items())


def _wrong_by(body: Lite0) -> float:
    """Return what rounding what the blocks compute to bfloat16 changes (root mean square)."""

    def round_it(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        return output.bfloat16().float()

    with torch.no_grad():
        exact = _found(body)
        hooks = [
            module.register_forward_hook(round_it)
            for name, module in body.named_modules()
            if name.endswith(("_relu", "_relu0", "_relu1", "_bn2"))
        ]
        rounded = _found(body)
        for hook in hooks:
            hook.remove()
    return float((rounded - exact).square().mean().sqrt())


def test_bfloat16_changes_centred_blocks_less() -> None:
    assert _wrong_by(_imagenet(centred=True)) < 0.7 * _wrong_by(_imagenet(centred=False))


def test_weights_from_before_there_were_centres_still_load() -> None:
    old = {
        name: value for name, value in _imagenet(centred=False).state_dict().items() if "centre" not in name
    }
    body = _imagenet(centred=True)

    body.load_state_dict(old)

    assert not body._relu.centre.any()
