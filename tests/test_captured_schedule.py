"""A recording plays the diagonal order: the same logits and states, whatever it played before.

Graphs need an NVIDIA GPU. Without one, the tests run what would be in the graphs without any graph.
"""

import gc
import threading
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_diagonal_schedule import BOUNDED, SHAPES, read_on, sensible
from test_equivalences import parts

import armt_mini as am
from armt_mini import captured_schedule, gpu
from armt_mini.associative_layer import associative_layer
from armt_mini.captured_schedule import DIAGONALS, groups

# What PyTorch's compiler says of itself.
COMPILER_SAYS = [
    pytest.mark.filterwarnings(f"ignore:{said}")
    for said in (
        ".torch.jit:DeprecationWarning",
        "TensorFloat32 tensor cores:UserWarning",
        r"\s*Online softmax:UserWarning",
        "The .grad attribute of a Tensor that is not a leaf:UserWarning",
        ".*Function'> should not be instantiated:DeprecationWarning",
    )
]
pytestmark = COMPILER_SAYS


@pytest.mark.usefixtures("recordable")
@pytest.mark.parametrize(("n_layers", "length", "batch"), SHAPES)
def test_captured_and_sequential_agree(
    lively, draw_tokens, close, device, dtype, n_layers, length, batch
):
    model = am.ARMT(sensible(n_layers)).to(device, dtype)
    if dtype == torch.float64:
        model = lively(n_layers=n_layers, **BOUNDED)
    precision = {"rtol": 1e-9 if dtype == torch.float64 else 1e-3}
    for tokens in (draw_tokens(batch, length), draw_tokens(batch, length + 60)):
        with torch.no_grad():  # the second text plays the recording of the first
            states = model(draw_tokens(batch, 10)).states
            out = model(tokens, states, schedule="captured")
            expected = model(tokens, states)
        close(out.logits, expected.logits, **precision)
        close(parts(out.states), parts(expected.states), **precision)


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_compiled_and_sequential_agree_in_values_and_gradients(
    lively, draw_tokens, close, close_gradients
):
    model, tokens = lively(**BOUNDED), draw_tokens(2, 23)
    orders = "compiled", "sequential"
    found, expected = (read_on(model, order, tokens[:, :10], tokens) for order in orders)
    close(found[0], expected[0], rtol=1e-9)
    close(found[1], expected[1], rtol=1e-9)
    close_gradients(found[2], expected[2])


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_a_text_may_be_read_while_another_is(lively, draw_tokens, close):
    """As where one text is chosen by what a model has read of another."""
    model, one, other = lively(**BOUNDED), draw_tokens(2, 40), draw_tokens(2, 20)
    with torch.no_grad():
        model.memorise(one, schedule="captured")  # there is a recording, which both might take

    def blocks(schedule):
        for block in one.split(10, dim=1):
            yield block
            model.memorise(other, schedule=schedule)

    streams = []
    for schedule in ("captured", "captured", "sequential"):
        streams.append(am.Stream(model, 2, schedule))
        with torch.no_grad():
            streams[-1].read(blocks(schedule))
    close(parts(streams[0].states), parts(streams[2].states), rtol=1e-9)
    close(parts(streams[1].states), parts(streams[2].states), rtol=1e-9)
    (idle,) = captured_schedule.RECORDINGS[model][1].values()
    assert len(idle) == 2, "one for each depth, not one for each reading"


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_what_a_stream_has_read_last_outlives_the_next_reading(lively, draw_tokens, close):
    model, one, other = lively(**BOUNDED), draw_tokens(2, 40), draw_tokens(2, 20)
    stream = am.Stream(model, 2, "captured")
    stream.read([one])
    with torch.no_grad():
        model.memorise(other, schedule="captured")
        close(stream.finish().logits, model(one).logits[:, -5:], rtol=1e-9)


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_compiled_code_sees_one_shape(lively, draw_tokens, monkeypatch):
    """All layers on every diagonal, through what is compiled."""
    seen = []

    def compiled(layer):
        def watched(weights, hidden, *rest, **options):
            seen.append(tuple(hidden.shape))
            return layer(weights, hidden, *rest, **options)

        return watched

    monkeypatch.setattr(captured_schedule, "compiled", compiled)
    model = lively(**BOUNDED)
    model(draw_tokens(2, 20), schedule="compiled")
    assert len(seen) == 20 // 5 + model.config.n_layers - 1
    assert {shape[:2] for shape in seen} == {(model.config.n_layers, 2)}


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_a_model_on_another_gpu_is_an_error(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    gpu.check_gpu("captured", torch.device(device, 0))
    with pytest.raises(ValueError, match=r"needs the model on the current GPU, cuda:0, got .*:1;"):
        gpu.check_gpu("captured", torch.device(device, 1))


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float32")
def test_another_precision_of_products_is_another_recording(lively, draw_tokens):
    model, known = lively(**BOUNDED), []
    for is_rounded in (False, True):
        with torch.no_grad(), gpu.tensor_float_32(is_rounded):
            model.memorise(draw_tokens(1, 20), schedule="captured")
        known.append(captured_schedule.RECORDINGS[model][1])
    assert known[0] is not known[1]


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float32")
def test_states_that_were_handed_out_do_not_change(lively, draw_tokens):
    model = lively(**BOUNDED)
    with torch.no_grad():
        out = model(draw_tokens(1, 20), schedule="captured")
        before = [part.clone() for part in (out.logits, *parts(out.states))]
        model(draw_tokens(1, 20), schedule="captured")
    for part, then in zip((out.logits, *parts(out.states)), before, strict=True):
        assert torch.equal(part, then)


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
def test_one_recording_a_batch_size_and_a_new_one_where_weights_or_settings_are_others(
    lively, draw_tokens, close, dtype
):
    model, tokens = lively(**BOUNDED), draw_tokens(2, 20)
    recordings = captured_schedule.RECORDINGS
    with torch.no_grad():
        for batch in (1, 2, 1, 2):
            model(tokens[:batch], schedule="captured")
        known = recordings[model][1]
        assert sorted(known) == [1, 2]
        model.token_embedding.mul_(2)  # in place
        close(model(tokens, schedule="captured").logits, model(tokens).logits, rtol=1e-3)
        assert recordings[model][1] is known
        state = {name: 0.5 * weight for name, weight in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        close(model(tokens, schedule="captured").logits, model(tokens).logits, rtol=1e-3)
        assert list(recordings[model][1]) == [2]  # those of the old places are gone
        model.config = replace(model.config, retention=0.1)
        close(model(tokens, schedule="captured").logits, model(tokens).logits, rtol=1e-3)


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float32")
@torch.no_grad()
def test_as_many_diagonals_are_played_as_there_are_and_none_without_a_segment(lively, draw_tokens):
    model, played = lively(n_layers=4, **BOUNDED), []
    states = model.memorise(draw_tokens(1, 5), schedule="captured")
    ((recording,),) = captured_schedule.RECORDINGS[model][1].values()
    recording.play = {n: partial(played.append, n) for n in recording.play}
    for n_segments in (0, 1, 2, 5, 13):
        played.clear()
        segments = draw_tokens(n_segments, 1, 5).unbind()
        after = model.read_segments(segments, states, lambda hidden: None, "captured")
        assert sum(played) == (n_segments + 3 if n_segments else 0)
        if not n_segments:
            assert all(map(torch.equal, parts(after), parts(states)))


@pytest.mark.dtypes("float32")
def test_groups_hold_all_diagonals_in_order():
    found = list(groups(iter(range(2 * DIAGONALS + 2))))
    assert [len(group) for group in found] == [DIAGONALS, DIAGONALS, 1, 1]
    assert [diagonal for group in found for diagonal in group] == list(range(2 * DIAGONALS + 2))


@pytest.mark.dtypes("float32")
def test_a_function_is_compiled_for_more_shapes_than_pytorch_allows_by_default(device):
    def twice(numbers):
        return 2 * numbers

    with torch.compiler.config.patch(recompile_limit=8):
        compiled = gpu.compile_whole(twice, dynamic=False, backend="eager")
        for n in range(12):
            assert compiled(torch.ones(n, device=device)).tolist() == [2.0] * n


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float32")
def test_a_recording_made_in_inference_mode_plays_outside_of_it(lively, draw_tokens, close):
    model, tokens = lively(**BOUNDED), draw_tokens(2, 20)
    with torch.inference_mode():
        states = model(draw_tokens(2, 10)).states
        first = model(tokens, states, schedule="captured").logits
    with torch.no_grad():
        close(model(tokens, schedule="captured").logits, model(tokens).logits, rtol=1e-3)
        close(first, model(tokens, states).logits, rtol=1e-3)


@pytest.mark.usefixtures("unchecked")
def test_where_nothing_can_be_recorded_an_error_says_why(lively, draw_tokens, device):
    model, tokens = lively(), draw_tokens(1, 20)
    if device == "cpu":
        for schedule in ("captured", "compiled"):
            message = rf"^schedule: '{schedule}' needs an NVIDIA GPU, .* cpu"
            with torch.no_grad(), pytest.raises(ValueError, match=message):
                model(tokens, schedule=schedule)
    else:
        with pytest.raises(ValueError, match=r"^schedule: 'captured' has no gradients"):
            model(tokens, schedule="captured")


@pytest.mark.usefixtures("recordable")
def test_another_thread_may_pin_memory_while_a_graph_is_recorded(device):
    """As the one does that draws samples for a training."""
    number, pinned = torch.zeros(1, device=device), []

    def pin() -> None:
        pinned.append(torch.ones(2**20, pin_memory=device == "cuda"))

    def work() -> tuple[torch.Tensor, ...]:
        thread = threading.Thread(target=pin)
        thread.start()
        thread.join()
        return (number + 1,)

    play, (result,) = captured_schedule.graph_of(work)
    number.fill_(3)
    play()
    assert result.item() == 4
    assert len(pinned) > 1


@pytest.mark.dtypes("float32")
def test_a_recording_does_not_keep_its_model(device, monkeypatch):
    model = am.ARMT(sensible(2)).to(device)
    if device == "cpu":
        # Stands for a graph, which knows addresses only.
        monkeypatch.setattr(torch, "compile", lambda diagonal, **options: diagonal)
        monkeypatch.setattr(captured_schedule, "graph_of", lambda work: (None, None))
        monkeypatch.setattr(gpu, "GRAPHS_ON", device)
    with torch.no_grad():
        layer = partial(associative_layer, config=model.config)
        recording = captured_schedule.Recording(model, layer, model.empty_states(1))
        captured_schedule.recordings_of(model)[1] = recording
    gone = weakref.ref(model)
    del model, layer, recording
    gc.collect()
    assert gone() is None
