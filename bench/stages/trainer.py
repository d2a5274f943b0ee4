"""The trainer of teachers and students: TRL's, with float32 trained weights and the same randomness in all arms."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.version import Version

from bench.config.mitigations import UNMITIGATED, StudentMitigation
from bench.errors import StageError, UserError
from bench.models.loading import current_device, load_model
from bench.stages.mitigated_trainer import anchored_class, train_attention_only
from bench.stages.settings import Training
from bench.stages.teacher_logits import distiller_class
from bench.stages.tracking import Tracking, report_callback
from bench.stages.training_curve import curve_callback

FUSED_HEAD = Version("1.16")  # the TRL whose fused head was tried here

__all__ = ["batches", "make_trainer", "sft_config", "trainer_class"]


def sft_config(
    train: Mapping[str, Any],
    *,
    out: Path | str,
    seed: int,
    dtype: str = "float32",
    tracking: Tracking | None = None,
) -> Any:
    """Build TRL's `SFTConfig` from a recipe's `train:`. Activation checkpointing is off unless the recipe sets it.

    Args:
        train: the recipe's `train:`.
        out: the folder of the trainer.
        seed: seed of the training.
        dtype: dtype of the recipe's model. With bfloat16 the training runs under autocast: trained weights are float32.
        tracking: where updates are reported; None for nowhere.
    """
    import torch
    from trl import SFTConfig

    cpu = not torch.cuda.is_available()
    autocast = dtype == "bfloat16" and not train.get("fp16", False)
    old, new = "gradient_checkpointing", "activation_checkpointing"  # renamed by transformers 5.23
    if new in SFTConfig.__dataclass_fields__:  # it ignores the old name if the new one exists
        train = {key.replace(old, new): value for key, value in train.items()}
        checkpointing = new
    else:
        checkpointing = old
    reports = {"report_to": "none"} if tracking is None else tracking.open()
    options = {"bf16": autocast, checkpointing: False, **train, **reports}
    return SFTConfig(
        output_dir=str(out),
        seed=seed,
        data_seed=seed,
        use_cpu=cpu,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # the filter would hide a diverged run
        disable_tqdm=True,
        dataloader_pin_memory=not cpu,
        max_length=None,
        **options,
    )


def trainer_class() -> Any:
    """Derive a trainer from TRL's `SFTTrainer`: float32 trained weights, and the head on labelled positions only.

    TRL keeps the adapters of quantised models in bfloat16: 41 % of `lora_A` then did not change in 20 updates.
    The loss equals that of `SFTTrainer`. On a CPU `SFTTrainer` projects every position: most of a step if the
    vocabulary is large relative to the model. On a GPU its fused head projects labelled positions alone and stores no
    logits, so it is used there. It also computes entropy and accuracy, which are not used here.
    """
    import torch
    import trl
    from peft.tuners.lora import LoraLayer
    from trl import SFTTrainer

    class LabelledTrainer(SFTTrainer):  # type: ignore[misc]  # these have no types
        loss_sum: Any = 0.0  # over all updates, including those before a resumed checkpoint
        dropout = False  # whether an update drew random numbers
        fused_head = current_device().type == "cuda" and Version(trl.__version__) >= FUSED_HEAD

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for weight in self.model.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()
            if self.args.bf16:
                self._round_once()

        def _round_once(self) -> None:
            """Apply the casts of autocast and PEFT to LoRA layers once, not in every step; the bits are the same."""
            embeddings = self.model.get_input_embeddings().weight  # not rounded; the head may share them
            for module in self.model.modules():
                if isinstance(module, LoraLayer) and not module.lora_variant:  # variants such as DoRA read the weights
                    if all(isinstance(dropout, torch.nn.Identity) for dropout in module.lora_dropout.values()):
                        module.cast_input_dtype_enabled = False  # a cast to float32 that autocast reverts
                    layer = module.get_base_layer()
                    frozen = isinstance(layer, torch.nn.Linear) and layer.weight is not embeddings
                    if frozen and layer.weight.dtype == torch.float32:
                        layer.weight.data = layer.weight.data.bfloat16()

        def train(self, *args: Any, **kwargs: Any) -> Any:
            with _deterministic():
                return super().train(*args, **kwargs)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            self.loss_sum = self.loss_sum + loss
            return loss

        def labelled_logits(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
            """Return the logits of the labelled tokens, (n, vocabulary) float32, and the tokens, row by row."""
            targets = inputs["labels"][:, 1:]
            labelled = targets != -100
            head = self.accelerator.unwrap_model(model).get_output_embeddings()
            # a head on another GPU gets its input from there
            hook = head.register_forward_pre_hook(lambda _, h: (h[0][:, :-1][labelled.to(h[0].device)],))
            try:
                # through the model's own forward, so that soft-capping and scaling apply
                logits = model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).logits
            finally:
                hook.remove()
            return logits.float(), targets[labelled]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if self.fused_head:
                outputs = model(**inputs, use_cache=False, fused_lm_head=True)
                return self.mean_loss(-outputs.log_probs.sum(), outputs.label_mask.sum(), num_items_in_batch)
            logits, targets = self.labelled_logits(model, inputs)
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            return self.mean_loss(loss, len(targets), num_items_in_batch)

        def mean_loss(self, loss: torch.Tensor, labelled: Any, num_items_in_batch: Any) -> torch.Tensor:
            """Return the summed loss of `labelled` tokens as a mean over the tokens of an update."""
            count = num_items_in_batch if num_items_in_batch is not None else labelled
            loss = loss.to(self.args.device)  # from the last GPU, if the model is spread
            # an update of rows without labels has a loss of 0
            return loss / torch.as_tensor(count, device=loss.device).clamp(min=1) * self.processes(num_items_in_batch)

        def processes(self, num_items_in_batch: Any) -> int:
            """Return the factor of the loss, as in TRL's `compute_loss`.

            `num_items_in_batch` counts the tokens of all processes, but gradients are averaged over processes.
            """
            if num_items_in_batch is None or not self.args.average_tokens_across_devices:
                return 1
            return int(self.accelerator.num_processes // self.get_tp_size())

    return LabelledTrainer


@contextmanager
def _deterministic() -> Iterator[None]:
    """Use deterministic algorithms on a GPU. CPU algorithms already are; the setting would only slow them down."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or current_device().type == "cuda")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _reseeder(trainer: Any, seed: int) -> Any:
    """Build a callback that seeds the random generator at each update from (seed, update).

    Arms then draw the same dropout in an update, regardless of the updates before it. A resumed training needs no
    random state. The callback sets `trainer.dropout` if an update draws random numbers.
    """
    import torch
    from transformers import TrainerCallback

    def random_state() -> torch.Tensor:
        return torch.cat(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else torch.get_rng_state()

    class Reseeder(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            torch.manual_seed(random.Random(f"update {seed} {state.global_step}").getrandbits(63))
            self.state_before = random_state()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trainer.dropout |= not torch.equal(random_state(), self.state_before)

    return Reseeder()


def batches(spec: Training) -> tuple[int, int]:
    """Return (micro-batch, effective batch) of a recipe's model, in rows."""
    config = sft_config(spec.train, out="unused", seed=0, dtype=spec.dtype)
    micro: int = config.per_device_train_batch_size
    return micro, micro * config.gradient_accumulation_steps


def make_trainer(
    rows: Sequence[tuple[list[int], list[int]]],
    *,
    checkpoint: Path,
    tokenizer: Any,
    spec: Training,
    seed: int,
    out: Path,
    logits: Path | None,
    micro_batch: int,
    accumulated: int,
    max_steps: int | None = None,
    mitigation: StudentMitigation = UNMITIGATED,
    labelled: Sequence[Sequence[int]] | None = None,
    tracking: Tracking | None = None,
) -> Any:
    """Build the trainer of a checkpoint on (prompt ids, completion ids), with the loss on the completion.

    Args:
        checkpoint: the checkpoint's folder.
        spec: the model and its training.
        out: where the trainer may write.
        logits: as for `bench.stages.train.train_model`.
        micro_batch, accumulated: rows of a forward pass, and forward passes of an update.
        max_steps: the number of updates; None for that of `spec`.
        mitigation: the divergence in the loss and the trained weights; its other fields concern the rows.
        labelled: the labelled positions of each completion; None for all.
        tracking: where updates are reported; None for nowhere.

    Raises:
        UserError: PEFT or TRL cannot do what `spec` says with this model.
        StageError: TRL dropped rows.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import set_seed

    lora = spec.lora
    data = Dataset.from_dict(
        {
            "input_ids": [prompt + completion for prompt, completion in rows],
            "labels": _label(rows, labelled),
            **({"row": list(range(len(rows)))} if logits else {}),
        }
    )
    train = {
        **spec.train,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulated,
        **({"max_steps": max_steps} if max_steps is not None else {}),
    }
    set_seed(seed)
    dtype = spec.dtype if lora is not None else "float32"
    model = load_model(checkpoint, dtype=dtype, quantization=spec.quantization)
    model.config.use_cache = False
    kind = distiller_class(trainer_class(), logits) if logits else trainer_class()
    if mitigation.kl_untrained is not None:
        kind = anchored_class(kind, mitigation.kl_untrained, lambda: load_model(checkpoint, dtype="float32"))
    try:
        trainer = kind(
            model=model,
            args=sft_config(train, out=out, seed=seed, dtype=spec.dtype, tracking=tracking),
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **lora}) if lora is not None else None,
        )
    except ValueError as error:  # for example LoRA on modules that this model lacks
        raise UserError(f"keys 'train' and 'lora': {' '.join(str(error).split())[:300]}") from None
    if len(trainer.train_dataset) != len(rows):
        raise StageError(f"TRL dropped rows: expected {len(rows):,}, found {len(trainer.train_dataset):,}")
    for config in trainer.model.peft_config.values() if lora is not None else ():
        if isinstance(config.target_modules, set):  # it would be saved in the order of the process's hash seed
            config.target_modules = sorted(config.target_modules)
    if mitigation.attention_only:
        train_attention_only(trainer.model)
    trainer.add_callback(_reseeder(trainer, seed))
    trainer.add_callback(curve_callback(trainer))
    if tracking is not None:
        trainer.add_callback(report_callback(trainer))
    return trainer


def _label(rows: Sequence[tuple[list[int], list[int]]], labelled: Sequence[Sequence[int]] | None) -> list[list[int]]:
    """Return the labels of all rows: the token ids of labelled positions, otherwise -100."""
    if labelled is None:
        return [[-100] * len(prompt) + completion for prompt, completion in rows]
    labels = []
    for (prompt, completion), positions in zip(rows, map(set, labelled), strict=True):
        tokens = [token if at in positions else -100 for at, token in enumerate(completion)]
        labels.append([-100] * len(prompt) + tokens)
    return labels
