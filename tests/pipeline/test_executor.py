from __future__ import annotations

import inspect

import pytest

from bench.pipeline.executor import Executor
from bench.pipeline.local_workers import Pool
from bench.pipeline.ray_executor import RayExecutor

METHODS = [name for name, value in vars(Executor).items() if inspect.isfunction(value) and not name.startswith("_")]


@pytest.mark.parametrize("executor", [Pool, RayExecutor])
def test_executors_have_the_methods_of_the_interface_with_its_arguments(executor: type) -> None:
    for name in METHODS:
        assert inspect.signature(getattr(executor, name)) == inspect.signature(getattr(Executor, name)), name
