"""Run a forward during training without changing the training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module, gradients: bool = False) -> Iterator[None]:
    """Run the block in eval mode without autocast, and restore all state that it may change, also after an error.

    Restored are train and eval flags, buffers, the random states of torch (CPU and the module's GPUs), NumPy and
    Python, gradient and inference mode, autocast and the default dtype. No host synchronisation.

    Args:
        module: the module that is run.
        gradients: enable gradients, for modules that differentiate inside their forward.
    """
    devices = {value.device for value in [*module.parameters(), *module.buffers()] if value.device.type == "cuda"}
    with (
        _random_states(devices),
        _default_dtype(),
        _eval_mode(module),
        torch.inference_mode(False),
        torch.no_grad(),
        _buffers(module),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False) if devices else nullcontext(),
        torch.set_grad_enabled(gradients),
    ):
        yield


@contextmanager
def _random_states(devices: set[torch.device]) -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device.index for device in devices]):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


@contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Set the flags directly: an overridden `eval` may do more, such as merging weights, which rounds them."""
    before = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def _buffers(module: nn.Module) -> Iterator[None]:
    """Restore buffers: those written in place, which their version counter tells, and those replaced."""
    held = [
        (part, name, value, value._version, value.clone())
        for part in module.modules()
        for name, value in part._buffers.items()
        if value is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, name, value, version, copy in held:
                if value._version != version:
                    value.copy_(copy)
                part._buffers[name] = value
