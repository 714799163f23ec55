"""What measures of representations say to arguments that they cannot take."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clarkia.measures import representations as r
from clarkia.measures.extractors import identity
from clarkia.measures.representations.codes import pack
from clarkia.processes import EDM, Masked, VarianceExploding
from clarkia.random import generator, randn

X = randn((30, 3), generator(0), dtype=torch.float64)
Y = torch.arange(30) % 3
BAD = X.clone()
BAD[5, 1] = math.nan
NET = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
CODES = pack(np.random.default_rng(0).random((10, 12)) < 0.5)
SHORT = pack(np.zeros((10, 5), bool))
FILTERS = randn((4, 2, 3, 3), generator(1))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.never = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.part(self.part(x) - 1)


class Words(nn.Module):
    def forward(self, x):
        return "words"


def twice(layer):
    return lambda: r.activations(Twice(), X, layer)


FEATURES = {
    "diffusion_spectral_entropy": ("z", lambda z: r.diffusion_spectral_entropy(z)),
    "binned_entropy": ("z", lambda z: r.binned_entropy(z)),
    "diffusion_spectral_mutual_information": ("z", lambda z: r.diffusion_spectral_mutual_information(z, Y)),
    "groups": ("y", lambda z: r.groups(z, 3)),
    "probe": ("x", lambda z: r.probe(z, Y)),
    "v_complexity": (r"layers\['a'\]", lambda z: r.v_complexity({"a": z}, X[:, 0])),
    "v_complexity ": ("z", lambda z: r.v_complexity({"a": X}, z)),
    "redundancy": ("activations", lambda z: r.redundancy(z, X[:, 0])),
    "learn_dictionary": ("activations", lambda z: r.learn_dictionary(z, 2)),
    "fuse": (r"parts\[1\]", lambda z: r.fuse([X, z])),
    "co_pca": ("y", lambda z: r.co_pca(X, z, 2)),
    "nearest_features": ("queries", lambda z: r.nearest_features(z, X)),
    "sensitivity": ("function", lambda z: r.sensitivity(lambda x: z, X, num_draws=2)),
}


@pytest.mark.parametrize(("name", "call"), FEATURES.values(), ids=FEATURES)
def test_features_that_are_no_finite_rows(name, call):
    call(X)
    with pytest.raises(ValueError, match=rf"^{name}: expected finite features, found nan in row 5, column 1\.$"):
        call(BAD)
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, found .*\.$"):
        call(X[:0])


CALLS = {
    "module": lambda: r.activations(len, X, "0"),
    "layers": lambda: r.activations(NET, X, "9"),
    "layers ": lambda: r.activations(NET, X, []),
    "layers  ": lambda: r.activations(NET, X, ["0", "0"]),
    "layers   ": twice("part"),
    "layers    ": twice("never"),
    "layers     ": lambda: r.activations(Words(), X, ""),
    "inputs": lambda: r.activations(NET, X[:0], "0"),
    "inputs ": lambda: r.activations(NET, (X, X[:2]), "0"),
    "chunk": lambda: r.activations(NET, X, "0", chunk=0),
    "pool": lambda: r.activations(NET, X, "0", pool="max"),
    "pool ": lambda: r.activations(NET, X, "0", pool=2),
    "levels": lambda: r.denoiser_features(NET, EDM, X, [-1.0], "0"),
    "levels ": lambda: r.denoiser_features(NET, EDM, X, [], "0"),
    "levels  ": lambda: r.noised(VarianceExploding(sigma_min=0.1, sigma_max=1.0), X, 5.0),
    "levels   ": lambda: r.noised(Masked(3), Y[:, None], 1.5),
    "num_draws": lambda: r.denoiser_features(NET, EDM, X, 0.5, "0", num_draws=0),
    "size": lambda: r.reservoir([X], 0),
    "batches": lambda: r.reservoir([], 3),
    "batches ": lambda: r.reservoir([X, X[:, :2]], 3),
    "bandwidth": lambda: r.diffusion_spectral_entropy(X, bandwidth=0.0),
    "bandwidth ": lambda: r.diffusion_spectral_entropy(X, bandwidth=math.nan),
    "t": lambda: r.diffusion_spectral_entropy(X, t=0),
    "t ": lambda: r.diffusion_spectral_entropy(X, t=1.5, variant="entries"),
    "base": lambda: r.diffusion_spectral_entropy(X, base=1),
    "normalisation": lambda: r.diffusion_spectral_entropy(X, normalisation="none"),
    "variant": lambda: r.diffusion_spectral_entropy(X, variant="none"),
    "neighbours": lambda: r.diffusion_spectral_entropy(X, neighbours=30),
    "max_samples": lambda: r.diffusion_spectral_entropy(X, max_samples=0),
    "landmarks": lambda: r.diffusion_spectral_entropy(X, landmarks=31),
    "landmarks ": lambda: r.diffusion_spectral_entropy(X, landmarks=5, neighbours=3),
    "num_bins": lambda: r.binned_entropy(X, num_bins=0),
    "y": lambda: r.diffusion_spectral_mutual_information(X, Y[:5]),
    "y ": lambda: r.groups(Y.reshape(10, 3)),
    "y  ": lambda: r.groups(X[:5]),
    "repetitions": lambda: r.diffusion_spectral_mutual_information(X, Y, repetitions=0),
    "num_groups": lambda: r.groups(X, 0),
    "every": lambda: r.Monitor(dict, 0),
    "module ": lambda: r.filter_monitor(NET),
    "y   ": lambda: r.probe(X, Y[:5]),
    "y    ": lambda: r.probe(X, BAD[:, 1]),
    "y     ": lambda: r.probe(X, torch.zeros(30)),
    "y      ": lambda: r.probe(X[:4], torch.tensor([0, 0, 0, 1]), num_folds=2),
    "x": lambda: r.probe(X[:3], Y[:3]),
    "kind": lambda: r.probe(X, Y, kind="forest"),
    "kind ": lambda: r.probe(X, X[:, 0], kind="logistic"),
    "num_folds": lambda: r.probe(X, Y, num_folds=1),
    "groups": lambda: r.probe(X, Y, groups=Y),
    "groups ": lambda: r.probe(X, Y, groups=Y[:4]),
    "found": lambda: r.probe_grid({}, Y),
    "share": lambda: r.probe_grid({"a": X}, Y, share=1.0),
    "layers      ": lambda: r.v_complexity({}, X[:, 0]),
    r"layers\['a'\]": lambda: r.v_complexity({"a": X[:9]}, X[:, 0]),
    "z": lambda: r.v_complexity({"a": X}, torch.ones(30)),
    "z ": lambda: r.v_complexity({"a": X[:8]}, X[:8, 0]),
    "z  ": lambda: r.redundancy(X, X[:5, 0]),
    "share ": lambda: r.redundancy(X, X[:, 0], share=1.5),
    "num_masks": lambda: r.redundancy(X, X[:, 0], num_masks=0),
    "noise": lambda: r.sensitivity(lambda x: x, X, noise=-1.0),
    "num_draws ": lambda: r.sensitivity(lambda x: x, X, num_draws=1),
    "num_features": lambda: r.learn_dictionary(X, 4),
    "activations": lambda: r.learn_dictionary(torch.zeros(5, 3), 2),
    "activations ": lambda: r.learn_dictionary(X.abs(), 2).encode(X[:, :2]),
    "layers       ": lambda: r.activation_codes(nn.Linear(3, 3), X),
    "layers        ": lambda: r.activation_codes(Twice(), X),
    "inputs  ": lambda: r.activation_codes(NET, X[:0]),
    "others": lambda: CODES.nearest(SHORT),
    "others ": lambda: CODES.logistic_accuracy(Y[:10], SHORT, Y[:10]),
    "k": lambda: CODES.nearest(CODES, 10, exclude_self=True),
    "labels": lambda: CODES.cluster_accuracy(Y),
    "other_labels": lambda: CODES.knn_accuracy(Y[:10], CODES, Y),
    "level": lambda: r.copy_alarm(CODES, CODES, CODES, level=0.0),
    "codes": lambda: r.copy_alarm(CODES, CODES, pack(np.zeros((0, 12), bool))),
    "targets": lambda: r.region_lengths(NET, X, X[:, :2]),
    "targets ": lambda: r.region_lengths(NET, X, X),
    "step": lambda: r.region_lengths(NET, X, X + 1, step=9.0),
    "module  ": lambda: r.conv_filters(NET),
    "weight": lambda: r.filter_statistics(torch.zeros(2, 2, 5, 5)),
    "weight ": lambda: r.filter_statistics(FILTERS * math.inf),
    "a": lambda: r.filter_shift(NET, FILTERS),
    "b": lambda: r.filter_shift(FILTERS, 0 * FILTERS),
    "num_bins ": lambda: r.filter_shift(FILTERS, FILTERS, num_bins=1),
    "heads": lambda: r.MomentProbe(8, 2, heads=1),
    "hidden": lambda: r.MomentProbe(8, 2, hidden=30),
    "hidden ": lambda: r.MomentProbe(8, 2, hidden=24),
    "pairs": lambda: r.MomentProbe(8, 2, pairs="two"),
    "classes": lambda: r.MomentProbe(8, 1),
    "branches": lambda: r.adapt(NET, ["7"], 3),
    "branches ": lambda: r.adapt(nn.Sequential(nn.Sequential(nn.Linear(3, 3))), ["0", "0.0"], 3),
    "rank": lambda: r.adapt(NET, ["0"], 3, rank=0),
    "predictivity": lambda: r.ShortcutLaw(predictivity=(0.4, 0.9)),
    "loudness": lambda: r.ShortcutLaw(loudness=(0.0, 1.0)),
    "correlation": lambda: r.ShortcutLaw(correlation=1.0),
    "nesting": lambda: r.ShortcutLaw(nesting=(-1, 0)),
    "dim": lambda: r.ShortcutLaw(dim=1),
    "num_samples": lambda: r.ShortcutLaw().sample(0),
    "num_points": lambda: r.shortcut_bias(lambda x: x[:, 0], r.ShortcutLaw(), num_points=1),
    "reach": lambda: r.shortcut_bias(lambda x: x[:, 0], r.ShortcutLaw(), reach=0.0),
    "classifier": lambda: r.shortcut_bias(lambda x: x, r.ShortcutLaw()),
    "kind  ": lambda: r.FeatureCodec(kind="tree"),
    "bits": lambda: r.FeatureCodec(bits=13),
    "groups  ": lambda: r.FeatureCodec(groups=0),
    "step ": lambda: r.FeatureCodec(step=-1.0),
    "step  ": lambda: r.FeatureCodec(step=1e-9).encode(X),
    "truncate": lambda: r.FeatureCodec(truncate=(1.0, 1.0)),
    "x ": lambda: r.FeatureCodec().encode(BAD),
    "x  ": lambda: r.FeatureCodec().encode(Y),
    "x   ": lambda: r.FeatureCodec(groups=4).encode(X),
    "rates": lambda: r.average_saving([1.0], [1.0], [1.0, 2.0], [1.0, 2.0]),
    "other_rates": lambda: r.average_saving([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 1.0]),
    "qualities": lambda: r.average_saving([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [3.0, 4.0]),
    "error": lambda: r.gaussian_rate(0.0),
    "parts": lambda: r.fuse([]),
    "parts ": lambda: r.fuse([X, X[:3]]),
    "weights": lambda: r.fuse([X, X], [1.0, -1.0]),
    "extractors": lambda: r.fuse_extractors([]),
    "weights ": lambda: r.fuse_extractors([identity], [1.0, 1.0]),
    "dim ": lambda: r.co_pca(X, X, 4),
    "points": lambda: r.nearest_features(X, X[:, :2]),
    "maps": lambda: r.stack_maps([X], (2, 2)),
    "target": lambda: r.correspond(FILTERS[0], FILTERS[0, :1], torch.zeros(1, 2), (9, 9), (9, 9)),
    "points ": lambda: r.correspond(FILTERS[0], FILTERS[0], torch.full((1, 2), 10.0), (9, 9), (9, 9)),
    "found ": lambda: r.pck(torch.zeros(1, 2, 2), torch.zeros(1, 3, 2), torch.ones(1)),
    "sizes": lambda: r.pck(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1)),
    "alpha": lambda: r.pck(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1), alpha=0.0),
    "visible": lambda: r.pck(
        torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1), visible=torch.zeros(1, 2, dtype=torch.bool)
    ),
    "second": lambda: r.agreement(torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)),
    "matches": lambda: r.flow_roughness(torch.zeros(1, 1, dtype=torch.int64), 3),
    "width": lambda: r.flow_roughness(torch.zeros(2, 2, dtype=torch.int64), 0),
}


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=[f"{i}-{name.strip()}" for i, name in enumerate(CALLS)])
def test_the_sentence_names_the_argument_what_was_expected_and_what_found(name, call):
    with pytest.raises(ValueError, match=rf"^{name.strip()}: expected .*, found .*\.$"):
        call()
