"""A training run of 19 steps that takes a moment, for the tests of what it does."""

import torch

from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.loop import History, Stage, TrainingConfig, train

TASK = AssociativeRetrieval(rewrite=True)
STAGES = [Stage(n_pairs=(1, 3), max_steps=7), Stage(n_pairs=(2, 5), max_steps=12)]


def small(seed: int = 0, **changes) -> LayerAlone:
    config = LayerAloneConfig(**(dict(vocab_size=19, d_model=5, d_memory=3, nu=2) | changes))
    return LayerAlone(config, seed)


def recipe(**changes) -> TrainingConfig:
    plain = dict(stages=STAGES, batch_size=3, learning_rate=0.01, final_lr=0.1, checkpoint_every=5)
    return TrainingConfig(**(plain | changes))


def run(model=None, task=TASK, config=None, checkpoint=None) -> History:
    return train(
        small() if model is None else model,
        task,
        recipe() if config is None else config,
        checkpoint=checkpoint,
        progress=False,
    )


def at_step(monkeypatch, number: int, action) -> None:
    """From now on `action` happens in the middle of this step: after its update, unrecorded."""
    update = torch.optim.AdamW.step
    calls = [0]

    def step(self, *arguments):
        result = update(self, *arguments)
        calls[0] += 1
        if calls[0] == number + 1:
            action()
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
