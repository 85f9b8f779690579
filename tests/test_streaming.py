"""A stream of blocks gives what one call with all tokens gives, also after a halt of any kind."""

import gc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_diagonal_schedule import BOUNDED
from test_equivalences import MODELS, parts

import armt_mini as am
from armt_mini.captured_schedule import DIAGONALS
from armt_mini.training import streaming

LENGTH = 38  # seven segments of 5 and a short one of 3
CUTS = [[38], [5] * 7 + [3], [1] * 38, [4, 0, 9, 22, 3], [37, 1]]


def is_same(stream, one_call, tokens):
    """The end of the stream is the end of the call, to the last bit."""
    out = stream.finish()
    n_last = (tokens.shape[1] - 1) % 5 + 1
    assert torch.equal(out.logits, one_call.logits[:, -n_last:])
    for part, expected in zip(parts(out.states), parts(one_call.states), strict=True):
        assert torch.equal(part, expected)
    for position, logits in stream.found.items():
        torch.testing.assert_close(logits, one_call.logits[:, position])


@pytest.fixture
def read_at_once(lively, draw_tokens):
    def read_at_once(kind=am.ARMT, length=LENGTH, batch=2):
        model, tokens = (
            lively(kind, **BOUNDED if kind is am.ARMT else {}),
            draw_tokens(batch, length),
        )
        with torch.no_grad():
            return model, tokens, model(tokens)

    return read_at_once


@pytest.mark.dtypes("float64", "bfloat16")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_blocks_of_any_sizes_give_what_one_call_gives(read_at_once, kind, cuts):
    model, tokens, one_call = read_at_once(kind)
    stream = am.Stream(model, batch=2, positions=(0, 17, 36, 37))
    stream.read(tokens.split(cuts, dim=1))
    is_same(stream, one_call, tokens)
    assert sorted(stream.found) == [0, 17, 36, 37]
    assert stream.n_read == LENGTH


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("length", [3, 5, 35])
def test_the_last_segment_may_be_the_only_one_and_may_be_full(read_at_once, length):
    model, tokens, one_call = read_at_once(length=length)
    stream = am.Stream(model, batch=2)
    for block in tokens.split(2, dim=1):
        stream.read([block])
    is_same(stream, one_call, tokens)


@pytest.mark.dtypes("float64")
def test_the_diagonal_order_streams_too(read_at_once, close):
    model, tokens, one_call = read_at_once()
    stream = am.Stream(model, batch=2, schedule="diagonal", positions=[20])
    stream.read(tokens.split(13, dim=1))
    out = stream.finish()
    close(out.logits, one_call.logits[:, -3:], rtol=1e-9)
    close(stream.found[20], one_call.logits[:, 20], rtol=1e-9)
    close(parts(out.states), parts(one_call.states), rtol=1e-9)


@pytest.mark.dtypes("float64")
def test_after_the_end_a_new_segment_begins(read_at_once):
    model, tokens, one_call = read_at_once()
    stream = am.Stream(model, batch=2)
    stream.read([tokens])
    stream.finish()
    stream.read([tokens])
    with torch.no_grad():
        is_same(stream, model(tokens, one_call.states), tokens)


@pytest.mark.dtypes("bfloat16")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("n_before", [0, 10, 14])
def test_a_saved_stream_goes_on_as_if_there_had_been_no_halt(
    read_at_once, tmp_path, kind, n_before
):
    model, tokens, one_call = read_at_once(kind)
    stream = am.Stream(model, batch=2, positions=(3, 30))
    stream.read([tokens[:, :n_before]])
    stream.save(tmp_path / "stream.safetensors")
    stream.read([tokens[:, 20:]])  # what comes after does not matter
    stream = am.Stream.load(tmp_path / "stream.safetensors", model)
    assert stream.n_read + stream.unfinished.shape[1] == n_before
    stream.read([tokens[:, n_before:]])
    is_same(stream, one_call, tokens)
    assert sorted(stream.found) == [3, 30]


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
@pytest.mark.parametrize("size", [2, LENGTH])
def test_ctrl_c_and_errors_lose_nothing(read_at_once, ctrl_c, close, schedule, size):
    model, tokens, one_call = read_at_once()
    stream = am.Stream(model, batch=2, schedule=schedule)

    def blocks():
        yield tokens[:, :13]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        stream.read(blocks())
    read_segments, n_segments = model.read_segments, 0

    def interrupted(segments, states, use, schedule="sequential"):
        def pressed():
            nonlocal n_segments
            for segment in segments:
                n_segments += 1
                if n_segments == 2:
                    ctrl_c()
                yield segment

        return read_segments(pressed(), states, use, schedule)

    model.read_segments = interrupted
    left = iter(tokens[:, 13:].split(size, dim=1))
    with pytest.raises(KeyboardInterrupt):
        stream.read(left)
    assert stream.n_read == 20
    assert n_segments == 2
    model.read_segments = read_segments
    stream.read(left)
    out = stream.finish()
    close(out.logits, one_call.logits[:, -3:])
    close(parts(out.states), parts(one_call.states))


@pytest.mark.dtypes("float32")
def test_ctrl_c_in_the_last_segment_is_not_forgotten(read_at_once, ctrl_c, close):
    model, tokens, one_call = read_at_once()
    stream, read_segment = am.Stream(model, batch=2), model.read_segment
    model.read_segment = lambda *arguments: (ctrl_c(), read_segment(*arguments))[1]
    with pytest.raises(KeyboardInterrupt):
        stream.read([tokens[:, :7]])  # one segment
    model.read_segment = read_segment
    assert stream.n_read == 5
    stream.read([tokens[:, 7:]])
    close(stream.finish().logits, one_call.logits[:, -3:])


@pytest.mark.dtypes("float32")
def test_ctrl_c_while_the_end_is_read_waits_for_it(read_at_once, ctrl_c, close):
    model, tokens, one_call = read_at_once()
    stream, read_segment = am.Stream(model, batch=2), model.read_segment
    stream.read([tokens])
    model.read_segment = lambda *arguments: (ctrl_c(), read_segment(*arguments))[1]
    with pytest.raises(KeyboardInterrupt):
        stream.finish()
    assert stream.n_read == LENGTH
    close(stream.finish().logits, one_call.logits[:, -3:])


@pytest.mark.dtypes("float32")
def test_finish_reads_the_segments_that_an_interruption_has_left(read_at_once, ctrl_c, close):
    model, tokens, one_call = read_at_once()

    def blocks():
        ctrl_c()
        yield tokens

    stream = am.Stream(model, batch=2, schedule="diagonal", positions=[14])
    with pytest.raises(KeyboardInterrupt):
        stream.read(blocks())
    assert stream.n_read == 0
    close(stream.finish().logits, one_call.logits[:, -3:])
    close(stream.found[14], one_call.logits[:, 14])


@pytest.mark.dtypes("float32")
def test_an_error_in_the_model_leaves_the_stream_as_it_was(read_at_once, close):
    model, tokens, one_call = read_at_once()
    stream, logits = am.Stream(model, batch=2, positions=[4, 14]), model.logits
    stream.read([tokens[:, :3]])
    calls = []

    def failing(hidden):
        calls.append(hidden)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return logits(hidden)

    model.logits = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        stream.read([tokens[:, 3:]])
    assert (stream.n_read, stream.unfinished.shape[1], stream.found) == (0, 3, {})
    model.logits = logits
    stream.read([tokens[:, 3:]])
    close(stream.finish().logits, one_call.logits[:, -3:])
    close(stream.found[14], one_call.logits[:, 14])


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
def test_a_bar_that_fails_loses_no_segment(read_at_once, close, monkeypatch, schedule):
    """As where what is printed goes to a program that has ended."""
    model, tokens, one_call = read_at_once()
    shown = []

    @contextmanager
    def bar(*of_bar):
        def show(*what):
            shown.append(what)
            if len(shown) == 3:
                raise BrokenPipeError

        yield show

    monkeypatch.setattr(streaming, "progress_bar", bar)
    stream = am.Stream(model, batch=2, schedule=schedule)
    with pytest.raises(BrokenPipeError):
        stream.read([tokens])
    assert stream.n_read == 2 * 5
    assert stream.n_read + stream.unfinished.shape[1] == tokens.shape[1]
    close(stream.finish().logits, one_call.logits[:, -3:])


@pytest.mark.dtypes("float32")
def test_so_does_one_after_it(read_at_once, close, monkeypatch):
    model, tokens, one_call = read_at_once()
    stream = am.Stream(model, batch=2)

    def failing(tensor):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clone", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            stream.read([tokens])
    assert stream.n_read == 0
    stream.read([tokens])
    close(stream.finish().logits, one_call.logits[:, -3:])


@pytest.mark.dtypes("float32")
def test_an_error_in_the_blocks_is_raised_whatever_it_is_and_keeps_no_tensor(read_at_once):
    class Nothing(Exception):
        def __len__(self):
            return 0  # so it counts as false

    model, tokens, _ = read_at_once()

    def blocks():
        block = tokens[:, :13].clone()
        kept.append(weakref.ref(block))
        yield block
        raise Nothing

    kept, stream = [], am.Stream(model, batch=2)
    gc.disable()
    try:
        with pytest.raises(Nothing):
            stream.read(blocks())
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.long), ValueError, r"^block: expected shape \(2, length\)"),
        (torch.full((2, 4), 23), ValueError, r"^block: expected 0 to 22, got 23 to 23"),
        (torch.zeros(2, 4), TypeError, r"^block: expected int64 or int32, got torch.float32"),
        ([[1, 2]], TypeError, r"^block: expected a Tensor, got list"),
    ],
)
def test_a_block_that_does_not_fit_is_an_error_and_loses_nothing(
    read_at_once, block, error, message
):
    model, tokens, one_call = read_at_once()
    stream = am.Stream(model, batch=2)
    with pytest.raises(error, match=message):
        stream.read([tokens[:, :13], block])
    stream.read([tokens[:, 13:]])
    is_same(stream, one_call, tokens)


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
def test_no_more_than_a_few_segments_are_held_at_any_time(lively, schedule):
    model, alive, most = lively(**BOUNDED), weakref.WeakSet(), 0
    read_segments = model.read_segments

    def watched(segments, *arguments):
        def each():
            nonlocal most
            for segment in segments:
                alive.add(own := segment.clone())
                most = max(most, len(alive))
                yield own
                del own

        return read_segments(each(), *arguments)

    model.read_segments = watched
    block = torch.zeros(1, 5, dtype=torch.long, device=model.token_embedding.device)
    am.Stream(model, schedule=schedule).read(block for _ in range(200))
    assert most <= (2 if schedule == "sequential" else 2 * DIAGONALS)  # one group and the next


@pytest.mark.dtypes("float32")
def test_a_bar_counts_tokens(lively, draw_tokens, capsys):
    am.Stream(lively(**BOUNDED)).read(draw_tokens(1, 23).split(4, 1), progress=True, n_tokens=23)
    last = capsys.readouterr().out.split("\r")[-1]
    assert "reading" in last
    assert " 20/20 " in last
    assert "tokens/s" in last


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
def test_other_models_other_files_and_impossible_arguments_are_errors(lively, tmp_path):
    model, file = lively(**BOUNDED), tmp_path / "stream.safetensors"
    am.Stream(model).save(file)
    for other, what in (
        (lively(seed=12, **BOUNDED), "weights"),
        (lively(), "config"),
        (lively(am.PRMT), "system"),
    ):
        with pytest.raises(
            ValueError, match=rf"^path: .* holds no stream of this model, but of another {what}"
        ):
            am.Stream.load(file, other)
    save_file({"a": torch.ones(1)}, file, {"about": "{}"})
    with pytest.raises(ValueError, match=r"^path: .* holds no stream of this model"):
        am.Stream.load(file, model)
    with pytest.raises(ValueError, match=r"^schedule: expected one of sequential, diagonal"):
        am.Stream(model, schedule="random")
    with pytest.raises(ValueError, match=r"^batch: expected at least 1, got 0"):
        am.Stream(model, batch=0)
    with pytest.raises(TypeError, match=r"^batch: expected an int, got float"):
        am.Stream(model, batch=1.5)
    with pytest.raises(TypeError, match=r"^model: expected a SegmentRecurrence, got LayerAlone"):
        am.Stream(am.from_pretrained("rewrite-layer-alone"))
    with pytest.raises(ValueError, match=r"^positions: expected at least 0, got -1"):
        am.Stream(model, positions=[-1])
    with pytest.raises(TypeError, match=r"^positions: expected a Integral, got float"):
        am.Stream(model, positions=[2.5])
    am.Stream(model, positions=np.arange(0, 20, 5)).save(file)  # numbers of NumPy are as good
