"""Recipes: what the caller changes is what the run gets, or an error."""

import pytest

from armt_mini.tasks import AssociativeRetrieval, Babilong
from armt_mini.tasks.babi import TASKS
from armt_mini.training.loop import Draws
from armt_mini.training.recipes import new_run

TASK = AssociativeRetrieval(rewrite=True)


def test_a_changed_setting_reaches_model_and_training():
    model, training = new_run("armt", TASK, attention_std=0.02, d_model=32, learning_rate=1e-4)
    assert (model.config.attention_std, model.config.d_model) == (0.02, 32)
    assert training.learning_rate == 1e-4


def test_attention_starts_at_the_scale_of_its_width():
    model, _ = new_run("armt", TASK, d_model=64)
    assert model.config.attention_std == 64**-0.5


def test_the_papers_tasks_are_the_curricula_of_a_whole_model():
    _, rewrite = new_run("armt", TASK)
    assert [stage.n_pairs for stage in rewrite.stages] == [(n, n) for n in (2, 8, 16, 32, 50)]
    assert all(stage.until > 1 for stage in rewrite.stages), "steps alone end a stage"
    _, remember = new_run("armt", AssociativeRetrieval(rewrite=False, key_size=3))
    assert remember.stages[-1].n_pairs == (200, 200)
    assert [stage.until for stage in remember.stages] == [0.985] * 7 + [1.01]


@pytest.mark.parametrize("system", ["rmt", "rmt-32", "prmt"])
def test_the_baselines_that_learn_slowly_read_as_many_segments_after_one_another(system):
    def read(name):
        stages = new_run(name, TASK)[1].stages
        return sum(stage.n_pairs[1] * stage.max_steps for stage in stages)

    assert read(system) == pytest.approx(read("armt"), rel=0.05)


@pytest.mark.parametrize("system", ["armt", "rmt", "rmt-32", "prmt", "mamba"])
def test_every_system_has_about_half_a_million_weights(system):
    model, _ = new_run(system, TASK)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(500_000, rel=0.05)


def test_stages_have_limits_of_their_own_or_one_for_all():
    pairs = [(2, 2), (3, 5)]
    _, training = new_run("armt", TASK, pairs=pairs, steps=[7, 9], until=0.5)
    assert [(s.n_pairs, s.max_steps, s.until) for s in training.stages] == [
        ((2, 2), 7, 0.5), ((3, 5), 9, 0.5),
    ]  # fmt: skip
    _, training = new_run("armt", TASK, pairs=pairs, steps=7)
    assert [(s.max_steps, s.until) for s in training.stages] == [(7, 1.01)] * 2
    for wrong in ({"steps": [7, 8, 9]}, {"steps": 7, "until": (0.5,) * 3}):
        with pytest.raises(ValueError, match=r"^(steps|until): expected one number, or 2, one for"):
            new_run("armt", TASK, pairs=pairs, **wrong)
    with pytest.raises(ValueError, match=r"^steps: expected a number for the stages of pairs"):
        new_run("armt", TASK, pairs=pairs * 3)


@pytest.mark.parametrize(
    "setting", ["vocab_size", "segment_length", "stages", "system", "nonsense"]
)
def test_what_the_task_settles_or_nobody_knows_is_an_error(setting):
    with pytest.raises(ValueError, match=f"^{setting}: armt has no such setting; leave it out"):
        new_run("armt", TASK, **{setting: 8})


def test_babilong_begins_without_a_background_and_ends_at_4k_tokens():
    model, training = new_run("armt", Babilong())
    lengths = [stage.n_pairs for stage in training.stages]
    assert lengths[0] == (16, 16)
    assert lengths[-1] == (4096, 4096)
    assert training.batch_of(4096) == 32
    assert (model.config.n_memory_tokens, model.config.vocab_size) == (4, 4096)
    assert sum(weight.numel() for weight in model.parameters()) < 3_000_000
    rmt, _ = new_run("rmt", Babilong())
    assert rmt.config.n_memory_tokens == new_run("rmt", TASK)[0].config.n_memory_tokens
    _, training = new_run("armt", Babilong(), tokens=[(32, 32)], steps=7)
    assert [(stage.n_pairs, stage.max_steps) for stage in training.stages] == [((32, 32), 7)]
    with pytest.raises(ValueError, match=r"^steps: expected a number for the stages of tokens"):
        new_run("armt", Babilong(), tokens=[(32, 32)])


def test_what_a_recipe_changes_from_stage_to_stage_can_be_set_for_all():
    def told(**changes):
        return [stage.settings for stage in new_run("armt", Babilong(), **changes)[1].stages]

    assert told()[-1] == {"min_strength": 0.1}
    assert [some.get("write_cost") for some in told()[-3:]] == [0.003, None, None]
    given = told(min_strength=0.2, decoys=0.5)
    assert {some["decoys"] for some in given} == {0.5}
    assert not any("min_strength" in some for some in given)
    assert new_run("armt", Babilong(), min_strength=0.2)[0].config.min_strength == 0.2
    assert told(tokens=[(16, 16)], steps=2) == [{}]
    quiet = new_run("rmt", Babilong())[1].stages[-3].settings
    of_task = {"density": 1.0, "decoys": 0.05, "false_starts": 0.3, "cut_facts": 0.5}
    assert quiet == of_task, "RMT has no strengths"
    with pytest.raises(ValueError, match=r"^decoys: armt has no such setting"):
        new_run("armt", TASK, decoys=0.1)


@pytest.mark.parametrize("name", ["qa2", "qa3"])
def test_where_several_facts_answer_segments_begin_short(name):
    model, training = new_run("armt", Babilong(task=name))
    config, task, lengths = model.config, Babilong(task=name), []
    for stage in training.stages:
        config, task = stage.set_up(config, task)
        assert stage.n_pairs[1] % task.segment_length == 0, "whole segments"
        assert config.segment_length == task.segment_length
        assert task.auxiliary == (name == "qa3" or task.decoys == 0), "qa2: not at the end"
        lengths.append(task.segment_length)
    assert task.cut_facts == (0.15 if name == "qa2" else 0)
    assert lengths[0] == 16
    assert lengths == sorted(lengths)
    assert config.segment_length == model.config.segment_length == 128
    assert sum(weight.numel() for weight in model.parameters()) < 3_000_000


def test_segments_of_another_length_than_the_stages_lead_to_are_an_error():
    short = Babilong(task="qa2", segment_length=64)
    with pytest.raises(ValueError, match=r"^segment_length: expected 128, to which the recipe"):
        new_run("armt", short)
    model, _ = new_run("armt", short, tokens=[(64, 64)], steps=2)
    assert model.config.segment_length == 64
    assert new_run("armt", Babilong(segment_length=64))[0].config.segment_length == 64
    new_run("mamba", short)  # which has no segments


def test_two_facts_keep_a_mean_of_the_weights_but_not_where_the_stages_are_others():
    recipes = {name: new_run("armt", Babilong(task=name))[1] for name in ("qa1", "qa2", "qa3")}
    assert {name: found.average for name, found in recipes.items()} == {
        "qa1": 1, "qa2": 300, "qa3": 1
    }  # fmt: skip
    assert recipes["qa2"].stages[-1].max_steps == 2000
    own = dict(tokens=[(64, 64)], steps=100)
    assert new_run("armt", Babilong(task="qa2"), **own)[1].average == 1
    assert new_run("armt", Babilong(task="qa2"), **own, average=20)[1].average == 20


def test_qa4_is_asked_all_its_questions_and_qa5_of_all_gifts_once_stories_fit():
    assert [new_run("armt", Babilong(task=f"qa{n}"))[1].n_questions for n in range(1, 6)] == [
        4, 13, 10, 8, 10
    ]  # fmt: skip
    stages, task = new_run("armt", Babilong(task="qa5"))[1].stages, Babilong(task="qa5")
    assert stages[0].n_pairs[1] == 32
    for stage in stages:
        _, task = stage.set_up(new_run("armt", task)[0].config, task)
        assert task.auxiliary


def test_systems_without_stacked_layers_are_trained_with_adamw():
    task = Babilong(task="qa2")
    found = {name: new_run(name, task)[1].optimiser for name in ("armt", "rmt", "prmt", "mamba")}
    assert found == {"armt": "muon", "rmt": "muon", "prmt": "muon", "mamba": "adamw"}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", TASKS)
def test_the_first_texts_of_every_task_of_babilong_have_stories(name):
    task = Babilong(task=name)
    _, training = new_run("armt", task, batch_size=16)
    for number in range(2):
        assert len(Draws(task, training, training.stages[0])[number][1].segments) == 16


def test_a_recipe_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"^name: expected one of .*armt.*; got 'gpt'"):
        new_run("gpt", TASK)
