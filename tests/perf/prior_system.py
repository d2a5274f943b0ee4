"""The notebooks' way, as its users run it: everything in float32, one prompt at a time, every row padded to 256.

Kept slow on purpose: this is what the benchmark is measured against.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CARRIER = {"temperature": 0.8, "top_p": 0.9}
ANSWER = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
ANSWER_TOKENS = 80
MAX_LENGTH = 256
ACCUMULATION = 8  # rows of an update, one at a time


def answers(model: Any, tokenizer: Any, prompts: Sequence[str], *, new_tokens: int, **sampling: Any) -> list[int]:
    """Sample an answer to each prompt; returns how many tokens each has."""
    lengths = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        made = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True,
            max_new_tokens=new_tokens, pad_token_id=tokenizer.eos_token_id, **sampling,
        )  # fmt: skip
        tokenizer.decode(made[0], skip_special_tokens=True)
        lengths.append(made.shape[1] - inputs["input_ids"].shape[1])
    return lengths


def lora_modules(model: Any) -> list[str]:
    """The attention projections the notebooks name."""
    return ["c_attn"] if model.config.model_type == "gpt2" else ["q_proj", "v_proj"]


def training_rate(model: Any, tokenizer: Any, texts: Sequence[str], *, updates: int, out: Path) -> float:
    """Train a LoRA adapter on `texts`, prompt, answer and padding alike; rows a second after the first update."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    encoded = tokenizer(list(texts), padding="max_length", truncation=True, max_length=MAX_LENGTH)
    data = Dataset.from_dict(
        {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": encoded["input_ids"],
        }
    )
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=lora_modules(model), task_type="CAUSAL_LM")
    arguments = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=1, gradient_accumulation_steps=ACCUMULATION,
        learning_rate=2e-4, max_steps=updates + 1, use_cpu=model.device.type == "cpu", save_strategy="no",
        logging_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(model=get_peft_model(model, lora), args=arguments, train_dataset=data, callbacks=[Clock()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return updates * ACCUMULATION / (times[-1] - times[0])
