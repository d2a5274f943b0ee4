"""Run stages on a Ray cluster.

A slot is an actor: Ray gives it cores, a GPU and memory on some node, and it runs one worker process there. Slots start
when stages wait for them. They run one stage after another, and end when other slots need their resources.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bench.errors import DiskError, StageError, UserError
from bench.pipeline.executor import Event, Executor
from bench.pipeline.imported_checkpoints import import_folder
from bench.pipeline.local_workers import Pool, WorkerEnded, current_commit
from bench.pipeline.needs import Needs, find_needs
from bench.pipeline.plan import Stage, environment_versions
from bench.pipeline.ray_cluster import Site, check_fit, connect, describe, find_problem, live_nodes
from bench.pipeline.store import Store

__all__ = ["RayExecutor"]

POLL = 2.0  # seconds between two looks at the nodes
PATIENCE = 15.0  # seconds after which idle slots end, if other slots wait
ABSENCE = 600.0  # seconds that a run waits for a node, after the last node that fits a stage has left
MAX_FAILED_STARTS = 5  # one after the other
STARTING = 8  # slots that may wait for their place at the same time


class SlotActor:
    """The part of a slot that runs on a node."""

    def __init__(self, site: Site) -> None:
        import ray

        gpus = [str(gpu) for gpu in ray.get_gpu_ids()]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        self.site = site
        self.pool = Pool(site.store, jobs=1, track=site.track)
        self.pool.commit = site.commit
        self.pool.gpus = gpus

    def start(self) -> tuple[str, str, str | None]:
        """Start the worker process; return the id of the node, its name and its problem."""
        import ray

        problem = find_problem(self.site)
        if problem is None:
            self.pool.start(tuple(self.pool.gpus))
        return ray.get_runtime_context().get_node_id(), f"node {ray.util.get_node_ip_address()}", problem

    def step(self, stage: Stage | None) -> list[tuple[Any, ...]]:
        """Submit a stage, or continue with it, and return the next messages about it."""
        try:
            if stage is not None:
                self.pool.submit(stage)
            return [message for _, message in self.pool.events()]
        except WorkerEnded as error:
            return [("lost", str(error))]
        except DiskError as error:
            return [("disk", str(error))]
        except StageError as error:
            return [("stage", str(error))]
        except UserError as error:
            return [("user", str(error))]


@dataclass
class Slot:
    """The command's side of a slot."""

    needs: Needs
    actor: Any
    answer: Any
    """Its next answer, an `ObjectRef`; None while it is idle."""
    since: float = field(default_factory=time.monotonic)
    """When it was started, or became idle."""
    node: str | None = None
    """The id of its node; None until it has started."""
    where: str = "a node"
    """The name of its node."""
    stage: Stage | None = None


class RayExecutor(Executor):
    """Slots on the cluster that `connect` finds; `jobs` limits their number."""

    def __init__(self, store: Store, jobs: int | None = None, track: str | None = None) -> None:
        self.store = store
        self.jobs = jobs
        self.news = [f"Ray: cluster at {connect()}"]
        mark = uuid.uuid4().hex
        self.store.leave_mark(mark)
        self.site = Site(self.store, mark, environment_versions(), current_commit(), track)
        self.active: list[Slot] = []
        self.demand: Counter[Needs] = Counter()
        """Stages without room since the last look, by needs."""
        self.fitted: dict[Needs, float] = {}
        """When a node last fitted the needs."""
        self.nodes: dict[str, Any] = {}
        self.full: set[str] = set()
        """Nodes with a full disk."""
        self.failed_starts = 0
        self.watched = 0.0
        try:
            self._watch_nodes()
        except BaseException:
            self.close(failed=True)
            raise
        self.gpus = any(node["Resources"].get("GPU") for node in self.nodes.values())

    def close(self, *, failed: bool) -> None:
        """End all slots, and the cluster if it was started here."""
        import ray

        for slot in self.active:
            ray.kill(slot.actor)
        ray.shutdown()
        self.store.remove_mark(self.site.mark)
        if failed:
            with suppress(OSError):
                self.store.sweep()

    def slots(self, threads: int) -> int:
        """Return the number of parallel stages: `jobs`, else one per GPU, else one per `threads` cores."""
        amounts = [node["Resources"] for node in self.nodes.values()]
        gpus = sum(int(amount.get("GPU", 0)) for amount in amounts)
        return self.jobs or gpus or max(1, sum(int(amount.get("CPU", 0)) // threads for amount in amounts))

    def room(self, stage: Stage) -> bool:
        """Return whether a slot for the stage is idle; `events` starts further slots for stages without room."""
        needs = find_needs(stage, gpus=self.gpus)
        if any(slot.needs == needs and slot.answer is None for slot in self.active):
            return True
        if not self.demand[needs]:
            try:
                check_fit(stage.label, needs)
                self.fitted[needs] = time.monotonic()
            except UserError:
                if time.monotonic() - self.fitted.get(needs, float("-inf")) > ABSENCE:
                    raise
        self.demand[needs] += 1
        return False

    def submit(self, stage: Stage) -> None:
        """Send a stage to an idle slot. Its inputs outside the store travel through the store."""
        needs = find_needs(stage, gpus=self.gpus)
        slot = next(slot for slot in self.active if slot.needs == needs and slot.answer is None)
        inputs = {role: import_folder(self.store, ref, stage.model) for role, ref in stage.inputs.items()}
        slot.stage, slot.answer = stage, slot.actor.step.remote(stage._replace(inputs=inputs))

    def events(self) -> list[Event]:
        """Wait for messages of the slots, for a new slot or for news of nodes, and return the messages.

        Raises:
            StageError, UserError: a stage failed, or a node cannot work for this command.
        """
        import ray

        self._start_slots()
        answers = {slot.answer: slot for slot in self.active if slot.answer is not None}
        ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(answers), timeout=POLL)
        events = [event for answer in ready for event in self._read(answers[answer])]
        self._watch_nodes()
        events += [(None, ("message", line)) for line in self.news]
        self.news = []
        return events

    def _start_slots(self) -> None:
        """Start slots for stages without room, and end idle ones if others wait for their resources."""
        now = time.monotonic()
        starting = [slot for slot in self.active if slot.node is None]
        for needs, count in self.demand.items():
            wanted = min(count, STARTING) - sum(slot.needs == needs for slot in starting)
            for _ in range(wanted):
                if self.jobs is not None and len(self.active) >= self.jobs:
                    idle = next((slot for slot in self.active if slot.answer is None), None)
                    if idle is None:
                        break
                    self._end(idle)
                self._start_slot(needs)
        if any(slot.needs in self.demand and now - slot.since > PATIENCE for slot in starting):
            for slot in [slot for slot in self.active if slot.answer is None and now - slot.since > PATIENCE]:
                self._end(slot)
        self.demand.clear()

    def _start_slot(self, needs: Needs) -> None:
        import ray

        selector = {"ray.io/node-id": f"!in({','.join(sorted(self.full))})"} if self.full else None
        actor_class = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory or None,
            max_restarts=0,  # the scheduler runs a lost stage again
            label_selector=selector,
        )(SlotActor)
        actor = actor_class.remote(self.site)
        self.active.append(Slot(needs, actor, actor.start.remote()))

    def _end(self, slot: Slot) -> None:
        import ray

        self.active.remove(slot)
        ray.kill(slot.actor)

    def _read(self, slot: Slot) -> list[Event]:
        """Return the messages of a slot that has answered."""
        import ray

        try:
            answer = ray.get(slot.answer)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            self._end(slot)
            self.failed_starts += slot.node is None
            if self.failed_starts > MAX_FAILED_STARTS:
                raise StageError(f"Ray starts no workers: {str(error).strip().splitlines()[-1]:.300}") from None
            return [(slot.stage, ("lost", f"{slot.where} or its worker there ended"))] if slot.stage else []
        if slot.node is None:
            slot.node, slot.where, problem = answer
            if problem:
                raise UserError(f"--on ray: {slot.where}: {problem}")
            slot.answer, slot.since, self.failed_starts = None, time.monotonic(), 0
            return []
        *messages, last = answer
        match last[0]:
            case "user":
                raise UserError(last[1])
            case "stage":
                raise StageError(f"{last[1]}; on {slot.where}")
            case "lost" | "disk":
                self._end(slot)
                if last[0] == "disk":
                    self._avoid(slot.node, last[1])
                last = ("lost", f"{slot.where}: {last[1]}")
            case "done" | "corrupt":
                slot.answer, slot.since = None, time.monotonic()
            case _:
                slot.answer = slot.actor.step.remote(None)
        return [(slot.stage, message) for message in (*messages, last)]

    def _avoid(self, node: str, reason: str) -> None:
        """Start no more slots on a node, and end those that are there; their stages are lost.

        Raises:
            StageError: no other node is left.
        """
        self.full.add(node)
        if not self.nodes.keys() - self.full:
            raise StageError(reason)
        for slot in [slot for slot in self.active if slot.node is None or (slot.node == node and slot.answer is None)]:
            self._end(slot)

    def _watch_nodes(self) -> None:
        """Note nodes that joined or left, and check the new ones.

        Raises:
            UserError: a node cannot work for this command.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if time.monotonic() - self.watched < POLL:
            return
        self.watched = time.monotonic()
        live, checks = live_nodes(), {}
        for node in live.keys() - self.nodes.keys():
            here = NodeAffinitySchedulingStrategy(node, soft=False)
            checks[node] = ray.remote(num_cpus=0, scheduling_strategy=here)(find_problem).remote(self.site)
        for node, check in checks.items():
            try:
                if problem := ray.get(check):
                    raise UserError(f"--on ray: {describe(live[node])}: {problem}")
            except ray.exceptions.RayTaskError as error:  # this code could not be imported
                reason = str(error).strip().splitlines()[-1][:300]
                raise UserError(f"--on ray: {describe(live[node])}: {reason}") from None
            except ray.exceptions.RayError:  # it left again
                continue
            self.nodes[node] = live[node]
            self.news.append(f"Ray: {describe(live[node])} joined")
        for node in [node for node in self.nodes if node not in live]:
            self.news.append(f"Ray: {describe(self.nodes.pop(node))} left")
