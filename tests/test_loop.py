"""Training: stages, the optimiser's step, and what goes wrong."""

import math
import signal
import time
from dataclasses import replace

import pytest
import torch
from small_runs import STAGES, TASK, recipe, run, small

import armt_mini as am
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.tasks.babilong import Babilong
from armt_mini.training import loop
from armt_mini.training.answers import Answers
from armt_mini.training.checkpoints import read_checkpoint
from armt_mini.training.gradients import Gradients
from armt_mini.training.loop import History, Stage, TrainingConfig, train
from armt_mini.training.resume import save_run
from armt_mini.training.workers import Workers

# Stages


def test_seconds_are_kept_but_do_not_tell_two_runs_apart(tmp_path):
    history = run(checkpoint=tmp_path / "file")
    assert len(history.seconds) == len(history)
    assert min(history.seconds) > 0
    assert sum(history.seconds) < 60
    again = run(checkpoint=tmp_path / "file")  # a finished run: nothing is left to do
    assert again.seconds == history.seconds
    assert run() == history


def test_a_run_that_was_killed_after_its_last_step_is_finished_by_the_next(tmp_path, monkeypatch):
    def killed(path, model, recipe, history, optimisers, average):
        if optimisers:
            save_run(path, model, recipe, history, optimisers, average)

    monkeypatch.setattr(loop, "save_run", killed)
    run(config=recipe(checkpoint_every=19, average=3), checkpoint=tmp_path / "file")
    monkeypatch.undo()

    def has_moments():
        tensors = read_checkpoint(tmp_path / "file").tensors
        return len(tensors["history.loss"]) == 19 and any("optimiser." in name for name in tensors)

    assert has_moments()
    model, whole = small(seed=1), small()
    run(model, config=recipe(average=3), checkpoint=tmp_path / "file")
    assert not has_moments()
    run(whole, config=recipe(average=3))
    for finished, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(finished, expected)


@pytest.mark.parametrize(
    ("precision", "products"), [("float32", "highest"), ("tf32", "high"), ("bfloat16", "high")]
)
def test_tf32_is_allowed_during_training_only(precision, products):
    before, seen = torch.get_float32_matmul_precision(), set()

    def look(steps):
        seen.add(torch.get_float32_matmul_precision())

    config = recipe(precision=precision)
    loop.train(small(), TASK, config, progress=False, after_step=look)
    assert seen == {products}
    assert torch.get_float32_matmul_precision() == before == "highest"


def test_each_stage_draws_numbers_of_pairs_from_its_range_both_ends_included():
    history = run()
    assert history.stage == [0] * 7 + [1] * 12
    assert set(history.n_pairs[:7]) == {1, 2, 3}
    assert set(history.n_pairs[7:]) == {2, 3, 4, 5}


def test_a_stage_changes_the_model_and_the_task_from_then_on(tmp_path, monkeypatch):
    task = Babilong(segment_length=16)
    sizes = dict(vocab_size=4096, d_model=8, n_layers=1, n_heads=2, segment_length=16)
    plain = am.ARMTConfig(**sizes, n_memory_tokens=1, d_memory=4)

    def stage(n_tokens, **settings):
        return Stage(n_pairs=(n_tokens, n_tokens), max_steps=2, settings=settings)

    stages = [stage(16), stage(32, min_strength=0.1, decoys=1.0), stage(32, write_cost=0.5)]
    config, seen = recipe(stages=stages, most_read=64, checkpoint_every=1), []
    drawn = Babilong.sample

    def sample(self, batch, *rest):
        seen.append((model.config.min_strength, model.config.write_cost, self.decoys, batch))
        return drawn(self, batch, *rest)

    monkeypatch.setattr(Babilong, "sample", sample)
    model = am.ARMT(plain)
    whole = run(model, task, config, tmp_path / "whole")
    assert seen[3:] == [  # what came before was tried
        *[(0.0, 0.0, 0.0, 3)] * 2, *[(0.1, 0.0, 1.0, 2)] * 2, *[(0.1, 0.5, 1.0, 2)] * 2
    ]  # fmt: skip
    assert read_checkpoint(tmp_path / "whole").about["config"]["write_cost"] == 0.5

    for n_steps in (1, 3, 5):  # stopped in each of the stages
        file = tmp_path / f"stopped-{n_steps}"
        model = am.ARMT(plain)

        def stop(done, n_steps=n_steps):
            if done == n_steps:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            train(model, task, config, checkpoint=file, progress=False, after_step=stop)
        model = am.ARMT(plain, seed=1)
        assert run(model, task, config, file) == whole
    with pytest.raises(ValueError, match=r"^settings: neither the model nor the task .* 'colour'"):
        run(model, task, recipe(stages=[stage(16, colour=1)]))
    with pytest.raises(ValueError, match=r"^min_strength: expected 0 to 1, got 2"):
        run(model, task, recipe(stages=[stage(16, min_strength=2.0)]))


def test_graphs_are_recorded_anew_only_where_a_stage_changes_the_model(monkeypatch):
    made = []

    def recorded(gradients):
        made.append(model.config.eps)
        return lambda batch: gradients(batch)

    monkeypatch.setattr(loop, "CapturedGradients", recorded)
    monkeypatch.setattr(loop, "check_gpu", lambda *_: None)
    changes = ({}, {}, {"eps": 0.5}, {})
    stages = [Stage(n_pairs=(1, 2), max_steps=1, settings=some) for some in changes]
    model = small()
    run(model, config=recipe(stages=stages, schedule="captured"))
    assert made == [small().config.eps, 0.5]


def test_a_step_reads_no_more_than_it_may():
    config = recipe(batch_size=8, most_read=20)
    batches = [config.batch_of(n_pairs) for n_pairs in (1, 2, 3, 9, 10, 11, 50)]
    assert batches == [8, 8, 6, 2, 2, 1, 1]
    assert recipe(batch_size=8).batch_of(50) == 8


def test_a_stage_ends_when_the_mean_of_its_own_last_fifty_steps_is_reached():
    stage, history = Stage(n_pairs=(1, 1), max_steps=200, until=0.5), History()
    history.stage, history.accuracy = [0] * 49, [1.0] * 49
    assert not history.is_finished(0, stage)  # 49 steps are no fifty
    history.stage, history.accuracy = [0] * 60, [0.0] * 36 + [1.0] * 24
    assert not history.is_finished(0, stage)  # 24 of the last 50
    history.stage, history.accuracy = [0] * 61, [0.0] * 36 + [1.0] * 25
    assert history.is_finished(0, stage)  # 25 of the last 50
    history.stage, history.accuracy = history.stage + [1] * 49, history.accuracy + [1.0] * 49
    assert not history.is_finished(1, stage)  # steps of the stage before do not count
    history.accuracy[-49:] = [0.0] * 49
    assert history.is_finished(0, stage)  # and those of the stage after do not undo it


def test_a_stage_ends_after_its_most_steps_whatever_its_accuracy():
    history = History(stage=[0] * 3 + [1] * 7, accuracy=[0.0] * 10)
    assert history.is_finished(0, Stage(n_pairs=(1, 1), max_steps=3))
    assert not history.is_finished(0, Stage(n_pairs=(1, 1), max_steps=4))
    assert history.is_finished(1, Stage(n_pairs=(1, 1), max_steps=7))
    assert not history.is_finished(2, Stage(n_pairs=(1, 1), max_steps=1))


def test_early_stop_in_training_and_the_steps_that_are_left():
    stages = [Stage(n_pairs=(1, 2), max_steps=90, until=0.0), Stage(n_pairs=(1, 2), max_steps=3)]
    assert History().steps_left(stages) == 93
    history = run(config=recipe(stages=stages))
    assert history.stage == [0] * 50 + [1] * 3
    assert history.steps_left(stages) == 0
    assert History(stage=[0] * 50).steps_left(stages) == 43
    assert History(stage=[0] * 50 + [1]).steps_left(stages) == 2


def test_the_learning_rate_falls_in_the_last_stage_only():
    config = recipe(
        stages=[Stage(n_pairs=(1, 1), max_steps=5), Stage(n_pairs=(1, 1), max_steps=4)],
        learning_rate=0.1,
        final_lr=0.5,
    )
    assert [config.stage_learning_rate(0, steps) for steps in (0, 4)] == [0.1, 0.1]
    falling = [config.stage_learning_rate(1, steps) for steps in range(4)]
    assert falling == pytest.approx([0.1, 0.0875, 0.075, 0.0625])


def test_the_learning_rate_rises_in_the_first_stage_only():
    stages = [Stage(n_pairs=(1, 1), max_steps=5), Stage(n_pairs=(1, 1), max_steps=4)]
    config = recipe(stages=stages, learning_rate=0.1, final_lr=0.5, warmup=4)
    rising = [config.stage_learning_rate(0, steps) for steps in range(5)]
    assert rising == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert config.stage_learning_rate(1, 0) == 0.1
    alone = recipe(stages=stages[:1], learning_rate=0.1, final_lr=0.5, warmup=4)
    assert alone.stage_learning_rate(0, 1) == pytest.approx(0.05 * 0.9)


def test_every_step_is_made_with_the_learning_rate_of_its_place_in_the_stages(monkeypatch):
    made, update = [], torch.optim.AdamW.step

    def step(self, *arguments):
        made.extend(group["lr"] for group in self.param_groups)
        return update(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run()
    # 0.01 for 7 steps, then down towards a tenth of it, over 12 steps.
    assert made == pytest.approx([0.01] * 7 + [0.01 * (1 - 0.9 * n / 12) for n in range(12)])


@pytest.mark.parametrize("average", [1, 3, 12, 100])
def test_the_mean_of_the_weights_over_the_end_of_the_last_stage_is_kept(tmp_path, average):
    model, steps = small(), []

    def after_step(n_done):
        steps.append([weight.detach().clone() for weight in model.parameters()])
        if n_done == 16:  # saved after the fifteenth
            names = read_checkpoint(tmp_path / "file").tensors
            assert any(name.startswith("average") for name in names) == (average > 1)

    config = recipe(average=average)  # of seven steps, and twelve in the last stage
    train(model, TASK, config, checkpoint=tmp_path / "file", progress=False, after_step=after_step)
    n_first = min(average, 12)  # counted alike; from then on all so far lose 1 / average each step
    shares = [(1 - 1 / average) ** (12 - n_first) / n_first] * n_first
    shares += [(1 - 1 / average) ** (11 - n) / average for n in range(n_first, 12)]
    assert sum(shares) == pytest.approx(1)
    kept = read_checkpoint(tmp_path / "file").tensors
    for (name, weight), *history in zip(model.named_parameters(), *steps[7:], strict=True):
        expected = sum(share * then for share, then in zip(shares, history, strict=True))
        torch.testing.assert_close(weight.detach(), expected)
        assert torch.equal(kept[f"model.{name}"], weight)
    assert not [name for name in kept if name.startswith("average")]


# One step


def test_a_step_is_adamw_on_the_clipped_gradient_of_the_mean_cross_entropy():
    model, twin = small(), small()
    config = recipe(clip_norm=0.01, weight_decay=0.7, betas=(0.8, 0.9))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.8, 0.9), weight_decay=0.7)
    history = History()
    drawn = loop.Draws(TASK, config, config.stages[0])[0]
    loop.step(
        Gradients(Answers(model), config.clip_norm), drawn, config, [optimiser], history, 0, "pairs"
    )

    _, batch = drawn
    logits = twin.ask(batch.questions, twin.memorise(batch.pairs.flatten(1)))[:, :, -1]
    right = logits.log_softmax(dim=-1).gather(2, batch.answers.unsqueeze(2))
    loss = -right.mean()
    loss.backward()
    assert history.loss == [pytest.approx(loss.item(), rel=1e-6)]
    assert history.accuracy == [(logits.argmax(2) == batch.answers).float().mean().item()]
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters()))
    assert norm > 0.01
    with torch.no_grad():
        for parameter, updated in zip(twin.parameters(), model.parameters(), strict=True):
            gradient = parameter.grad * 0.01 / norm
            # Adam's first step: both moments are those of one gradient.
            expected = parameter * (1 - 0.01 * 0.7) - 0.01 * gradient / (gradient.abs() + 1e-8)
            torch.testing.assert_close(updated, expected, rtol=1e-3, atol=1e-5)


def samples(config: TrainingConfig, number: int = 0):
    """What step `number` of stage 0 sees."""
    task = AssociativeRetrieval(rewrite=True)
    return loop.Draws(task, config, config.stages[0])[number][1]


def test_samples_are_the_same_whether_they_are_drawn_in_between_or_by_others():
    model, twin = small(), small()
    history = loop.train(model, TASK, recipe(), progress=False, drawers=0)
    before = torch.get_rng_state()
    assert loop.train(twin, TASK, recipe(), progress=False, drawers=2) == history
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_every_step_and_every_seed_sees_its_own_samples():
    def seen(seed: int, number: int):
        return samples(recipe(seed=seed, batch_size=31), number).pairs[:, :1].tolist()

    assert seen(0, 1) == seen(0, 1)
    assert seen(0, 1) != seen(0, 2)
    assert seen(0, 1) != seen(1, 1)
    assert seen(0, 1) != seen(1, 0)


@pytest.mark.usefixtures("unchecked")
def test_processes_share_samples_of_every_length_equally_or_there_is_no_step():
    """Eight and four at the ends of the stage, and five of 11 pairs in between."""
    stage = Stage(n_pairs=(8, 16), max_steps=1)
    of_two = recipe(stages=[stage], batch_size=8, most_read=64)
    with pytest.raises(ValueError, match=r"^batch_size: expected a multiple of the 2 processes"):
        loop.train(small(), TASK, of_two, progress=False, workers=Workers(0, 2))


def test_those_who_draw_leave_ctrl_c_to_the_training(monkeypatch):
    seen = []
    loader = loop.DataLoader

    def watched(*words, **settings):
        seen.append(settings["worker_init_fn"])
        return loader(*words, **settings)

    monkeypatch.setattr(loop, "DataLoader", watched)
    loop.train(small(), TASK, recipe(), progress=False)
    before = signal.getsignal(signal.SIGINT)
    try:
        seen[0](0)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_texts_of_several_segments_have_whole_ones():
    stage = Stage(n_pairs=(64, 192), max_steps=1)
    draws = loop.Draws(Babilong(segment_length=32), recipe(stages=[stage]), stage)
    lengths = {draws[number][0] for number in range(60)}
    assert {64, 96, 128, 160} <= lengths <= {64, 96, 128, 160, 192}


def test_what_is_done_between_steps_takes_none_of_their_seconds():
    history = loop.train(
        small(), TASK, recipe(), progress=False, after_step=lambda _: time.sleep(0.1)
    )
    assert sorted(history.seconds)[len(history) // 2] < 0.1


def test_as_many_questions_as_asked_for_at_most_as_many_as_pairs():
    assert samples(recipe(n_questions=2, stages=[STAGES[1]])).questions.shape[1] == 2
    everything = samples(recipe(stages=[STAGES[1]]))
    assert everything.questions.shape[1] == everything.pairs.shape[1]
    many = samples(recipe(n_questions=50))
    assert many.questions.shape[1] == many.pairs.shape[1]


# What goes wrong


def test_hidden_stories_train_a_model_too_and_the_run_goes_on_from_its_file(tmp_path):
    def made():
        sizes = dict(d_model=8, n_layers=1, n_heads=2, n_memory_tokens=1, d_memory=4)
        return am.ARMT(am.ARMTConfig(vocab_size=4096, segment_length=32, **sizes))

    stages = [Stage(n_pairs=(16, 24), max_steps=7), Stage(n_pairs=(64, 64), max_steps=12)]
    task, config = Babilong(segment_length=32), recipe(n_questions=3, stages=stages)
    whole = run(made(), task, config, tmp_path / "whole")
    assert whole.n_pairs == run(made(), task, config).n_pairs
    assert 0 < sum(whole.loss[-5:]) < sum(whole.loss[:5])

    def stop(number):
        if number == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(made(), task, config, checkpoint=tmp_path / "part", after_step=stop)
    assert run(made(), task, config, tmp_path / "part") == whole


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_not_finite_is_an_error_before_the_weights_change(
    tmp_path, monkeypatch, what, value
):
    model, file = small(), tmp_path / "run.safetensors"
    config = recipe(average=3)  # of the last stage, whose second step goes wrong
    answer, steps, weights = Answers.forward, [], []

    def spoiled(*arguments):
        steps.append(1)
        logits = answer(*arguments)
        if len(steps) == 9:
            weights.extend(parameter.detach().clone() for parameter in model.parameters())
            if what == "loss":
                return logits * value
            logits.register_hook(lambda gradient: gradient * value)
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(Answers, "forward", spoiled)
        with pytest.raises(FloatingPointError, match=rf"{what}: .* got (nan|inf) at step 8 \("):
            run(model, config=config, checkpoint=file)
    for parameter, before in zip(model.parameters(), weights, strict=True):
        assert torch.equal(parameter, before)
    assert len(read_checkpoint(file).tensors["history.loss"]) == 8
    again, whole = small(1), small()
    assert run(again, config=config, checkpoint=file) == run(whole, config=config)
    for resumed, expected in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(resumed, expected)


@pytest.mark.parametrize("number", [0, 7])
def test_after_a_failure_in_the_first_step_of_a_stage_the_run_goes_on(
    tmp_path, monkeypatch, number
):
    file, answer, steps = tmp_path / "run.safetensors", Answers.forward, []
    first, last = STAGES
    stages = [replace(first, settings={"eps": 0.1}), replace(last, settings={"eps": 0.01})]
    config = recipe(stages=stages)

    def spoiled(*arguments):
        steps.append(1)
        return answer(*arguments) * (math.nan if len(steps) == number + 1 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(Answers, "forward", spoiled)
        with pytest.raises(FloatingPointError, match=rf"got nan at step {number} \("):
            run(config=config, checkpoint=file)
    assert run(small(1), config=config, checkpoint=file) == run(config=config)


def test_more_pairs_than_keys_is_an_error_before_the_first_step(monkeypatch):
    monkeypatch.setattr(loop, "step", lambda *_: pytest.fail("a step was made"))
    stages = [Stage(n_pairs=(1, 2), max_steps=3), Stage(n_pairs=(2, 17), max_steps=3)]
    with pytest.raises(ValueError, match="n_pairs: expected at most 16"):
        run(task=AssociativeRetrieval(rewrite=False), config=recipe(stages=stages))
    stages = [Stage(n_pairs=(2, 64), max_steps=3)]  # which fits at its longest only
    with pytest.raises(ValueError, match="n_tokens: of qa1 no story in 1000 has at most 2 tokens"):
        run(task=Babilong(), config=recipe(stages=stages))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(n_pairs=(0, 2), max_steps=1), "fewest_pairs: expected at least 1"),
        (lambda: Stage(n_pairs=(3, 2), max_steps=1), "most_pairs: expected at least 3, got 2"),
        (lambda: Stage(n_pairs=(3, 3), max_steps=0), "max_steps: expected at least 1"),
        (lambda: Stage(n_pairs=(3, 3), max_steps=1, until=-0.1), "until: expected at least 0"),
        (lambda: recipe(stages=[]), "stages: expected at least 1, got 0"),
        (lambda: recipe(batch_size=0), "batch_size: expected at least 1"),
        (lambda: recipe(checkpoint_every=0), "checkpoint_every: expected at least 1"),
        (lambda: recipe(learning_rate=-1.0), "learning_rate: expected at least 0"),
        (lambda: recipe(final_lr=-1.0), "final_lr: expected at least 0"),
        (lambda: recipe(warmup=-1), "warmup: expected at least 0"),
        (lambda: recipe(average=0), "average: expected at least 1"),
        (lambda: recipe(weight_decay=-1.0), "weight_decay: expected at least 0"),
        (lambda: recipe(clip_norm=-1.0), "clip_norm: expected at least 0"),
        (lambda: recipe(seed=-1), "seed: expected at least 0"),
        (lambda: recipe(n_questions=0), "n_questions: expected at least 1"),
    ],
)
def test_impossible_recipes_are_errors(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_after_every_step_the_caller_is_told_how_many_are_done():
    told = []
    history = loop.train(small(), TASK, recipe(), progress=False, after_step=told.append)
    assert told == list(range(1, len(history) + 1))
