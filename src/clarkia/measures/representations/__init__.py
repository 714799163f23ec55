"""What a network's features are like: how spread out, how readable, how deep, how redundant, and what they cost."""

from clarkia.measures.representations.activation_codes import activation_codes, region_lengths
from clarkia.measures.representations.codes import Codes, CopyAlarm, copy_alarm
from clarkia.measures.representations.complexity import VComplexity, importance, redundancy, sensitivity, v_complexity
from clarkia.measures.representations.correspondence import (
    Agreement,
    KeypointScore,
    agreement,
    correspond,
    flow_roughness,
    nearest_features,
    pck,
    stack_maps,
)
from clarkia.measures.representations.denoising import denoiser_features, denoiser_tap, noised
from clarkia.measures.representations.dictionary import Dictionary, learn_dictionary
from clarkia.measures.representations.feature_codec import FeatureCodec, bits_per_value, decode_features
from clarkia.measures.representations.filters import (
    LayerFilters,
    conv_filters,
    filter_shift,
    filter_statistics,
    random_threshold,
    variance_entropy,
)
from clarkia.measures.representations.fusion import co_pca, fuse, fuse_extractors
from clarkia.measures.representations.learned_codec import LearnedCodec, train_feature_codec
from clarkia.measures.representations.moment_probe import Adapted, CrossCovariance, MomentProbe, adapt
from clarkia.measures.representations.monitor import Monitor, filter_monitor, representation_monitor
from clarkia.measures.representations.probes import Probe, ProbeGrid, probe, probe_grid
from clarkia.measures.representations.rate_curves import RatePoint, average_saving, gaussian_rate, rate_task_curve
from clarkia.measures.representations.sampling import reservoir
from clarkia.measures.representations.shortcuts import ShortcutBias, ShortcutLaw, shortcut_bias
from clarkia.measures.representations.spectral_entropy import (
    SpectralEntropy,
    binned_entropy,
    diffusion_spectral_entropy,
)
from clarkia.measures.representations.spectral_information import (
    SpectralInformation,
    diffusion_spectral_mutual_information,
    groups,
)
from clarkia.measures.representations.tap import activations, tap

__all__ = [
    "Adapted",
    "Agreement",
    "Codes",
    "CopyAlarm",
    "CrossCovariance",
    "Dictionary",
    "FeatureCodec",
    "KeypointScore",
    "LayerFilters",
    "LearnedCodec",
    "MomentProbe",
    "Monitor",
    "Probe",
    "ProbeGrid",
    "RatePoint",
    "ShortcutBias",
    "ShortcutLaw",
    "SpectralEntropy",
    "SpectralInformation",
    "VComplexity",
    "activation_codes",
    "activations",
    "adapt",
    "agreement",
    "average_saving",
    "binned_entropy",
    "bits_per_value",
    "co_pca",
    "conv_filters",
    "copy_alarm",
    "correspond",
    "decode_features",
    "denoiser_features",
    "denoiser_tap",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "filter_monitor",
    "filter_shift",
    "filter_statistics",
    "flow_roughness",
    "fuse",
    "fuse_extractors",
    "gaussian_rate",
    "groups",
    "importance",
    "learn_dictionary",
    "nearest_features",
    "noised",
    "pck",
    "probe",
    "probe_grid",
    "random_threshold",
    "rate_task_curve",
    "redundancy",
    "region_lengths",
    "representation_monitor",
    "reservoir",
    "sensitivity",
    "shortcut_bias",
    "stack_maps",
    "tap",
    "train_feature_codec",
    "v_complexity",
    "variance_entropy",
]
