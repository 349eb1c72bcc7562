"""A step of training in torch: what it computes, in parts and whole, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement
from tests.backends.samples import fed

PLACE = Placement()

PARTS = ("forward", "loss", "backward", "optimizer", "zero_grad")


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def batch_of(batch: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, 16, 16), dtype=np.float32)


@contextmanager
def trained(placement: Placement = PLACE, spec: str = "eager", module=tiny) -> Iterator:
    with backends.get(spec).train(Model(None, module), fed(batch_of()), placement) as session:
        yield session


def test_the_parts_are_one_step_and_the_whole_is_all_parts():
    with trained() as whole, trained() as parted:
        for _ in range(3):
            whole.run()
            for part in parted.parts.values():
                part()
        assert tuple(parted.parts) == PARTS
        assert whole.loss() == parted.loss()


def test_training_lowers_the_loss_in_train_mode_and_leaves_no_gradients():
    made: list[nn.Module] = []
    with trained(module=lambda: made.append(tiny()) or made[0]) as session:
        assert made[0].training
        mean = made[0].norm.running_mean.clone()
        session.run()
        first = session.loss()
        for _ in range(200):
            session.run()
        assert session.loss() < first
        assert not torch.equal(made[0].norm.running_mean, mean)
        assert all(parameter.grad is None for parameter in made[0].parameters())


def test_the_loss_is_smoothed_cross_entropy():
    made: list[nn.Module] = []
    with trained(module=lambda: made.append(tiny()) or made[0]) as session:
        x, labels = torch.from_numpy(batch_of()), torch.tensor([0, 1, 2, 3])
        session.feed(x, labels)
        logs = torch.log_softmax(made[0](x).detach(), 1)
        expected = -(0.9 * logs[range(4), labels] + 0.1 * logs.mean(1)).mean()
        session.run()
        assert session.loss() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("spec", "name"), [("eager", "sgd"), ("eager:optimizer=adamw", "adamw")])
def test_facts_say_optimizer_classes_and_precision(spec, name):
    with trained(spec=spec) as session:
        facts = session.facts()
    assert (facts["optimizer"], facts["classes"], facts["label_smoothing"], facts["autocast"]) == (name, 5, 0.1, None)


def test_bf16_is_autocast_over_fp32_weights_and_changes_the_loss_a_little():
    made: list[nn.Module] = []
    with trained(replace(PLACE, precision="bf16"), module=lambda: made.append(tiny()) or made[0]) as half:
        half.run()
        low = half.loss()
        assert half.facts()["autocast"] == "bf16"
        assert {parameter.dtype for parameter in made[0].parameters()} == {torch.float32}
    with trained() as full:
        full.run()
        assert 0 < abs(full.loss() - low) < 0.02 * full.loss()


def test_channels_last_holds_for_the_images_that_are_fed_too():
    with trained(replace(PLACE, memory_format="channels_last")) as session:
        assert session.facts()["memory_format"] == "channels_last"
        session.feed(torch.from_numpy(batch_of()), torch.zeros(4, dtype=torch.long))
        assert session._images.is_contiguous(memory_format=torch.channels_last)
        session.run()


def test_a_closed_session_refuses_and_a_model_without_classes_is_no_classifier():
    with trained() as session, pytest.raises(BackendError, match="run"):
        session.loss()
    with pytest.raises(BackendError, match="closed"):
        session.run()
    with pytest.raises(BackendError, match="classifier"), trained(module=lambda: nn.Conv2d(3, 4, 3)):
        pass
