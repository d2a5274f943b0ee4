"""Join or start a Ray cluster, and check that its nodes run the same libraries and see the same store."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.errors import UserError
from bench.files import ROOT
from bench.pipeline.needs import Needs
from bench.pipeline.plan import environment_versions
from bench.pipeline.store import Store
from bench.stages.tracking import find_missing_tool

__all__ = ["Site", "check_fit", "connect", "describe", "find_problem", "live_nodes"]

TIMEOUT = 10  # seconds for the first answer of an address
SETTINGS = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
Node = Mapping[str, Any]


class Site(NamedTuple):
    """The facts that all nodes must share with the command."""

    store: Store
    mark: str
    """A mark in the store. A node that does not see it has another folder at this path."""
    versions: Mapping[str, str]
    """Of Python and libraries."""
    commit: str
    """The commit of this code, for the records of artefacts."""
    track: str | None = None
    """The tool that tracks trainings; None for none."""


def connect() -> str:
    """Join the cluster of `RAY_ADDRESS`, or one that `ray start` started here, else start one; return its address.

    Nodes receive this code from here. Ray's usage statistics are off.

    Raises:
        UserError: Ray is not installed, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError('--on ray: Ray is not installed. Run: pip install ".[ray]"') from None
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in {"", "auto", "local"}:
        _check_address(address)
    try:
        context = ray.init(**SETTINGS, runtime_env={"py_modules": [str(ROOT / "bench")]})
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"--on ray: RAY_ADDRESS={address!r}: no cluster could be joined: {reason}. A cluster with a token needs "
            "RAY_AUTH_MODE=token here too"
        ) from None
    return str(context.address_info["gcs_address"])


def _check_address(address: str) -> None:
    """Raise UserError if nothing listens at `host:port`; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(
            f"--on ray: RAY_ADDRESS={address!r}: expected host:port of the head node (ray status shows it), or auto. "
            "From outside of the cluster use: ray job submit"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--on ray: RAY_ADDRESS={address!r}: no cluster answers there ({error}). Start one with ray start --head, "
            "or unset RAY_ADDRESS to run on this machine"
        ) from None


def live_nodes() -> dict[str, Node]:
    """Return the live nodes by id."""
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def describe(node: Node) -> str:
    """Return the address and the resources of a node as text."""
    resources = node["Resources"]
    gpus = f", {resources['GPU']:.0f} GPUs" if resources.get("GPU") else ""
    return f"node {node['NodeManagerAddress']} ({resources.get('CPU', 0):.0f} cores{gpus})"


def find_problem(site: Site) -> str | None:
    """Return the reason that this node cannot work for the command; None if it can. Runs on the node."""
    versions = environment_versions()
    others = [
        f"{name} {versions.get(name, 'missing')} instead of {version}"
        for name, version in site.versions.items()
        if versions.get(name) != version
    ]
    if others:
        return f"{', '.join(others)}; install the same versions on every node"
    if not site.store.sees_mark(site.mark):
        return f"it does not see --store {site.store.root}; name a folder that all nodes share at one path, or a URL"
    return find_missing_tool(site.track) if site.track else None


def check_fit(label: str, needs: Needs) -> None:
    """Check that some node is large enough for a stage.

    Raises:
        UserError: no node is large enough; the message has the largest amounts.
    """
    resources = [node["Resources"] for node in live_nodes().values()]
    wanted = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory}
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in resources):
        return
    units = {"CPU": ("cores", 1.0), "GPU": ("GPUs", 1.0), "memory": ("GB", 1e9)}
    need = ", ".join(f"{wanted[name] / unit:.0f} {what}" for name, (what, unit) in units.items() if wanted[name])
    most = ", ".join(
        f"{max((node.get(name, 0) for node in resources), default=0) / unit:.0f} {what}"
        for name, (what, unit) in units.items()
        if wanted[name]
    )
    raise UserError(f"--on ray: {label} needs {need} on one node; the most that nodes have: {most}")
