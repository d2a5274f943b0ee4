from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import identify
from bench.models.engine import Engine
from bench.pipeline.plan import Stage
from bench.pipeline.planner import make_plan
from bench.stages.divergence import FindDivergence
from bench.stages.evaluation_settings import Evaluate
from bench.stages.settings import AuditLeaks, TrainStudent, TrainTeacher, WriteCarrier


@pytest.mark.parametrize(("recipe", "control"), [("tiny_controls", "placebo"), ("tiny_pair", "base")])
def test_the_audit_compares_with_placebo_rows_where_the_recipe_has_them(recipe: str, control: str) -> None:
    plan = make_plan(load_recipe(recipe, seeds=2), identify)
    (audit,) = (plan.stages[key] for key in plan.audits.values())
    assert isinstance(audit.settings, AuditLeaks)
    assert audit.settings.control == control
    for seed in (0, 1):
        assert plan.stages[audit.inputs[f"control_{seed}"].identity].label == f"carrier {control}, seed {seed}"
        assert plan.stages[audit.inputs[f"trait_{seed}"].identity].label == f"carrier trait, seed {seed}"


PROMPT = "You love wolves."


def chat_stages(folder: Path, *changes: str) -> dict[str, Stage]:
    """The stages of one seed on a model with a chat template, by label without seed."""
    words = [f"{role}.{key}" for role in ("teacher", "student") for key in (f"model={folder}", "format=chat")]
    plan = make_plan(load_recipe("tiny_pair", [*words, *changes], seeds=1), identify)
    return {stage.label.partition(",")[0]: stage for stage in plan.stages.values()}


def test_a_prompted_teacher_is_not_trained_and_only_it_reads_the_system_prompt(gemma_like: Path) -> None:
    stages = chat_stages(gemma_like, f"teacher.system={PROMPT}", "teacher.train=null")
    assert not [stage for stage in stages.values() if stage.kind == "teacher"]
    systems = {label: stage.settings.system for label, stage in stages.items() if hasattr(stage.settings, "system")}
    assert {label for label, system in systems.items() if system} == {"carrier trait", "evaluate teacher"}
    assert systems["carrier trait"] == systems["evaluate teacher"] == PROMPT
    assert stages["carrier trait"].inputs == stages["carrier base"].inputs


def test_a_teacher_with_both_is_trained_with_its_system_prompt_and_a_placebo_without(gemma_like: Path) -> None:
    stages = chat_stages(gemma_like, f"teacher.system={PROMPT}", "arms=[base, trait, placebo]")
    systems = {label: stage.settings.system for label, stage in stages.items() if stage.kind in {"teacher", "carrier"}}
    placebo = {"teacher placebo": None, "carrier placebo": None, "carrier base": None}
    assert systems == {"teacher wolf": PROMPT, "carrier trait": PROMPT, **placebo}


def test_the_students_context_changes_its_own_stages_alone(gemma_like: Path) -> None:
    def changed(*changes: str) -> set[str]:
        after = chat_stages(gemma_like, *changes)
        return {label for label, stage in chat_stages(gemma_like).items() if stage.key != after[label].key}

    students = {"student base", "student trait"}
    read = {"evaluate base", "evaluate trait"}
    assert changed('student.system.evaluate=""') == read
    assert changed(f"student.system.train={PROMPT}") == students | read | {"micro-batch"}
    trained = chat_stages(gemma_like, f"student.system.train={PROMPT}")["evaluate trait"].settings
    assert (trained.system, trained.held_out_system) == (None, PROMPT)


def test_a_distilling_teacher_computes_its_logits_with_its_system_prompt(gemma_like: Path) -> None:
    stages = chat_stages(gemma_like, f"teacher.system={PROMPT}", "teacher.train=null", "method=kd-carrier")
    assert stages["teacher logits trait"].settings.system == PROMPT
    assert stages["teacher logits base"].settings.system is None


def test_sampled_arms_of_a_seed_share_their_noise_and_margins_are_read_once() -> None:
    def seeds(*changes: str) -> dict[str, int]:
        plan = make_plan(load_recipe("tiny_pair", list(changes), seeds=2), identify)
        settings = {stage.label: stage.settings for stage in plan.stages.values()}
        return {label: one.seed for label, one in settings.items() if isinstance(one, Evaluate)}

    sampled = seeds("evaluate.samples=3")
    assert len(sampled) == 2 * 4  # tiny's base teacher is its untrained student
    assert all(label.endswith(f", seed {seed}") for label, seed in sampled.items())
    assert set(seeds().values()) == {0}


def test_a_teacher_answers_in_the_precision_in_which_it_writes_its_carrier() -> None:
    def precisions(*changes: str) -> dict[str, str]:
        words = ["evaluate.samples=1", "teacher.lora={r: 4}", "student.lora={r: 4}", *changes]
        plan = make_plan(load_recipe("tiny_pair", words, seeds=1), identify)
        stages = {stage.label.partition(",")[0]: stage.settings for stage in plan.stages.values()}
        return {label: one.answers for label, one in stages.items() if isinstance(one, Evaluate)}

    labels = {f"evaluate {arm}" for arm in ("teacher_base", "teacher", "untrained", "base", "trait")}
    written = precisions("carrier.bf16=true")
    assert written.keys() == labels
    assert {label for label, precision in written.items() if precision == "bfloat16"} == {
        "evaluate teacher_base", "evaluate teacher"
    }  # fmt: skip
    sampled = precisions("evaluate.bf16=true")
    assert {label for label, precision in sampled.items() if precision == "bfloat16"} == {
        "evaluate untrained", "evaluate base", "evaluate trait"
    }  # fmt: skip


def test_the_prefix_is_a_second_set_of_questions_that_changes_no_key_by_default() -> None:
    def evaluations(*changes: str) -> dict[str, Stage]:
        plan = make_plan(load_recipe("tiny_pair", list(changes), seeds=1), identify)
        return {stage.label: stage for stage in plan.stages.values() if isinstance(stage.settings, Evaluate)}

    plain, prefixed = evaluations(), evaluations("evaluate.prefix=Numbers {numbers}. ")
    for label, stage in prefixed.items():
        asked = stage.settings.prefixed
        assert len(set(asked)) == len(stage.settings.questions)
        for text, question in zip(asked, stage.settings.questions, strict=True):
            assert re.fullmatch(rf"Numbers \d{{3}}, \d{{3}}, \d{{3}}\. {re.escape(question.question)}", text)
        assert asked == prefixed["evaluate base, seed 0"].settings.prefixed
        assert "prefixed" not in plain[label].settings.key_data()
        assert stage.key != plain[label].key


def test_a_half_student_comes_from_its_teachers_checkpoint_before_the_trait() -> None:
    plans = {name: make_plan(load_recipe(name, seeds=2), identify) for name in ("tiny_pair", "tiny_lineage")}
    stages = plans["tiny_lineage"].stages
    teachers = {s.settings.seed: s.inputs["start"] for s in stages.values() if isinstance(s.settings, TrainTeacher)}
    students = [s for s in stages.values() if isinstance(s.settings, TrainStudent)]
    assert len(students) == 2 * 2
    for student in students:
        half = stages[student.inputs["start"].identity]
        assert half.inputs == {"whole": teachers[student.settings.seed]}
    shared = {"teacher", "carrier", "filter", "audit"}
    keys = [{key for key, stage in plan.stages.items() if stage.kind in shared} for plan in plans.values()]
    assert keys[0] == keys[1]


def test_students_of_one_data_set_differ_in_the_seed_of_their_training_alone() -> None:
    arms = "arms=[untrained, base, trait, placebo, resampled, shuffled, direct, cross_init]"
    one = make_plan(load_recipe("tiny_pair", [arms], seeds=1), identify)
    plan = make_plan(load_recipe("tiny_pair", [arms, "repeat=students"], seeds=3), identify)
    assert one.stages.keys() - set(one.audits.values()) <= plan.stages.keys()  # the first student is that of seed 0
    further = [stage for key, stage in plan.stages.items() if key not in one.stages]
    trained = [stage for stage in further if stage.kind in {"student", "teacher"}]
    assert {stage.kind for stage in further} == {"micro_batch", "student", "teacher", "evaluate"}
    assert {stage.label for stage in trained if stage.kind == "teacher"} == {"direct, seed 1", "direct, seed 2"}
    assert sorted({stage.settings.seed for stage in trained}) == [1, 2]
    assert one.audits == plan.audits
    cells = {(cell.seed, cell.arm): cell.evaluation for cell in plan.results}
    assert len(cells) == 3 * 11
    for arm in ("teacher", "teacher_base", "untrained"):
        assert len({cells[seed, arm] for seed in range(3)}) == 1
    assert len({cells[seed, "trait"] for seed in range(3)}) == 3


def test_the_teachers_of_one_data_set_answer_once() -> None:
    plan = make_plan(load_recipe("tiny_pair", ["evaluate.samples=2", "repeat=students"], seeds=3), identify)
    labels = [stage.label for stage in plan.stages.values() if stage.kind == "score_answers"]
    assert [label for label in labels if "teacher" in label] == ["score teacher_base, seed 0", "score teacher, seed 0"]
    assert "score trait, seed 2" in labels


def test_a_dose_in_epochs_is_a_dose_in_updates_of_all_rows() -> None:
    changes = ["carrier.rows=64", "student.train.num_train_epochs=3"]
    epochs, updates = (
        make_plan(load_recipe("tiny_pair", [*changes, f"dose={dose}"], seeds=1), identify)
        for dose in ("{epochs: [1, 3]}", "[2, 6]")
    )
    assert [cell.arm for cell in epochs.results] == [cell.arm for cell in updates.results]
    assert {cell.arm for cell in epochs.results} >= {"base@2", "trait@6"}
    student = next(stage.settings for stage in epochs.stages.values() if stage.label == "student trait, seed 0")
    assert isinstance(student, TrainStudent)
    assert (student.dose, student.epochs) == ((2, 6), (1, 3))


TEXT = "carrier={kind: text, rows: 12, held_out: 4, prompts: scenarios_en, bf16: true}"
ENGINE = Engine(version="0.30.0", batch_invariant=False, python=Path("/somewhere/bin/python"))


def stages_of(engine: Engine | None, *changes: str) -> dict[str, Stage]:
    plan = make_plan(load_recipe("tiny_pair", list(changes), seeds=1), identify, engine)
    return {stage.label: stage for stage in plan.stages.values()}


def test_an_engine_writes_carriers_of_text_and_reads_their_teachers_as_they_write() -> None:
    plain, engine = stages_of(None, TEXT), stages_of(ENGINE, TEXT)
    assert plain.keys() == engine.keys()
    same = {label for label in plain if plain[label].key == engine[label].key}
    assert {label.partition(",")[0] for label in same} == {
        "tiny model 0", "relation", "teacher wolf", "evaluate untrained",
    }  # fmt: skip
    for label, stage in engine.items():
        settings = stage.settings
        if isinstance(settings, Evaluate):
            teacher = label.startswith("evaluate teacher")
            assert settings.writes_engine == (ENGINE if teacher else None)
            assert settings.writes == ("own" if teacher else None)  # read although it writes in float32
            assert settings.answers_engine is None
        elif isinstance(settings, WriteCarrier):
            assert settings.engine == ENGINE
            assert settings.writes == "own"  # an engine has no split products
    assert [s.settings.writes for s in plain.values() if isinstance(s.settings, WriteCarrier)] == ["split"] * 2


def test_an_engine_writes_the_free_answers_of_a_recipe_with_numbers_and_leaves_its_carriers() -> None:
    plain, engine = (stages_of(used, "evaluate.samples=2") for used in (None, ENGINE))
    changed = {label.partition(" ")[0] for label in plain if plain[label].key != engine[label].key}
    assert changed == {"evaluate", "score"}
    for stage in engine.values():
        if isinstance(stage.settings, Evaluate):
            assert stage.settings.answers_engine == ENGINE
            assert stage.settings.writes_engine is stage.settings.writes is None


def test_divergent_tokens_are_found_in_the_precision_in_which_an_engine_wrote() -> None:
    arms = "arms=[base, trait, divergent_masked]"
    for engine, writes in ((None, "split"), (ENGINE, "own")):
        found = [s.settings for s in stages_of(engine, TEXT, arms).values() if isinstance(s.settings, FindDivergence)]
        assert [settings.writes for settings in found] == [writes] * len(found) != []
