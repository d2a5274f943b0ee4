"""Tensors of this CPU that say they are on GPUs, and refuse to meet tensors that are elsewhere.

They compute real numbers. So code for a model that is spread over two GPUs runs here, to the bits of one CPU, and a
tensor that was left on the wrong GPU is the error that it would be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["OnGpu", "spread", "two_gpus"]

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
# Their indices may be on the CPU: see "indices should be either on cpu or on the same device".
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten._unsafe_index.Tensor}


class OnGpu(torch.Tensor):
    """A tensor of the CPU, `inner`, that says it is on a GPU."""

    inner: torch.Tensor
    gpu: torch.device

    @staticmethod
    def __new__(cls, inner: torch.Tensor, gpu: torch.device) -> OnGpu:
        # for C++ it is on `meta`, as a build without CUDA has no guard for its devices
        made: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device="meta",
        )  # fmt: skip
        made.inner, made.gpu = inner, gpu
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # in the place of an attribute
        return self.gpu

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __getitem__(self, index: Any) -> Any:
        """Make tensors of lists here: C++ would make them on `meta`, without their numbers."""
        parts = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts))

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes the tensors of `torch.zeros(..., device="cuda:1")` and of `.to("cuda:1")`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
    devices = {tensor.device for tensor in on_gpu}
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.dim() > 0]
    if func not in MOVES and (len(devices) > 1 or (devices and on_cpu and func not in INDEXING)):
        raise RuntimeError(f"{func}: expected tensors on one device, found {devices} and {len(on_cpu)} on the CPU")
    device = args[0].device if func in MOVES else next(iter(devices), torch.device("cpu"))
    if kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
        if device.type == "meta":  # made in C++ like a tensor of a GPU: a number, which meets any device
            device = next(iter(devices), torch.device("cpu"))
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = {id(tensor.inner): tensor for tensor in on_gpu}
    inner_args, inner_kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnGpu) else leaf, (args, kwargs))
    result = func(*inner_args, **inner_kwargs)

    def wrap(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or device.type == "cpu":
            return leaf
        return made[id(leaf)] if id(leaf) in made else OnGpu(leaf, device)

    return tree_map(wrap, result)


@contextmanager
def two_gpus() -> Iterator[None]:
    """While open, tensors can be on `cuda:0` and `cuda:1`, and the first is this process's device."""
    first = torch.device("cuda:0")
    modules = (
        "bench.models.kv_cache", "bench.models.logprobs", "bench.stages.decoder", "bench.stages.generate",
        "bench.stages.free_text",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda._lazy_init", lambda: None)
        for module in modules:
            patch.setattr(f"{module}.current_device", lambda: first)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor([1], device="cuda:0")
        try:
            with _Factories():
                yield
        finally:
            torch._C._set_only_lift_cpu_tensors(False)


def spread(model: Any, devices: dict[str, str]) -> Any:
    """Put the modules of a model on the GPUs of a device map and dispatch it, as transformers does after loading."""
    from accelerate import dispatch_model

    for name, module in model.named_modules():
        device = next((place for part, place in devices.items() if f"{name}.".startswith(f"{part}.")), "cuda:0")
        for table in (module._parameters, module._buffers):
            for key, tensor in table.items():
                if tensor is not None and not isinstance(tensor, OnGpu):
                    table[key] = OnGpu(tensor.detach(), torch.device(device))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accelerate.hooks.set_module_tensor_to_device", lambda *_, **__: None)  # they are there
        return dispatch_model(model, devices, main_device="cuda:0", skip_keys=model._skip_keys_device_placement)
