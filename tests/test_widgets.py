"""What the widgets share, and the capacity lab's Python side against the chapters' formulas."""

import re
import subprocess
from functools import partial

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from test_engine import NODE

import armt_mini as am
from armt_mini import figures
from armt_mini.widgets import base
from armt_mini.widgets.ask_model import AskModel, parse_pairs
from armt_mini.widgets.capacity_lab import N_VALUES, CapacityLab, chance
from armt_mini.widgets.draws import normals, uniforms
from armt_mini.widgets.estimator import Estimator
from armt_mini.widgets.feature_map_lab import FeatureMapLab
from armt_mini.widgets.player import Player
from armt_mini.widgets.rewrite_lab import RewriteLab
from armt_mini.widgets.segment_walk import SegmentWalk

LAYERS = {"γ on": "rewrite-layer-alone", "γ off": "rewrite-layer-alone-no-gamma"}
POCKET = {"pocket ARMT": "rewrite-pocket-armt"}
WIDGETS = [partial(AskModel, LAYERS), partial(AskModel, POCKET), CapacityLab]
FILM = {
    "A": np.sin(np.arange(60.0)).reshape(5, 4, 3),
    "z": np.arange(-10.0, 0.0).reshape(5, 1, 2),
}
MOMENTS = [f"after {n} writes" for n in range(5)]
WIDGETS += [Estimator, FeatureMapLab, partial(Player, FILM, MOMENTS), RewriteLab, SegmentWalk]


def test_numbers_drawn_by_lot_are_those_of_the_published_generator():
    # mulberry32 with seed 42, from its author's reference implementation
    assert (uniforms(42, 3) * 2**32).tolist() == [2581720956, 1925393290, 3661312704]


def test_drawn_numbers_are_uniform_and_normal():
    assert abs(uniforms(1, 100_000).mean() - 0.5) < 0.005
    drawn = normals(2, 100_000)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.mean(np.abs(drawn) < 1.96) - 0.95) < 0.005


@pytest.mark.parametrize("widget", WIDGETS, ids=lambda made: made().name)
class TestEveryWidget:
    def test_is_one_module_without_imports(self, widget):
        source = widget()._esm
        assert not re.search(r"^\s*import\b", source, re.MULTILINE)
        assert len(re.findall(r"^export\b", source, re.MULTILINE)) == 1
        assert "\nexport default {" in source

    def test_is_valid_javascript(self, widget, tmp_path):
        module = tmp_path / "widget.mjs"
        module.write_text(widget()._esm, encoding="utf-8")
        checked = subprocess.run([NODE, "--check", module], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr.decode()

    def test_every_control_has_a_label_and_limits(self, widget):
        for control in widget().controls:
            assert control["label"]
            kinds = {"options"}, {"min", "max", "step"}, set()  # a choice, a number, anything else
            assert control.keys() - {"name", "label"} in kinds, control

    def test_reset_goes_back_to_what_was_asked_for(self, widget):
        made = widget()
        assert made.initial == {name: getattr(made, name) for name in made.control_names()}

    def test_unknown_settings_are_named(self, widget):
        with pytest.raises(TypeError, match="got colour"):
            widget(colour=1)

    def test_is_opened_when_it_is_shown_or_linked_and_not_before(self, widget):
        computing, shown, linked = widget(), widget(), widget()
        shown._repr_mimebundle_()
        ipywidgets.jslink((ipywidgets.Text(), "value"), (linked, "name"))
        assert [made.comm is not None for made in (computing, shown, linked)] == [0, 1, 1]

    def test_the_static_figure_follows_the_widget_and_has_words(self, widget, capsys, monkeypatch):
        shown = []
        monkeypatch.setattr(base, "display", lambda data, raw=False: shown.append(data))
        made = widget()
        made._ipython_display_()
        assert "application/vnd.jupyter.widget-view+json" in shown[0]
        html = shown[1].data
        assert 'class="armt-static"' in html
        assert re.search(r'alt="[^"]{40,}"', html)
        assert "data:image/png;base64," in html


def test_colours_of_the_rules_are_those_of_the_figures():
    style = (base.FOLDER / "widgets.css").read_text()
    light = style[: style.index("[data-theme")]
    for rule in ("gamma", "delta", "additive"):
        assert f"--armt-{rule}: {figures.COLOURS[rule].lower()};" in light


def test_static_figures_are_hidden_by_the_style_that_a_running_widget_brings():
    style = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^}]*\})*\s*\}", "", CapacityLab()._css)
    assert ".armt-static { display: none; }" in style


class TestCapacityLab:
    def test_settings_outside_their_limits_are_refused(self):
        with pytest.raises(traitlets.TraitError, match="n_pairs"):
            CapacityLab(n_pairs=100)
        with pytest.raises(traitlets.TraitError, match="rule"):
            CapacityLab(rule="hebb")

    def test_accuracy_follows_theory_when_adding(self):
        found = CapacityLab(d_memory=32).experiment()
        assert (found.accuracy - found.theory).abs().max() < 0.08
        assert found.accuracy[64] < 0.9 * found.accuracy[16]

    def test_one_pair_is_alone_in_its_matrix(self):
        found = CapacityLab(d_memory=8, feature_map="dpfp", rule="gamma").experiment()
        torch.testing.assert_close(found.margins[1], torch.ones(4, 1, dtype=torch.float64))

    def test_keys_without_features_are_lost_and_nothing_else(self):
        found = CapacityLab(d_memory=2, feature_map="relu").experiment()
        assert all(lead.isfinite().all() for lead in found.margins)
        assert any((lead == 0).any() for lead in found.margins)
        assert found.theory.isfinite().all()

    def test_overlap_and_noise_cost_recall(self):
        plain, close, noisy = (
            CapacityLab(n_pairs=32, **change).experiment().accuracy[32]
            for change in ({}, {"overlap": 0.8}, {"noise": 0.8})
        )
        assert close < plain - 0.2
        assert noisy < plain - 0.1

    def test_the_table_of_chances_is_the_formula_of_chapter_two(self):
        table = CapacityLab().theory
        deviations = table["least"] * 10 ** (np.arange(201) / table["per_decade"])
        for i in (0, 80, 120, 200):
            drawn = deviations[i] * np.random.default_rng(i).standard_normal((50_000, N_VALUES))
            wins = 1 + drawn[:, 0] > drawn[:, 1:].max(axis=1)
            assert table["chances"][i] == pytest.approx(wins.mean(), abs=0.01)
        assert chance(0) == 1

    def test_description_counts_what_the_experiment_gives(self):
        lab = CapacityLab(n_pairs=20)
        right = int((lab.experiment().margins[20][0] > 0).sum())
        assert f"20 pairs in a matrix of 16 × 16: {right} recalled" in lab.description()


class TestRewriteLab:
    """The cases that chapter five works out by hand: v₁ = (10, 0), v₂ = (0, 10), v₃ = (6, 6)."""

    @pytest.mark.parametrize(
        ("settings", "n_segments", "on", "off"),
        [
            ({}, 1, (10, 0), (10, 0)),
            ({}, 2, (0, 10), (0, 5)),  # v₂, and half of it
            ({"schedule": "same"}, 50, (10, 0), (5, 0)),  # half of it for ever
            ({"strength": 0.25}, 1, (2.5, 0), (2.5, 0)),  # β v₁
            ({"schedule": "later_twice"}, 2, (-10, 20), (-10 / 3, 20 / 3)),  # 2 v₂ − v₁, a third
            ({"schedule": "first_twice"}, 1, (5, 5), (5, 5)),  # the mean m
            ({"schedule": "first_twice"}, 2, (5.5, 5.5), (11 / 3, 11 / 3)),  # mean of m and v₃
            ({"schedule": "first_twice", "clip_gamma": False}, 2, (11, 11), (11 / 3, 11 / 3)),
            ({"schedule": "first_twice", "clip_gamma": False}, 3, (-8, 4), (-1 / 6, 17 / 6)),
            ({"second_key": True, "overlap": 0.0}, 4, (0, 10), (0, 5)),  # keys apart
        ],
    )
    def test_the_key_recalls_what_the_chapter_says(self, settings, n_segments, on, off):
        found = RewriteLab(**settings).experiment()
        for after, expected in zip(found.values(), (on, off), strict=True):
            expected = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(after[n_segments].recalled, expected)

    def test_gamma_and_copies(self):
        found = RewriteLab(schedule="first_twice", clip_gamma=False).experiment()
        assert [after.counted for after in found["γ on"][:4]] == [0, 1, -1, 0]
        assert [after.overlap for after in found["γ on"][:4]] == [0, 10, 5, 5]
        assert [after.overlap for after in found["γ off"][:4]] == [0, 10, 15, 20]

    def test_a_second_key_that_overlaps_disturbs_the_first(self):
        apart, close = (
            lab.errors(lab.experiment()["γ on"]).mean()
            for lab in (RewriteLab(second_key=True, overlap=x) for x in (0.0, 0.5))
        )
        assert apart < 1e-12
        assert close > 0.1


class TestAskModel:
    def test_gamma_keeps_every_key_and_its_absence_does_not(self):
        lab = AskModel(LAYERS, n_read=200)
        assert lab.n_right()["γ on"] == len(lab.stored()) == 16
        assert lab.n_right()["γ off"] < 8

    def test_one_layer_of_the_pocket_model_holds_the_answers(self):
        whole, first, second = (
            AskModel(POCKET, n_read=16, erased=layer).n_right()["pocket ARMT"] for layer in range(3)
        )
        assert whole == first == 9
        assert second < 3

    def test_typed_pairs_are_read_instead_of_drawn_ones(self):
        lab = AskModel(POCKET, typed="3:7, 11:2  3:9", n_read=3)
        assert lab.pairs() == [(3, 7), (11, 2), (3, 9)]
        assert lab.stored() == {3: 9, 11: 2}
        assert lab.n_right() == {"pocket ARMT": 2}
        assert "right for 2 (pocket ARMT) of 2 keys" in lab.description()

    @pytest.mark.parametrize("word", ["3", "16:1", "a:b", "3:-1", "3:7:9"])
    def test_what_is_no_pair_is_named(self, word):
        with pytest.raises(ValueError, match=f"digits 0 to 15 such as 3:7 11:2, got '{word}'"):
            parse_pairs(f"3:7 {word}")

    def test_limits_fit_the_model(self):
        def most(lab):
            limits = {control["name"]: control.get("max") for control in lab.controls}
            return limits["n_read"], limits["erased"]

        assert most(AskModel(LAYERS)) == (200, 1)
        assert most(AskModel(POCKET)) == (64, 2)

    def test_files_for_the_page_hold_16_bit_weights_and_no_more(self):
        labs = AskModel(LAYERS), AskModel(POCKET)
        sizes = [len(model["weights"]) for lab in labs for model in lab.models]
        assert sizes[0] < 12_000
        assert sizes[2] < 250_000

    def test_a_checkpoint_that_is_not_shipped_is_an_error(self):
        with pytest.raises(ValueError, match=r"expected one of .*rewrite-pocket-armt.*got 'gpt'"):
            AskModel({"model": "gpt"})
        with pytest.raises(ValueError, match=r"^checkpoints: expected one or two, got 3"):
            AskModel({"a": "", "b": "", "c": ""})

    def test_a_system_that_no_page_computes_is_an_error(self):
        with pytest.raises(ValueError, match=r"^system of rewrite-rmt-seed0: .*; got 'rmt'"):
            AskModel({"RMT": "rewrite-rmt-seed0"})

    def test_models_of_unequal_depth_stand_side_by_side(self):
        lab = AskModel({"layer": "rewrite-layer-alone", **POCKET}, n_read=8, erased=2)
        found = lab.experiment()
        assert [len(asked.states) for asked in found.values()] == [1, 2]
        assert lab.n_right()["layer"] == len(lab.stored())  # which has no second layer to erase
        assert lab.n_right()["pocket ARMT"] < len(lab.stored())

    def test_no_more_is_read_than_the_page_reads(self):
        assert len(AskModel(POCKET, n_read=150).pairs()) == 64
        assert "after 1 pairs" in AskModel(LAYERS, typed="3:7", n_read=8).description()


class TestFeatureMapLab:
    def test_the_plane_is_spanned_by_two_directions_at_a_right_angle(self):
        for d in (2, 7, 16):
            plane = FeatureMapLab(d_memory=d).plane()
            torch.testing.assert_close(plane @ plane.T, torch.eye(2, dtype=torch.float64))

    def test_a_key_overlaps_fully_with_itself_and_not_with_its_opposite(self):
        lab = FeatureMapLab(d_memory=12)
        for name, found in lab.turned(0).items():
            assert found.cosine == pytest.approx(1 if name != "elu_plus_one" else 0.98, abs=0.03)
        opposite = lab.turned(180)
        assert opposite["relu"].overlap == opposite["dpfp"].overlap == 0
        assert opposite["elu_plus_one"].cosine > 0.5

    def test_turning_by_the_present_angle_changes_nothing(self):
        lab = FeatureMapLab()  # x and y at a right angle
        for name, found in lab.turned(90).items():
            torch.testing.assert_close(found.y, lab.features()[name].y)

    def test_a_vector_without_features_overlaps_with_nothing(self):
        found = FeatureMapLab(x1=0.0, x2=0.0).features()
        assert found["relu"].cosine == found["dpfp"].cosine == 0


class TestSegmentWalk:
    @pytest.mark.parametrize(("n_segments", "n_layers"), [(1, 1), (1, 6), (8, 1), (5, 3), (3, 5)])
    def test_diagonals(self, n_segments, n_layers):
        for system in ("armt", "prmt"):
            walk = SegmentWalk(system=system, n_segments=n_segments, n_layers=n_layers)
            assert walk.as_soon_as_possible() == {(s, i): s + i - 1 for s, i in walk.cells()}
        walk = SegmentWalk(system="rmt", n_segments=n_segments, n_layers=n_layers)
        assert walk.as_soon_as_possible() == walk.one_after_another()

    @pytest.mark.parametrize("system", ["armt", "rmt", "prmt"])
    def test_what_a_cell_needs_is_what_the_model_reads(self, system):
        """Each layer's memory after segment 2 depends on the cells of segment 1 that it needs."""
        walk = SegmentWalk(system=system, n_segments=2, n_layers=3)
        sizes = dict(vocab_size=8, d_model=8, n_layers=3, n_heads=2, segment_length=3)
        sizes |= {"n_memory_tokens": 2}
        options = {"value_std": 0.5, "embedding_std": 0.5}
        model = {
            "armt": lambda: am.ARMT(am.ARMTConfig(**sizes, **options, d_memory=3), seed=1),
            "rmt": lambda: am.RMT(am.RecurrentConfig(**sizes), seed=1),
            "prmt": lambda: am.PRMT(am.RecurrentConfig(**sizes), seed=1),
        }[system]()

        def tensors(states):
            return [state[0] if system == "armt" else state for state in states]

        def wired(cell):
            return {cell}.union(*(wired(needed) for needed in walk.needs(cell)))

        before = [
            am.MemoryState(*(part.detach().requires_grad_() for part in state))
            if system == "armt"
            else state.detach().requires_grad_()
            for state in model.memorise(torch.tensor([[1, 2, 3]]))
        ]
        after = tensors(model.memorise(torch.tensor([[4, 5, 6]]), before))
        last = [3] if system == "rmt" else [1, 2, 3]  # the layers that hand something on
        for layer, state in zip(last, after, strict=True):
            grads = torch.autograd.grad(
                state.square().sum(), tensors(before), retain_graph=True, allow_unused=True
            )
            reached = {
                (1, i) for i, g in zip(last, grads, strict=True) if g is not None and g.any()
            }
            assert reached == {(s, i) for s, i in wired((2, layer)) if s == 1 and i in last}


class TestEstimator:
    def test_it_is_the_estimate_of_the_paper_with_wilsons_interval(self):
        estimate, low, high = Estimator().remembered()
        assert estimate == pytest.approx(200 * (16 * 0.844 - 1) / 15)
        # by hand: (211/250 + z²/500 ± z √(0.844 · 0.156/250 + z²/250000)) / (1 + z²/250), z = 1.96
        assert (low, high) == pytest.approx((156.0, 175.2), abs=0.1)

    def test_guessing_remembers_nothing_and_more_questions_say_more(self):
        assert Estimator(percent=25.0, n_values=4, n_questions=100).remembered()[0] == 0
        few, many = (Estimator(n_questions=n).remembered() for n in (250, 1000))
        assert many[2] - many[1] == pytest.approx((few[2] - few[1]) / 2, rel=0.02)


class TestPlayer:
    def test_frames_come_back_to_a_255th_of_their_scale(self):
        player = Player(FILM, MOMENTS)
        for frame in range(5):
            for title, shown in player.shown(frame).items():
                assert shown == pytest.approx(
                    FILM[title][frame], abs=np.abs(FILM[title]).max() / 250
                )

    def test_the_slider_ends_at_the_last_frame(self):
        assert Player(FILM, MOMENTS).controls[0]["max"] == 4

    def test_a_matrix_of_zeros_can_be_played(self):
        assert (Player({"A": np.zeros((5, 2, 2))}, MOMENTS).shown()["A"] == 0).all()

    @pytest.mark.parametrize("shape", [(4, 2, 2), (5, 2), (6, 2, 2)])
    def test_panels_of_another_length_are_named(self, shape):
        with pytest.raises(ValueError, match=r"panels\['A'\]: expected .* with 5 frames"):
            Player({"A": np.zeros(shape)}, MOMENTS)

    def test_nothing_to_play_is_an_error(self):
        with pytest.raises(ValueError, match="at least one of each"):
            Player({}, MOMENTS)
        with pytest.raises(ValueError, match=r"^panels\['A'\]: expected finite numbers"):
            Player({"A": np.full((5, 2, 2), np.nan)}, MOMENTS)
        with pytest.raises(ValueError, match=r"^frame: expected 0 to 4, got 50"):
            Player(FILM, MOMENTS, frame=50)

    def test_numbers_of_16_bits_are_shown_too(self):
        frames = torch.ones(5, 2, 2, dtype=torch.bfloat16)
        assert (Player({"A": frames}, MOMENTS).shown()["A"] == 1).all()
