"""Systems to train by name, and for each a recipe that trains it from scratch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from armt_mini.baselines.layer_alone import LayerAlone
from armt_mini.checks import check_at_least, check_one_of
from armt_mini.segment_recurrence import SegmentRecurrence
from armt_mini.tasks import AssociativeRetrieval, Babilong, Task
from armt_mini.tasks.associative_retrieval import VOCAB_SIZE
from armt_mini.tasks.background import VOCAB_SIZE as TEXT_VOCAB_SIZE
from armt_mini.training.checkpoints import SYSTEMS
from armt_mini.training.loop import Stage, TrainingConfig

# Stages: pairs or tokens of a sample (fewest, most), most steps, the accuracy at which one ends.
NEVER = 1.01
REWRITE: dict[str, Any] = {
    "pairs": [(2, 2), (8, 8), (16, 16), (32, 32), (50, 50)],
    "steps": [400, 120, 80, 80, 2600],
    "until": NEVER,
}
REMEMBER: dict[str, Any] = {
    "pairs": [(n, n) for n in (2, 4, 8, 16, 32, 64, 100, 200)],
    "steps": [2000, 400, 400, 300, 300, 300, 300, 900],
    "until": [0.985] * 7 + [NEVER],
}
# RMT and PRMT leave the plateau after thousands of steps of many samples, and climb step by step
# (LOG.md). On Rewrite they read as many segments one after another as the others, each in four
# times as many samples. On Remember they end at 50 pairs as well: PRMT has half of them right by
# then, RMT is not tried.
SMALL_STEPS: dict[str, Any] = {
    "pairs": [(n, n) for n in (2, 3, 4, 6, 8, 12, 16, 24, 32, 50)],
    "steps": [4000, 1500, 1000, 800, 800, 800, 800, 600, 500, 1000],
    "until": [0.98] * 9 + [NEVER],
    "batch_size": 256, "n_questions": 16, "warmup": 1000, "n_memory_tokens": 16, "d_mlp": 224,
}  # fmt: skip
# Every other name is a field of the model's configuration or of TrainingConfig. Whole models get
# larger initial scales than GPT-2's: with those they stay on a plateau at two pairs (LOG.md).
WHOLE_MODEL: dict[str, Any] = {
    "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 1e-3, "final_lr": 0.02,
    "d_model": 128, "d_mlp": 128, "n_layers": 4, "n_heads": 8, "n_memory_tokens": 1,
    "embedding_std": 0.5, "tied_head": False,
}  # fmt: skip
WHOLE_ARMT: dict[str, Any] = WHOLE_MODEL | {
    "system": "armt", "d_memory": 32,
    "value_std": 0.05, "memory_norm": True, "unit_features": True, "eps": 1e-3,
}  # fmt: skip
# In the last stages of BABILong a model learns to leave its memories alone where a text holds
# nothing new, and at last to do with a higher threshold than it learned that with.
QUIET = {
    "density": 1.0, "decoys": 0.05, "false_starts": 0.3,
    "write_cost": 0.003, "min_strength": 0.03,
}  # fmt: skip
# It begins with stories that stand alone and grows the text around them: where there is much text
# from the start, a model never learns more than to guess a place that it has seen. Large samples
# and a shared head leave all plateaus sooner (LOG.md). Cut facts keep it from ignoring one that a
# border cuts. The last stage is long, for there the learning rate falls.
BABILONG: dict[str, Any] = {
    "tokens": [(2**n, 2**n) for n in (4, 5, 6, 7, 8, 9, 10, 10, 12, 12)],
    "steps": [4000, 1500, 1500, 1500, 1500, 1500, 1000, 400, 600, 2400],
    "until": [0.985] * 7 + [NEVER] * 3,
    "settings": [
        {}, {}, {"density": 0.5}, {"density": 0.25}, {}, {}, {},
        QUIET | {"cut_facts": 0.5}, {}, {"min_strength": 0.1},
    ],
    "batch_size": 256, "most_read": 2**17, "n_questions": 4, "warmup": 100, "final_lr": 0.05,
    "d_mlp": 512, "tied_head": True, "final_gain": 0.04,
}  # fmt: skip
# Where an answer follows from several facts, segments begin so short that those stand in several
# of them, and attention alone cannot join them. All else that the same facts answer is asked as
# well, of four people and twice of three things: so the plateau is left four times sooner. After it
# Muon gets further than AdamW. Then segments grow, with four facts in each, and with two. qa2 is
# also asked who got a thing, and at the end its own questions alone, and gains by it; qa3 would
# forget what it is not asked. Cut facts in half of the texts cost qa2 more than they bring, so it
# has fewer. Its last stage is longer, and keeps a mean of its weights, which errs less than the
# last of them (LOG.md).
SEVERAL_FACTS: dict[str, Any] = {
    "tokens": [(n, n) for n in (64, 256, 1024, 4096, 4096, 4096)],
    "steps": [4000, 1500, 1500, 1500, 1000, 800],
    "until": [0.98] * 3 + [NEVER] * 3,
    "settings": [
        {"segment_length": 16, "auxiliary": True},
        {},
        {"segment_length": 64, "density": 0.5},
        {"segment_length": 128, "density": 0.125},
        QUIET,
        {"min_strength": 0.1},
    ],
    "optimiser": "muon", "n_questions": 10, "n_layers": 6, "d_mlp": 256,
}  # fmt: skip
QA2_SETTINGS: list[dict[str, Any]] = [
    *SEVERAL_FACTS["settings"][:4],
    QUIET | {"auxiliary": False, "cut_facts": 0.15}, {"min_strength": 0.1},
]  # fmt: skip
# qa5 asks of the latest gift only, and the order in which its questions come hides some of them.
# So all gifts that were told are asked for, and all forms of the questions, from the stage on that
# is long enough for a story.
OF_TASK: dict[str, dict[str, Any]] = {
    "qa2": SEVERAL_FACTS | {
        "steps": [*SEVERAL_FACTS["steps"][:-1], 2000], "average": 300,
        "settings": QA2_SETTINGS, "n_questions": 13,
    },
    "qa3": SEVERAL_FACTS,
    "qa4": {"n_questions": 8},
    "qa5": {
        "until": [0.97] * 7 + [NEVER] * 3, "n_questions": 10,
        "settings": [{}, {"auxiliary": True}, *BABILONG["settings"][2:]],
    },
}  # fmt: skip
# Of BABILong, which a recipe may change from stage to stage.
TASK_SETTINGS = {"auxiliary", "decoys", "false_starts", "cut_facts", "density"}
SHORTEST = {"qa2": 32, "qa3": 64, "qa5": 32}  # tokens, below which hardly a story fits
TEXT_MEMORY_TOKENS = 4  # at least: a segment may hold several facts
LAYER_ALONE: dict[str, Any] = {
    "system": "layer-alone", "d_model": 32, "d_memory": 8,
    "pairs": [(2, 16)], "steps": 800, "until": NEVER,
    "batch_size": 32, "learning_rate": 1e-2, "weight_decay": 0.3, "final_lr": 0.02,
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "armt": WHOLE_ARMT | {"rule": "gamma"},
    "armt-no-gamma": WHOLE_ARMT | {"rule": "delta"},
    "armt-additive": WHOLE_ARMT | {"rule": "additive"},
    "armt-gamma-erase": WHOLE_ARMT | {"rule": "gamma_erase"},
    "armt-deltanet": WHOLE_ARMT | {"rule": "deltanet"},
    "armt-fading": WHOLE_ARMT | {"rule": "gamma", "retention": 0.99},
    "armt-deltanet-fading": WHOLE_ARMT | {"rule": "deltanet", "retention": 0.99},
    "rmt": WHOLE_MODEL | SMALL_STEPS | {"system": "rmt"},
    "rmt-32": WHOLE_MODEL | SMALL_STEPS | {"system": "rmt", "n_memory_tokens": 32},
    "prmt": WHOLE_MODEL | SMALL_STEPS | {"system": "prmt"},
    "mamba": WHOLE_MODEL | {"system": "mamba", "d_state": 32},
    "layer-alone": LAYER_ALONE | {"rule": "gamma"},
    "layer-alone-no-gamma": LAYER_ALONE | {"rule": "delta"},
}


def new_run(
    name: str, task: Task, seed: int = 0, **changes: Any
) -> tuple[nn.Module, TrainingConfig]:
    """An untrained model and the training of it, by RECIPES[name].

    changes: settings that differ from the recipe, in all stages. Stages are described by pairs, or
    in BABILong by tokens, a list of (fewest, most), and by steps and until, a number for all of
    them or a list; the recipe's own are those that the task fits, and where they change settings,
    so do those. seed: of the weights and of the samples.
    Raises ValueError for a setting that this system does not have, and for numbers that do not fit.
    """
    check_one_of("name", name, tuple(RECIPES))
    model_type, config_type = SYSTEMS[RECIPES[name]["system"]]
    if isinstance(task, Babilong):
        if model_type is LayerAlone:
            raise ValueError(f"system: {name} reads no text, only pairs; use a whole model.")
        vocab_size, segment_length, of_task = TEXT_VOCAB_SIZE, task.segment_length, TASK_SETTINGS
        recipe = RECIPES[name] | BABILONG | OF_TASK.get(task.task, {})
        if not issubclass(model_type, SegmentRecurrence):
            recipe["optimiser"] = "adamw"  # Muon is for stacked layers
        recipe["n_memory_tokens"] = max(TEXT_MEMORY_TOKENS, recipe["n_memory_tokens"])
    else:
        vocab_size, segment_length, of_task = VOCAB_SIZE, task.pair_length, set()
        recipe = (REWRITE if task.rewrite else REMEMBER) | RECIPES[name]
    unit = task.unit
    if unit in changes:
        recipe |= {"until": NEVER, "settings": {}, "average": 1}
        if "steps" not in changes and isinstance(recipe["steps"], list):
            raise ValueError(f"steps: expected a number for the stages of {unit}, got none.")
    recipe |= changes
    of_model = {field.name for field in fields(config_type)}
    known = {unit, "steps", "until"} | of_task | of_model
    known |= {field.name for field in fields(TrainingConfig)}
    for setting in changes:
        if setting not in known - {"vocab_size", "segment_length", "stages"}:
            raise ValueError(f"{setting}: {name} has no such setting; leave it out.")
    if isinstance(task, AssociativeRetrieval) and model_type is LayerAlone and task.key_size > 1:
        raise ValueError(
            f"key_size: {name} reads keys of 1 digit, got {task.key_size}; train another system."
        )
    settings = of_stages("settings", recipe, unit)
    lengths = {some["segment_length"] for some in settings if "segment_length" in some}
    if "segment_length" in of_model and lengths and segment_length != max(lengths):
        raise ValueError(
            f"segment_length: expected {max(lengths)}, to which the recipe's stages lead, got "
            f"{segment_length}; leave it out, or give {unit} and steps of your own."
        )
    check_at_least(1, d_model=recipe["d_model"])
    check_at_least(2, d_memory=recipe.get("d_memory", 2))  # else DPFP has too few neighbours
    given = {setting: changes[setting] for setting in of_task & changes.keys()}
    changing = (of_model | of_task) - changes.keys()
    stages = [
        Stage(
            n_pairs=size,
            max_steps=steps,
            until=until,
            settings=given | {n: value for n, value in settings.items() if n in changing},
        )
        for size, steps, until, settings in zip(
            recipe[unit],
            *(of_stages(each, recipe, unit) for each in ("steps", "until", "settings")),
            strict=True,
        )
        if unit in changes or fits(task, size[1])
    ]
    recipe |= {"vocab_size": vocab_size, "segment_length": segment_length, "stages": stages}
    recipe |= {
        "seed": seed,
        "attention_std": recipe.get("attention_std", recipe["d_model"] ** -0.5),
    }

    def filled(kind: Any) -> Any:
        return kind(**{f.name: recipe[f.name] for f in fields(kind) if f.name in recipe})

    model, training = model_type(filled(config_type), seed=seed), filled(TrainingConfig)
    config = model.config
    for stage in stages:  # what does not fit raises now
        config, task = stage.set_up(config, task)
    return model, training


def fits(task: Task, size: int) -> bool:
    """Whether the task has keys for so many pairs, or stories for so many tokens."""
    if isinstance(task, Babilong):
        return size >= SHORTEST.get(task.task, 1)
    return task.rewrite or size <= task.n_keys


def of_stages(name: str, recipe: dict[str, Any], unit: str) -> list[Any]:
    """What a recipe says of each stage. Raises ValueError unless that is one thing or one each."""
    setting, n_stages = recipe.get(name, {}), len(recipe[unit])
    values = list(setting) if isinstance(setting, list | tuple) else [setting]
    if len(values) not in (1, n_stages):
        raise ValueError(
            f"{name}: expected one number, or {n_stages}, one for each of the stages "
            f"{recipe[unit]}, got {len(values)}: {values}."
        )
    return values if len(values) == n_stages else values * n_stages
