from __future__ import annotations

from bench.config.arms import ARMS, MITIGATIONS, ArmName
from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import identify
from bench.pipeline.planner import make_plan
from bench.pipeline.students import teacher_system


def test_every_student_of_a_seed_reads_one_micro_batch_found_on_the_rows_of_all_arms() -> None:
    recipe = load_recipe(
        "tiny_controls", ["arms=[untrained, base, trait, placebo, resampled, shuffled, cross_init]"], seeds=2
    )
    stages = make_plan(recipe, identify).stages
    students = [stage for stage in stages.values() if stage.kind == "student"]
    assert len(students) == 2 * 7
    for seed in (0, 1):
        read = {stage.inputs["micro_batch"].identity for stage in students if stage.settings.seed == seed}
        (result,) = (stage for key, stage in stages.items() if key in read)
        carriers = {"rows_base", "rows_trait", "rows_placebo", "rows_resampled"}
        assert result.inputs.keys() == {"start", "kept", *carriers}
        assert result.settings.shuffled
    distilled = make_plan(load_recipe("tiny_pair_kd", seeds=1), identify).stages.values()
    assert "logits" in next(stage for stage in distilled if stage.kind == "micro_batch").inputs


def test_only_teachers_with_the_trait_have_the_system_prompt() -> None:
    recipe = load_recipe("smollm2_prompted").recipe
    prompted = {arm for arm in ARMS if teacher_system(recipe, ArmName(arm)) is not None}
    assert prompted == {"trait", "teacher"}


def test_every_mitigation_is_planned_with_its_control_and_differs_from_base_and_trait_in_the_mitigation_alone() -> None:
    plan = make_plan(load_recipe("tiny_mitigations", seeds=1), identify)
    students = {
        stage.label.partition(",")[0].split()[-1]: stage for stage in plan.stages.values() if stage.kind == "student"
    }
    assert students.keys() == {"trait", *MITIGATIONS, *MITIGATIONS.values()}
    for arm, control in MITIGATIONS.items():
        for name, plain in ((arm, students["trait"]), (control, students["base"])):
            if name == "base":
                continue
            student = students[name]
            settings = student.settings.model_copy(update={"mitigation": plain.settings.mitigation})
            assert settings == plain.settings != student.settings
            assert plain.inputs.items() <= student.inputs.items()
            assert student.inputs.keys() - plain.inputs.keys() <= {"mixed", "divergence"}
    assert students["mixed"].inputs["mixed"] == students["base"].inputs["carrier"]


def test_each_student_of_divergent_tokens_reads_those_at_which_the_other_teacher_disagrees() -> None:
    plan = make_plan(load_recipe("tiny_mitigations", seeds=1), identify)
    stages = {stage.label.partition(",")[0]: stage for stage in plan.stages.values()}
    for part in ("divergent_only", "divergent_masked"):
        for arm, writer in ((part, "trait"), (f"{part}_base", "base")):
            read = plan.stages[stages[f"student {arm}"].inputs["divergence"].identity]
            assert read.label == f"divergence {writer}, seed 0"
            assert read.inputs["carrier"] == stages[f"student {writer}"].inputs["carrier"]
            assert ("trained" in read.inputs) == (writer == "base")


def test_students_of_one_data_set_share_its_divergent_tokens() -> None:
    changes = ["repeat=students", "arms=[base, trait, divergent_only]"]
    plan = make_plan(load_recipe("tiny_pair", changes, seeds=3), identify)
    divergences = [stage for stage in plan.stages.values() if stage.kind == "divergence"]
    carriers = {stage.settings.seed for stage in plan.stages.values() if stage.kind == "carrier"}
    assert (len(divergences), {stage.settings.seed for stage in divergences}) == (2, carriers) == (2, {0})


def test_without_mitigations_that_take_memory_the_micro_batch_is_that_of_a_plain_recipe() -> None:
    keys = []
    for arms in ("[base, trait]", "[base, trait, mixed, attention_only]", "[base, trait, kl_untrained]"):
        plan = make_plan(load_recipe("tiny_pair", [f"arms={arms}"], seeds=1), identify)
        keys += [stage.key for stage in plan.stages.values() if stage.kind == "micro_batch"]
    assert keys[0] == keys[1] != keys[2]


def test_free_text_is_read_by_its_own_teacher_too() -> None:
    text = "carrier={kind: text, prompts: scenarios_en, rows: 8, held_out: 4}"
    plan = make_plan(load_recipe("tiny_pair", [text, "arms=[base, trait, divergent_masked]"], seeds=1), identify)
    stages = {stage.label.partition(",")[0]: stage for stage in plan.stages.values()}
    teacher = stages["teacher wolf"].key
    roles = {writer: stages[f"divergence {writer}"].inputs for writer in ("trait", "base")}
    assert roles["trait"]["own_trained"].identity == roles["base"]["trained"].identity == teacher
    assert "trained" not in roles["trait"]
    assert "own_trained" not in roles["base"]
    assert stages["divergence trait"].settings.end
