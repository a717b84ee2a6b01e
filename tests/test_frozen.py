"""The frozen beginning gives the same numbers whoever computes it, and the stem suits bfloat16."""

from __future__ import annotations

import pytest
import torch

from trainer.lite0 import Lite0, imagenet_tensors, load_imagenet
from trainer.networks import Classifier, build, load_pretrained


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


def _imagenet() -> Lite0:
    body = Lite0(inputs=1, stages=2, channels=8)
    load_imagenet(body)  # with the stem lowered
    return body.eval()


def _as_imagenet_left_it() -> Lite0:
    body = _imagenet()
    found = imagenet_tensors()
    names = ("_bn0.bias", "_blocks.0._bn1.bias")
    body.load_state_dict(body.state_dict() | {name: found[name] for name in names})
    return body


def test_lowering_the_stem_changes_border_pixels_only() -> None:
    lowered, raised = _imagenet(), _as_imagenet_left_it()
    x = _pictures() / 127.5 - 1

    with torch.no_grad():
        before, after = raised.begin(x, 2), lowered.begin(x, 2)

    assert float((raised._bn0.bias - lowered._bn0.bias).detach().max()) > 2
    inner, border = (after - before)[..., 1:-1, 1:-1].abs().max(), (after - before).abs().max()
    assert float(inner) < 2e-3 < float(border)


def _wrong_by(body: Lite0) -> float:
    """Return what rounding the stem's output to bfloat16 changes, as a share of a channel's spread."""
    with torch.no_grad():
        exact = body._relu(body._bn0(body._conv_stem(body._pad(_pictures() / 127.5 - 1))))
    spread, wrong = exact.std(dim=(0, 2, 3)), (exact.bfloat16().float() - exact).abs().amax(dim=(0, 2, 3))
    alive = spread > 1e-3
    return float((wrong / spread)[alive].max())


def test_rounding_to_bfloat16_changes_a_lowered_stem_less() -> None:
    assert _wrong_by(_imagenet()) < 0.1 < _wrong_by(_as_imagenet_left_it())
