"""The frozen beginning gives the same numbers whoever computes it, and the stem suits bfloat16."""

from __future__ import annotations

import pytest
import torch

from trainer.lite0 import Lite0, load_imagenet, lower_stem
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


def test_lowering_the_stem_changes_border_pixels_only() -> None:
    body = _imagenet()
    raised = _imagenet()
    with torch.no_grad():
        raised._bn0.bias += 0.5 * (raised._bn0.bias < 0)  # some channels may be lowered once more
    lowered = _imagenet()
    lowered.load_state_dict(raised.state_dict())
    x = _pictures() / 127.5 - 1

    lower_stem(lowered)

    with torch.no_grad():
        before, after = raised.begin(x, 2), lowered.begin(x, 2)
    torch.testing.assert_close(after[..., 1:-1, 1:-1], before[..., 1:-1, 1:-1], rtol=1e-3, atol=2e-3)
    assert torch.isfinite(body.begin(x, 2)).all()


def test_rounding_a_lowered_stem_to_bfloat16_changes_little() -> None:
    """The channel that moves by 0.02 about 2.64 would be wrong by a fifth of that after rounding."""
    body = _imagenet()
    x = _pictures() / 127.5 - 1

    with torch.no_grad():
        exact = body._relu(body._bn0(body._conv_stem(body._pad(x))))
        rounded = exact.bfloat16().float()

    spread = exact.std(dim=(0, 2, 3))
    wrong = (rounded - exact).abs().amax(dim=(0, 2, 3))
    alive = spread > 1e-3
    assert float((wrong / spread)[alive].max()) < 0.1
