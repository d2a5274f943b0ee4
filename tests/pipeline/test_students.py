from __future__ import annotations

from bench.config.arms import ARMS, ArmName
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
