"""SFTTrainer for teachers and students. Rows are tokenised here, so that TRL neither guesses nor drops anything."""

from __future__ import annotations

import difflib
import inspect
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bench.carriers import read_kept
from bench.distill import distiller_class
from bench.errors import StageError, UserError
from bench.fitting import divisors, first_fitting
from bench.models import Format, device, load_model, load_tokenizer
from bench.recipe import Model, beyond, updates
from bench.resume import keeper, latest

__all__ = ["check", "fit", "student", "teacher"]

Progress = Callable[[int, int], None]
# What a run decides for itself: where it writes, what it logs, its seed and its device.
OURS = {
    "output_dir", "seed", "data_seed", "use_cpu", "report_to", "save_strategy", "logging_strategy", "disable_tqdm",
    "dataloader_num_workers", "eval_strategy", "logging_nan_inf_filter", "push_to_hub", "hub_token", "packing",
    "completion_only_loss", "loss_type", "label_smoothing_factor", "use_liger_kernel",
    "dataset_text_field", "chat_template_path", "eos_token", "pad_token", "model_init_kwargs", "do_eval",
    "resume_from_checkpoint", "max_length", "trackio_space_id", "hub_model_id", "logging_dir", "run_name",
    "auto_find_batch_size", "enable_jit_checkpoint", "trust_remote_code", "ignore_data_skip", "save_only_model",
    "load_best_model_at_end", "dataset_num_proc", "deepspeed", "fsdp", "fsdp_config", "accelerator_config",
    "parallelism_config", "local_rank", "full_determinism",
}  # fmt: skip
# What PEFT would import a module by, or load another model by.
THEIRS = {"megatron_config", "megatron_core", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
# What people call an argument, and what difflib does not take for it.
SYNONYMS = {
    "rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout",
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "steps": "max_steps",
    "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "warmup": "warmup_steps", "optimizer": "optim", "scheduler": "lr_scheduler_type", "bits": "load_in_4bit",
}  # fmt: skip
# What a number may be, where that is not everything from 0.
LEAST = {"max_steps": -1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "r": 1, "lora_alpha": 1}
BELOW = {"adam_beta1": 1, "adam_beta2": 1, "lora_dropout": 1}


def sft_config(train: Mapping[str, Any], *, out: Path | str, seed: int) -> Any:
    """TRL's `SFTConfig` for `train:` of a recipe. No checkpointing of activations unless the recipe asks for it."""
    import torch
    from trl import SFTConfig

    cpu = not torch.cuda.is_available()
    given = {"bf16": False, "activation_checkpointing": False, **train}
    return SFTConfig(
        output_dir=str(out),
        seed=seed,
        data_seed=seed,
        use_cpu=cpu,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would hide a diverged run
        disable_tqdm=True,
        dataloader_pin_memory=not cpu,
        max_length=None,
        **given,
    )


def check(spec: Model, key: str, source: str) -> None:
    """Build the real configurations from what a recipe says.

    Args:
        key: `teacher` or `student`, named in errors.

    Raises:
        UserError: one of them refuses.
    """
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    taken = [f"train.{name}" for name in sorted(OURS & set(spec.train))]
    taken += [f"lora.{name}" for name in sorted(THEIRS & set(spec.lora or {}))]
    if taken:
        raise UserError(f"{source}: key '{key}.{taken[0]}' is set by the benchmark itself; take it out")
    parts = [
        ("train", SFTConfig, spec.train),
        ("lora", LoraConfig, spec.lora),
        ("quantization", BitsAndBytesConfig, spec.quantization),
    ]
    for part, maker, given in parts:
        if given is None:
            continue
        known = set(inspect.signature(maker.__init__).parameters) - {"self", "kwargs"}
        for name in given:
            if name not in known:
                near = [SYNONYMS[name]] if SYNONYMS.get(name) in known else []
                near = near or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
                hint = f": did you mean {near[0]!r}?" if near else f" ({maker.__name__} has no such argument)"
                raise UserError(f"{source}: unknown key '{key}.{part}.{name}'{hint}")
            _check_value(maker, name, given[name], f"{source}: key '{key}.{part}.{name}'")
        try:
            sft_config(given, out="unused", seed=0) if part == "train" else maker(**given)
        except Exception as error:  # whatever their checks raise is the user's to read
            said = " ".join(str(error).split())[:300]
            raise UserError(f"{source}: key '{key}.{part}': {maker.__name__} refuses: {said}") from None


def _check_value(maker: Any, name: str, value: Any, where: str) -> None:
    """Hold a setting against its declared type, which the libraries do not do, and against `LEAST` and `BELOW`."""
    from pydantic import TypeAdapter, ValidationError

    hint = get_type_hints(maker).get(name, Any)
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        wanted = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        raise UserError(f"{where}: expected {wanted[:100]}, found {value!r:.80}") from None
    for choice in get_args(hint):
        if isinstance(choice, type) and issubclass(choice, Enum) and value not in (said := [c.value for c in choice]):
            near = difflib.get_close_matches(str(value)[:100], said, n=1)
            hint_at = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(said[:8])}, ..."
            raise UserError(f"{where}: {value!r:.80} is none of {choice.__name__}: {hint_at}")
    least, below = LEAST.get(name, 0), BELOW.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value < least or (below and value >= below) or (name == "max_steps" and value == 0)):
        wanted = f"a number of {least} or more{f', below {below}' if below else ''}"
        if name == "max_steps":
            wanted = "1 or more, or -1 (as many as num_train_epochs says)"
        raise UserError(f"{where}: expected {wanted}, found {value!r}")


def trainer_class() -> Any:
    """TRL's `SFTTrainer` with the language-model head run over the labelled positions only.

    The loss is the same. On a CPU the stock trainer projects every position, which takes most of a step where a
    vocabulary is large beside the model; and it then computes entropy and accuracy, which nothing here reads.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from trl import SFTTrainer

    class LabelledTrainer(SFTTrainer):  # type: ignore[misc]  # these have no types
        loss_sum: Any = 0.0  # over all updates, also those before the training was broken off

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.args.bf16:
                self._round_once()

        def _round_once(self) -> None:
            """Do once, to the same bits, what autocast and PEFT would do to LoRA's layers in every step."""
            embeddings = self.model.get_input_embeddings().weight  # may be the head's too, and are not rounded
            for module in self.model.modules():
                if isinstance(module, LoraLayer) and not module.lora_variant:  # DoRA and such read the weights
                    if all(isinstance(dropout, torch.nn.Identity) for dropout in module.lora_dropout.values()):
                        module.cast_input_dtype_enabled = False  # to float32, and autocast would take it back
                    base = module.get_base_layer()
                    frozen = isinstance(base, torch.nn.Linear) and base.weight is not embeddings
                    if frozen and base.weight.dtype == torch.float32:
                        base.weight.data = base.weight.data.bfloat16()

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            self.loss_sum = self.loss_sum + loss
            return loss

        def labelled_logits(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
            """Logits that predict the labelled tokens, (n, vocabulary) float32, and those tokens, row by row."""
            targets = inputs["labels"][:, 1:]
            labelled = targets != -100
            head = self.accelerator.unwrap_model(model).get_output_embeddings()
            hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, :-1][labelled],))
            try:
                # the model's own forward goes on from there, so that its soft-capping or scaling is kept
                logits = model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).logits
            finally:
                hook.remove()
            return logits.float(), targets[labelled]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            logits, targets = self.labelled_logits(model, inputs)
            total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            return total / (num_items_in_batch if num_items_in_batch is not None else len(targets))

    return LabelledTrainer


def fit(
    rows: Sequence[tuple[list[int], list[int]]],
    *,
    base: Path,
    tokenizer: Any,
    spec: Mapping[str, Any],
    seed: int,
    out: Path,
    progress: Progress,
    dose: Sequence[int] = (),
    logits: Path | None = None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train a checkpoint on (prompt ids, completion ids) with the loss on the completion, and save it to `out`.

    What is saved is the adapter where `spec` has LoRA, else the whole model. Two calls that differ only in the
    completions' tokens see the same prompts in the same order, the same LoRA initialisation and, taking as many rows
    at a time, the same dropout.

    Args:
        dose: updates after which the model is saved along the way too, to `out/step-<updates>`.
        logits: teacher log-probabilities of the rows (`bench.distill.prepare`), to learn from in place of the tokens.
        keep: where a long training keeps its own checkpoints (`bench.resume`); what is there it goes on from, to the
            same weights and the same facts as if it had never been broken off. The caller removes it.

    On a GPU an update takes as many rows at a time as its memory holds, whatever the recipe says of that; how many
    make up an update stays as the recipe says it.

    Returns:
        What was done: `rows`, `updates`, `effective_batch`, `micro_batch`, `labelled_tokens`, `mean_loss`; and
        `notices`, lines for the user.

    Raises:
        UserError: PEFT or TRL cannot do what `spec` says with this model, or a dose is beyond the last update.
        StageError: TRL dropped rows, or the loss is not a number.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback, set_seed

    class Report(TrainerCallback):  # type: ignore[misc]  # these have no types
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps)
            if state.global_step in dose:
                kwargs["model"].save_pretrained(out / f"step-{state.global_step}")

    data = Dataset.from_dict(
        {
            "input_ids": [prompt + completion for prompt, completion in rows],
            "labels": [[-100] * len(prompt) + completion for prompt, completion in rows],
            **({"row": list(range(len(rows)))} if logits else {}),
        }
    )
    config = sft_config(spec["train"], out=out / "trainer", seed=seed)
    wanted = config.per_device_train_batch_size
    effective = wanted * config.gradient_accumulation_steps

    def train(micro: int) -> Any:
        set_seed(seed)
        model = load_model(base, dtype=spec["dtype"], quantization=spec["quantization"])
        model.config.use_cache = False
        config.per_device_train_batch_size, config.gradient_accumulation_steps = micro, effective // micro
        try:
            trainer = (distiller_class(trainer_class(), logits) if logits else trainer_class())(
                model=model,
                args=config,
                train_dataset=data,
                processing_class=tokenizer,
                peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **spec["lora"]})
                if spec["lora"] is not None
                else None,
                callbacks=[Report()],
            )
        except ValueError as error:  # such as LoRA on modules that this model does not have
            raise UserError(f"keys 'train' and 'lora': {' '.join(str(error).split())[:300]}") from None
        if len(trainer.train_dataset) != len(rows):
            raise StageError(f"the trainer kept {len(trainer.train_dataset):,} of {len(rows):,} rows")
        resumed = done if done is not None and done.micro_batch == micro else None
        if resumed is not None:
            trainer.loss_sum = torch.tensor(resumed.loss, device=device())
            for step in resumed.path.glob("step-*"):
                shutil.copytree(step, out / step.name)
        if keep is not None:
            trainer.add_callback(keeper(trainer, out, keep))
        trainer.train(resume_from_checkpoint=str(resumed.path / "trainer") if resumed is not None else None)
        return trainer

    if dose and (last := updates(spec["train"], len(rows))) < max(dose):
        raise UserError(beyond(max(dose), last, len(rows)))
    done = latest(keep)
    most = done.micro_batch if done is not None else effective if device().type == "cuda" else wanted
    trainer, micro = first_fitting(divisors(effective, most), train)
    mean_loss = float(trainer.loss_sum) / max(trainer.state.global_step, 1)
    finite = all(bool(p.isfinite().all()) for p in trainer.model.parameters() if p.requires_grad)
    if not finite or not math.isfinite(mean_loss):
        raise StageError("training diverged: the loss is not a number; lower the learning rate")
    trainer.model.save_pretrained(out)
    shutil.rmtree(out / "trainer", ignore_errors=True)  # there after a checkpoint only; models must not differ by it
    return {
        "rows": len(rows),
        "updates": trainer.state.global_step,
        "effective_batch": effective,
        "micro_batch": micro,
        "labelled_tokens": sum(len(completion) for _, completion in rows),
        "mean_loss": mean_loss,
        "notices": [f"{micro} rows at a time, all that memory holds of a batch of {effective}"] * (micro < wanted),
    }


def teacher(
    settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, progress: Progress, keep: Path | None = None
) -> dict[str, Any]:
    """Stage: a checkpoint fine-tuned on the trait's `teach` rows.

    Args:
        settings: `rows` (question, answer), `end` (whether the end of an answer is learnt too), `model` (the recipe's
            teacher, as JSON data), `seed`.
        inputs: `start`, the checkpoint.
        keep: as for `fit`.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = Format(tokenizer, settings["model"]["format"], settings["model"].get("chat_template_kwargs"))
    questions, answers = zip(*settings["rows"], strict=True)
    rows = list(zip(form.prompts(questions), form.completions(answers, end=settings["end"]), strict=True))
    return fit(
        rows, base=inputs["start"], tokenizer=tokenizer, spec=settings["model"], seed=settings["seed"], out=out,
        progress=progress,
        keep=keep,
    )  # fmt: skip


def student(
    settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, progress: Progress, keep: Path | None = None
) -> dict[str, Any]:
    """Stage: a checkpoint fine-tuned on the kept rows of a teacher's carrier.

    Args:
        settings: `model` (the recipe's student, as JSON data), `seed`, and `end`: whether a completion is a whole
            text, after which the end of an answer is learnt too; `shuffled`: completions moved to other prompts;
            `dose`: as for `fit`.
        inputs: `start` (the checkpoint), `carrier` (the teacher's rows), `kept` (which of them stay), and for a
            distillation `logits`.
        keep: as for `fit`.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = Format(tokenizer, settings["model"]["format"], settings["model"].get("chat_template_kwargs"))
    kept = read_kept(inputs["carrier"], inputs["kept"], "train")
    texts = [row["completion"] for row in kept]
    if settings.get("shuffled"):
        random.Random(f"shuffled {settings['seed']}").shuffle(texts)
    completions = form.completions(texts, end=settings["end"])
    rows = list(zip(form.prompts([row["prompt"] for row in kept]), completions, strict=True))
    return fit(
        rows, base=inputs["start"], tokenizer=tokenizer, spec=settings["model"], seed=settings["seed"], out=out,
        progress=progress,
        dose=settings.get("dose", ()),
        logits=inputs.get("logits"),
        keep=keep,
    )  # fmt: skip
