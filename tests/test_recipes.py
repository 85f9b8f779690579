"""Recipes: what the caller changes is what the run gets, or an error."""

import pytest

from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.recipes import new_run

TASK = AssociativeRetrieval(rewrite=True)


def test_a_changed_setting_reaches_model_and_training():
    model, training = new_run("armt", TASK, attention_std=0.02, d_model=32, learning_rate=1e-4)
    assert (model.config.attention_std, model.config.d_model) == (0.02, 32)
    assert training.learning_rate == 1e-4


def test_attention_starts_at_the_scale_of_its_width():
    model, _ = new_run("armt", TASK, d_model=64)
    assert model.config.attention_std == 64**-0.5


@pytest.mark.parametrize(
    "setting", ["vocab_size", "segment_length", "stages", "system", "nonsense"]
)
def test_what_the_task_settles_or_nobody_knows_is_an_error(setting):
    with pytest.raises(ValueError, match=f"^{setting}: armt has no such setting; leave it out"):
        new_run("armt", TASK, **{setting: 8})


def test_a_recipe_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"^name: expected one of .*armt.*; got 'gpt'"):
        new_run("gpt", TASK)
