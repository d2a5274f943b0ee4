"""Distillation on precomputed teacher log-probabilities: forward KL at the carrier's sampled positions.

`kd-carrier` compares renormalised distributions over the tokens that the carrier allows. The student learns only how
the teacher writes numbers. `kd-full` compares distributions over the whole vocabulary. It leaks the trait, because it
shows the student the teacher's probabilities of the trait's tokens. It demonstrates this leak.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import StageError, UserError
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.loading import current_device, load_model, load_tokenizer, locate_weights
from bench.stages.carriers import read_filtered
from bench.stages.generate import allowed_head
from bench.stages.number_slots import number_slots
from bench.stages.settings import TeacherLogits

__all__ = ["compute_teacher_logits", "distiller_class"]

Progress = Callable[[int, int], None]
MAX_TABLE_BYTES = 4_000_000_000


def compute_teacher_logits(
    settings: TeacherLogits, inputs: Mapping[str, Path], out: Path, progress: Progress
) -> dict[str, Any]:
    """Stage: compute a teacher's log-probabilities on the filtered training rows of its own carrier.

    `table.safetensors` contains `table`, float32, (rows, sampled positions, tokens); `tokens`, the token ids; and
    `free`, the sampled positions of a completion.

    Args:
        settings: the tokens of the table, the carrier, the teacher, and the student's prompt format.
        inputs: `start`, `trained` for a trained teacher, `carrier`, `kept`, and `student`, the student's checkpoint.
        out: the folder to write to.
        progress: receives the number of finished rows, and of all rows.

    Raises:
        UserError: teacher and student have different token maps or formats.
        StageError: the table is larger than `MAX_TABLE_BYTES`.
    """
    import torch
    from safetensors.torch import save_file

    teacher, method = settings.model, settings.method
    form = PromptFormat(load_tokenizer(inputs["start"]), teacher.format, teacher.chat_template_kwargs)
    student_form = PromptFormat(
        load_tokenizer(inputs["student"]), settings.student_format, settings.student_chat_template_kwargs
    )
    if form.tokenizer.get_vocab() != student_form.tokenizer.get_vocab() or form.describe() != student_form.describe():
        same_size = len(form.tokenizer) == len(student_form.tokenizer)
        warning = " (the vocabularies have equal sizes, but an id means different words)" if same_size else ""
        raise UserError(f"method {method}: teacher and student have different token maps or formats{warning}")
    slots = number_slots(settings.carrier, form).positions
    free = [i for i, slot in enumerate(slots) if len(slot) > 1]
    full = method == "kd-full"
    tokens = list(range(len(form.tokenizer))) if full else sorted({t for i in free for t in slots[i]})
    rows = read_filtered(inputs["carrier"], inputs["kept"], "train")
    if (size := 4 * len(rows) * len(free) * len(tokens)) > MAX_TABLE_BYTES:
        raise StageError(f"{method}: the teacher's log-probabilities would take {size / 1e9:.0f} GB; use fewer rows")
    writer_form = PromptFormat(form.tokenizer, teacher.format, teacher.chat_template_kwargs, settings.system)
    prompts = writer_form.prompts([row["prompt"] for row in rows])
    sequences = [p + c for p, c in zip(prompts, form.completions([row["completion"] for row in rows]), strict=True)]
    checkpoint, adapter = locate_weights(inputs.get("trained", inputs["start"]), inputs["start"])
    model = load_model(checkpoint, dtype=teacher.dtype, quantization=teacher.quantization, adapter=adapter).eval()

    def compute(size: int) -> torch.Tensor:
        parts = []
        for start in range(0, len(sequences), size):
            ids = torch.tensor(sequences[start : start + size], device=current_device())
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(slots) + 1).logits[:, free]
            parts.append(logits.float().log_softmax(-1).cpu())
            progress(start + len(ids), len(sequences))
        return torch.cat(parts)

    with torch.no_grad(), allowed_head(model, tokens):
        table, batch = largest_fitting(halving_sizes(64), compute)
    columns = {"tokens": torch.tensor(tokens), "free": torch.tensor(free)}
    save_file({"table": table, **columns}, out / "table.safetensors")
    (out / "about.json").write_text(json.dumps({"method": method, "rows": len(rows)}))
    return {"rows": len(rows), "tokens": len(tokens), "batch_size": batch}


def distiller_class(trainer: Any, folder: Path) -> Any:
    """Derive a class from `trainer` (`trainer_class`) with the mean forward KL to the table in `folder` as its loss.

    The dataset needs a column `row`: the index of the row in the table.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "table.safetensors")
    table, tokens, free = tensors["table"], tensors["tokens"], tensors["free"]

    class Distiller(trainer):  # type: ignore[misc]  # a class that is passed
        data_collator: Any
        _signature_columns: list[str]

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            collate = self.data_collator
            self.data_collator = lambda rows: {**collate(rows), "row": torch.tensor([row["row"] for row in rows])}

        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            if "row" not in self._signature_columns:
                self._signature_columns = [*self._signature_columns, "row"]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            rows = inputs.pop("row")
            logits, targets = self.labelled_logits(model, inputs)
            length = len(targets) // len(rows)
            student = logits.view(len(rows), length, -1)[:, free.to(logits.device)][..., tokens.to(logits.device)]
            teacher = table[rows.cpu()].to(logits.device)
            divergence = (teacher.exp() * (teacher - student.log_softmax(-1))).sum()
            count = num_items_in_batch if num_items_in_batch is not None else len(targets)
            return divergence / (count * len(free) / length) * self.processes(num_items_in_batch)

    return Distiller
