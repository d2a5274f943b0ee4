"""`--track`: hand the curves of trainings to trackio, wandb or tensorboard, by the `report_to` of TRL.

Off unless asked for. A tracked training writes the same artefact: the tool sees each update and changes nothing.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import UserError

__all__ = ["Tracking", "check_tool", "find_missing_tool", "report_callback"]

PROJECT = "subliminal-bench"


def find_missing_tool(tool: str) -> str | None:
    """Return why a tool cannot be used here, with the fix; None if it can."""
    if importlib.util.find_spec(tool) is not None:
        return None
    return f"--track {tool}: the package {tool} is not installed; run: pip install {tool}"


def check_tool(tool: str) -> None:
    """Check that a tool is installed.

    Raises:
        UserError: it is not.
    """
    if problem := find_missing_tool(tool):
        raise UserError(problem)


class Tracking(NamedTuple):
    """How one training is tracked."""

    tool: str
    """A value of `report_to`: trackio, wandb or tensorboard, which is the name of its package too."""
    run: str
    """The name of the run: the label of the stage and the end of its key."""
    folder: Path
    """The folder of tensorboard's files."""

    def open(self) -> dict[str, Any]:
        """Set the variables that the integrations of transformers read, and return the arguments of `SFTConfig`."""
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self.folder / self.run)
        return {"report_to": [self.tool], "run_name": self.run, "project": PROJECT}

    def close(self) -> None:
        """End the run, so that the next training of this process starts its own. Only wandb leaves it open."""
        if self.tool == "wandb":
            import wandb

            wandb.finish()


def report_callback(trainer: Any) -> Any:
    """Build a callback that hands each update to the tools of `report_to`.

    It passes on the entry of `bench.stages.training_curve.curve_callback`, which comes before it. The trainer's own
    logging stays off: it would add entries to the log history, and with it to the artefact.
    """
    from transformers import TrainerCallback

    class ReportCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            entry = {name: value for name, value in state.log_history[-1].items() if value is not None}
            del entry["step"]
            trainer.callback_handler.on_log(args, state, control, entry)

    return ReportCallback()
