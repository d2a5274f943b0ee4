"""Check and build SFTConfig, LoraConfig and BitsAndBytesConfig from a recipe, and find the weights that they train."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from enum import Enum
from typing import Any, get_args, get_type_hints

from bench.config.model_settings import Model
from bench.errors import UserError
from bench.models.skeleton import SkeletonSource, build_skeleton
from bench.stages.mitigated_trainer import is_attention
from bench.stages.trainer import sft_config

__all__ = ["check_targets", "check_training"]

# The benchmark sets these: output folder, logging, seed and device.
RESERVED_SFT_KEYS = {
    "output_dir", "seed", "data_seed", "use_cpu", "report_to", "save_strategy", "logging_strategy", "disable_tqdm",
    "dataloader_num_workers", "eval_strategy", "logging_nan_inf_filter", "push_to_hub", "hub_token", "packing",
    "completion_only_loss", "loss_type", "label_smoothing_factor", "use_liger_kernel",
    "dataset_text_field", "chat_template_path", "eos_token", "pad_token", "model_init_kwargs", "do_eval",
    "resume_from_checkpoint", "max_length", "trackio_space_id", "hub_model_id", "logging_dir", "run_name",
    "auto_find_batch_size", "enable_jit_checkpoint", "trust_remote_code", "ignore_data_skip", "save_only_model",
    "load_best_model_at_end", "dataset_num_proc", "deepspeed", "fsdp", "fsdp_config", "accelerator_config",
    "parallelism_config", "local_rank", "full_determinism",
}  # fmt: skip


# PEFT would import a module or load another model because of these.
FORBIDDEN_LORA_KEYS = {
    "megatron_config",
    "megatron_core",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
}


# Common names of arguments that difflib does not match.
SYNONYMS = {
    "rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout",
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "steps": "max_steps",
    "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "warmup": "warmup_steps", "optimizer": "optim", "scheduler": "lr_scheduler_type", "bits": "load_in_4bit",
}  # fmt: skip


# The minimum is 0 for all other numbers.
MIN_VALUES = {
    "max_steps": -1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "r": 1,
    "lora_alpha": 1,
}


UPPER_BOUNDS = {"adam_beta1": 1, "adam_beta2": 1, "lora_dropout": 1}


def check_training(spec: Model, key: str, source: str) -> None:
    """Build the training configurations of a recipe's model, to find errors before the run.

    Args:
        spec: the recipe's model.
        key: `teacher` or `student`, for errors.
        source: the recipe, for errors.

    Raises:
        UserError: a key is unknown or reserved, or a configuration class refuses a value.
    """
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    reserved = [f"train.{name}" for name in sorted(RESERVED_SFT_KEYS & set(spec.train or {}))]
    reserved += [f"lora.{name}" for name in sorted(FORBIDDEN_LORA_KEYS & set(spec.lora or {}))]
    if reserved:
        raise UserError(f"{source}: key '{key}.{reserved[0]}' is set by the benchmark itself; take it out")
    parts = [
        ("train", SFTConfig, spec.train),
        ("lora", LoraConfig, spec.lora),
        ("quantization", BitsAndBytesConfig, spec.quantization),
    ]
    for part, maker, values in parts:
        if values is None:
            continue
        known = set(inspect.signature(maker.__init__).parameters) - {"self", "kwargs"}
        for name in values:
            if name not in known:
                near = [SYNONYMS[name]] if SYNONYMS.get(name) in known else []
                near = near or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
                hint = f": did you mean {near[0]!r}?" if near else f" ({maker.__name__} has no such argument)"
                raise UserError(f"{source}: unknown key '{key}.{part}.{name}'{hint}")
            _check_value(maker, name, values[name], f"{source}: key '{key}.{part}.{name}'")
        try:
            sft_config(values, out="unused", seed=0, dtype=spec.dtype) if part == "train" else maker(**values)
        except Exception as error:  # their checks raise errors of any type
            message = " ".join(str(error).split())[:300]
            raise UserError(f"{source}: key '{key}.{part}': {maker.__name__} refuses: {message}") from None


def check_targets(
    skeleton: SkeletonSource, lora: dict[str, Any] | None, *, attention_only: bool, key: str, source: str
) -> None:
    """Find the weights that a training changes, in the model without its weights.

    Args:
        skeleton: the model.
        lora: the recipe's `lora:`; None for a training of all weights.
        attention_only: whether only attention projections are trained.
        key: `teacher` or `student`, for errors.
        source: the recipe, for errors.

    Raises:
        UserError: PEFT finds no module of `lora`, or none of them is an attention projection.
    """
    from peft import LoraConfig, get_peft_model

    model = build_skeleton(skeleton)
    modules = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    if lora is not None:
        # these read weights, and choose no module
        plain = {"task_type": "CAUSAL_LM", **lora, "init_lora_weights": False, "use_dora": False}
        try:
            model = get_peft_model(model, LoraConfig(**plain))
        except ValueError as error:
            message = " ".join(str(error).split())[:200]
            choice = _last_parts(name for name in modules if "norm" not in name and "ln_" not in name)
            raise UserError(f"{source}: key '{key}.lora': PEFT refuses: {message} This model has {choice}") from None
    if attention_only and not any(w.requires_grad and is_attention(name) for name, w in model.named_parameters()):
        choice = _last_parts(filter(is_attention, modules)) or "a model that has them"
        found = (lora or {}).get("target_modules", "all weights")
        raise UserError(
            f"{source}: key '{key}.lora.target_modules': attention_only trains attention projections alone; expected "
            f"one or more of {choice}, found {found!r:.100}; add one, or take attention_only out of arms"
        )


def _last_parts(names: Iterable[str]) -> str:
    """List the last parts of modules' names, each once."""
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))


def _check_value(maker: Any, name: str, value: Any, context: str) -> None:
    """Check a value against its declared type, which the libraries do not check, and its bounds."""
    from pydantic import TypeAdapter, ValidationError

    hint = get_type_hints(maker).get(name, Any)
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        expected = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        raise UserError(f"{context}: expected {expected[:100]}, found {value!r:.80}") from None
    for choice in get_args(hint):
        if isinstance(choice, type) and issubclass(choice, Enum) and value not in (values := [c.value for c in choice]):
            near = difflib.get_close_matches(str(value)[:100], values, n=1)
            hint_at = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(values[:8])}, ..."
            raise UserError(f"{context}: {value!r:.80} is not a value of {choice.__name__}: {hint_at}")
    minimum, bound = MIN_VALUES.get(name, 0), UPPER_BOUNDS.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value < minimum or (bound and value >= bound) or (name == "max_steps" and value == 0)):
        expected = f"a number of {minimum} or more{f', below {bound}' if bound else ''}"
        if name == "max_steps":
            expected = "1 or more, or -1 (num_train_epochs decides)"
        raise UserError(f"{context}: expected {expected}, found {value!r}")
