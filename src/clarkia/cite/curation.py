"""The methods that choose rows or make a few that stand for many."""

from clarkia.cite.method import Method

TAROT = ("TAROT: Targeted Data Selection via Optimal Transport", 2024)
NCFM = ("Dataset Distillation with Neural Characteristic Function: A Minmax Perspective", 2025)
NRR_DD = ("Enhancing Dataset Distillation via Non-Critical Region Refinement", 2025)
EMBEDDINGS = ("Generative Distribution Embeddings", 2025)

CURATION = (
    Method(*TAROT, "curation", "clarkia.curation.select",
           "tests/exact/test_selection.py::test_layers_are_those_of_the_plain_algorithm",
           "benchmarks/results/curation-select.md"),
    Method(*TAROT, "curation", "clarkia.curation.gradient_features",
           "tests/exact/test_gradient_features.py::test_all_checkpoints_count"),
    Method(*TAROT, "measure", "clarkia.curation.whitened_distance",
           "tests/exact/test_selection.py::test_no_affine_map_changes_the_whitened_distance"),
    Method(*NCFM, "curation", "clarkia.curation.distill",
           "tests/exact/test_distillation.py"
           "::test_classes_of_one_mean_are_told_apart_by_characteristic_functions_only",
           "benchmarks/results/curation-ring.md"),
    Method(*NRR_DD, "curation", "clarkia.curation.refine",
           "tests/exact/test_refinement.py::test_what_is_critical_stays_bit_for_bit",
           "benchmarks/results/curation-noncritical.md"),
    Method(*NRR_DD, "curation", "clarkia.curation.DistanceLabels",
           "tests/exact/test_refinement.py::test_two_classes_are_restored_from_a_pair_of_distances",
           "benchmarks/results/curation-noncritical.md"),
    Method(*EMBEDDINGS, "curation", "clarkia.curation.fit_distribution_embedding",
           "tests/exact/test_set_embeddings.py::test_order_and_copies_of_the_whole_set_change_nothing",
           "benchmarks/results/curation-sets.md"),
)  # fmt: skip
