"""The methods that measure: two samples, memorisation, densities, fronts, representations, outliers, shift."""

from clarkia.cite.method import Method

_PAPERS: dict[tuple[str, int], tuple[tuple[str, ...], ...]] = {
    ("GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017): (
        ("measure", "frechet_distance", "exact/test_two_sample_closed_forms.py::test_frechet_paths_agree"),
    ),
    ("Effectively Unbiased FID and Inception Score and where to find them", 2020): (
        ("measure", "frechet_distance",
         "exact/test_two_sample_closed_forms.py::test_frechet_extrapolation_removes_the_bias"),
    ),
    ("Demystifying MMD GANs", 2018): (
        ("measure", "kid", "exact/test_two_sample_closed_forms.py::test_kid_averages_subsets"),
    ),
    ("Energy statistics: A class of statistics based on distances", 2013): (
        ("measure", "energy_distance", "exact/test_two_sample_closed_forms.py::test_energy_distance_of_normal_laws"),
    ),
    ("Strictly Proper Scoring Rules, Prediction, and Estimation", 2007): (
        ("measure", "energy_score", "exact/test_two_sample_closed_forms.py::test_energy_score_of_few_samples"),
        ("measure", "crps", "exact/test_two_sample_closed_forms.py::test_score_of_a_normal_forecast"),
    ),
    ("The Cauchy-Schwarz divergence and Parzen windowing: Connections to graph theory and Mercer kernels", 2006): (
        ("measure", "cauchy_schwarz", "exact/test_two_sample_closed_forms.py::test_cauchy_schwarz_of_normal_laws"),
    ),
    ("Interpolating between Optimal Transport and MMD using Sinkhorn Divergences", 2018): (
        ("measure", "sinkhorn_divergence",
         "exact/test_two_sample_closed_forms.py::test_sinkhorn_divergence_of_normal_laws"),
    ),
    ("A Kernel Two-Sample Test", 2012): (
        ("measure", "mmd2", "exact/test_discrepancy_tests.py::test_discrepancy_by_definition"),
        ("measure", "mmd_permutation_test", "exact/test_discrepancy_tests.py::test_permutations_in_one_pass"),
    ),
    ("Rethinking FID: Towards a Better Evaluation Metric for Image Generation", 2024): (
        ("measure", "cmmd", "exact/test_discrepancy_tests.py::test_cmmd_is_on_the_unit_sphere"),
    ),
    ("The Conditional Cauchy-Schwarz Divergence with Applications to Time-Series Data and Sequential "
     "Decision Making", 2023): (
        ("measure", "conditional_cauchy_schwarz",
         "exact/test_discrepancy_tests.py::test_conditional_divergence_by_definition"),
    ),
    ("Cauchy-Schwarz Divergence Information Bottleneck for Regression", 2024): (
        ("measure", "cauchy_schwarz_dependence",
         "exact/test_discrepancy_tests.py::test_dependence_of_normal_variables"),
        ("objective", "shift.Bottleneck",
         "exact/test_bottleneck.py::test_the_loss_is_misfit_plus_what_is_kept", "shift-regression.md"),
        ("measure", "shift.cs_mutual_information", "exact/test_bottleneck.py::test_information_of_a_bivariate_normal"),
    ),
    ("Dataset Distillation with Neural Characteristic Function: A Minmax Perspective", 2025): (
        ("measure", "characteristic_distance",
         "exact/test_characteristic_distance.py::test_power_two_is_the_discrepancy_of_a_gaussian_kernel"),
    ),
    ("Sliced and Radon Wasserstein Barycenters of Measures", 2015): (
        ("measure", "sliced_wasserstein", "exact/test_two_sample_transport.py::test_sliced_distance_of_a_shift"),
    ),
    ("Generalized Sliced Wasserstein Distances", 2019): (
        ("measure", "sliced_wasserstein", "exact/test_two_sample_transport.py::test_slices_of_a_users_own"),
    ),
    ("Max-Sliced Wasserstein Distance and its use for GANs", 2019): (
        ("measure", "max_sliced_wasserstein",
         "exact/test_two_sample_transport.py::test_largest_slice_of_two_normal_laws"),
    ),
    ("Computational Optimal Transport", 2019): (
        ("measure", "exact_wasserstein",
         "exact/test_two_sample_transport.py::test_exact_transport_against_brute_force"),
    ),
    ("Reliable Fidelity and Diversity Metrics for Generative Models", 2020): (
        ("measure", "prdc", "exact/test_prdc_and_vendi.py::test_expectations_for_one_law"),
    ),
    ("Improved Precision and Recall Metric for Assessing Generative Models", 2019): (
        ("measure", "prdc", "exact/test_prdc_and_vendi.py::test_by_definition"),
    ),
    ("Probabilistic Precision and Recall Towards Reliable Evaluation of Generative Models", 2023): (
        ("measure", "soft_precision_recall", "exact/test_prdc_and_vendi.py::test_soft_precision_by_definition"),
    ),
    ("How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models", 2022): (
        ("measure", "alpha_precision", "exact/test_prdc_and_vendi.py::test_alpha_precision_on_a_line"),
    ),
    ("The Vendi Score: A Diversity Evaluation Metric for Machine Learning", 2022): (
        ("measure", "vendi", "exact/test_prdc_and_vendi.py::test_primal_is_dual"),
    ),
    ("Kernel Density Estimators in Large Dimensions", 2024): (
        ("measure", "kernel_regimes", "exact/test_density_theory.py::test_reference_values", "density_regimes.md"),
        ("measure", "density_regimes", "exact/test_density_theory.py::test_normal_rows", "density_regimes.md"),
    ),
    ("MLE convergence speed to information projection of exponential family", 2021): (
        ("measure", "pn_criterion", "exact/test_density_projection.py::test_closed_forms"),
    ),
    ("A Simple General Approach to Inference About the Tail of a Distribution", 1975): (
        ("measure", "hill_index", "exact/test_density_theory.py::test_hill_of_a_power_law"),
    ),
    ("Consistency-diversity-realism Pareto fronts of conditional image generative models", 2024): (
        ("measure", "sweep", "exact/test_fronts.py::test_guidance_trades_diversity_for_consistency"),
    ),
    ("A Fast Way of Calculating Exact Hypervolumes", 2012): (
        ("measure", "hypervolume", "exact/test_fronts.py::test_all_routes_agree"),
    ),
    ("Information-Theoretic Diffusion", 2023): (
        ("measure", "immse_log_density",
         "exact/test_likelihood_bits.py::test_the_log_density_of_a_mixture_from_errors_alone"),
    ),
    ("A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020): (
        ("measure", "copy_test", "exact/test_memorisation.py::test_a_complete_copier_s_statistic"),
    ),
    ("Extracting Training Data from Diffusion Models", 2023): (
        ("measure", "memorisation", "exact/test_memorisation.py::test_what_is_reported_by_enumeration"),
    ),
    ("Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density "
     "Estimation Framework for Out-of-Distribution Detection", 2023): (
        ("measure", "outliers.GroupedGaussians",
         "exact/test_outliers.py::test_group_scores_of_the_own_class_are_chi_square", "outliers-digits.md"),
        ("objective", "outliers.HVCMLoss", "exact/test_hvcm.py::test_the_terms_of_the_loss", "outliers-digits.md"),
        ("objective", "outliers.DistilledHVCMLoss",
         "exact/test_hvcm.py::test_the_teacher_follows_and_is_not_trained"),
        ("measure", "outliers.HVCMScorer",
         "exact/test_hvcm.py::test_training_makes_attributes_follow_their_class", "outliers-digits.md"),
    ),
    ("Towards Class Agnostic Anomaly Detection via Residual Feature Learning", 2025): (
        ("measure", "outliers.ResidualDetector",
         "exact/test_resad.py::test_whitening_takes_place_and_scale_of_a_class_away",
         "outliers-products.md"),
        ("measure", "outliers.ResidualFeatures", "exact/test_resad.py::test_a_row_of_the_bank_has_no_residual"),
        ("objective", "outliers.HypersphereConstraint", "exact/test_resad.py::test_radius_and_barrier"),
        ("measure", "outliers.ResidualFlow", "exact/test_resad.py::test_the_terms_of_the_flow", "outliers-products.md"),
    ),
    ("Out-of-Distribution Detection with Deep Nearest Neighbors", 2022): (
        ("measure", "outliers.NearestNeighbours", "exact/test_outliers.py::test_distances_to_neighbours_on_a_line"),
    ),
    ("A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", 2018): (
        ("measure", "outliers.Mahalanobis",
         "exact/test_outliers.py::test_the_mahalanobis_distance_ranks_as_linear_discriminant_analysis"),
    ),
    ("Energy-based Out-of-distribution Detection", 2020): (
        ("measure", "outliers.Energy", "exact/test_outliers.py::test_energy_and_largest_probability_of_given_logits"),
    ),
    ("A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", 2016): (
        ("measure", "outliers.MaximumSoftmax",
         "exact/test_outliers.py::test_energy_and_largest_probability_of_given_logits"),
    ),
    ("Denoising Diffusion Models for Out-of-Distribution Detection", 2022): (
        ("measure", "outliers.DenoisingError", "exact/test_outliers.py::test_the_denoising_error_of_a_normal_law"),
    ),
    ("Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality", 2019): (
        ("measure", "outliers.LogLikelihood",
         "exact/test_outliers.py::test_a_typical_row_is_not_the_most_probable_one"),
    ),
    ("Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent Embeddings", 2019): (
        ("measure", "aupro", "exact/test_scores.py::test_overlap_of_regions_by_its_definition"),
    ),
    ("How Well Does GPT-4V(ision) Adapt to Distribution Shifts? A Preliminary Investigation", 2023): (
        ("measure", "shift.Suite", "exact/test_shift.py::test_a_known_table_is_recovered", "shift-digits.md"),
    ),
    ("Your Diffusion Model is Secretly a Zero-Shot Classifier", 2023): (
        ("measure", "shift.DenoisingClassifier",
         "exact/test_shift.py::test_a_denoiser_that_knows_its_classes_gives_their_posterior", "shift-digits.md"),
    ),
    ("Accuracy on the Curve: On the Nonlinear Correlation of ML Performance Between Data Subpopulations", 2023): (
        ("measure", "shift.subgroup_curve", "exact/test_subgroups.py::test_a_parabola_is_found", "shift-subgroups.md"),
    ),
    ("Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion "
     "Spectral Entropy", 2023): (
        ("measure", "representations.diffusion_spectral_entropy",
         "exact/test_representations_spectral.py::test_points_on_a_circle", "representations.md"),
        ("measure", "representations.diffusion_spectral_mutual_information",
         "exact/test_representations_spectral.py::test_information_of_three_clusters", "representations.md"),
        ("measure", "representations.representation_monitor",
         "measures/test_representation_monitor.py::test_digits_spread_out_while_a_network_learns_them",
         "representations.md"),
    ),
    ("Diffusion Models Beat GANs on Image Classification", 2023): (
        ("measure", "representations.denoiser_features",
         "exact/test_representations_probes.py::test_features_of_a_denoiser", "representations.md"),
        ("measure", "representations.probe_grid",
         "exact/test_representations_probes.py::test_a_grid_is_scored_on_rows_that_did_not_choose",
         "representations.md"),
    ),
    ("Understanding Visual Feature Reliance through the Lens of Complexity", 2024): (
        ("measure", "representations.v_complexity",
         "exact/test_representations_networks.py::test_complexity_of_known_features", "representations.md"),
    ),
    ("Neural networks behave as hash encoders: An empirical study", 2021): (
        ("measure", "representations.activation_codes",
         "exact/test_representations_networks.py::test_codes_of_a_line_count_its_breakpoints", "representations.md"),
        ("measure", "representations.copy_alarm",
         "exact/test_representations_networks.py::test_copies_stand_out", "representations.md"),
    ),
    ("CNN Filter DB: An Empirical Investigation of Trained Convolutional Filters", 2022): (
        ("measure", "representations.conv_filters",
         "exact/test_representations_networks.py::test_published_thresholds_and_entropies", "representations.md"),
        ("measure", "representations.filter_shift",
         "exact/test_representations_networks.py::test_the_shift_between_two_sets_of_filters", "representations.md"),
    ),
    ("Tuning Pre-trained Model via Moment Probing", 2023): (
        ("network", "representations.MomentProbe",
         "exact/test_representations_networks.py::test_cross_covariances_are_numpys", "representations.md"),
        ("network", "representations.adapt",
         "exact/test_representations_networks.py::test_adapters_start_as_nothing_and_train_alone",
         "representations.md"),
    ),
    ("On the Foundations of Shortcut Learning", 2023): (
        ("measure", "representations.shortcut_bias",
         "exact/test_representations_networks.py::test_the_best_use_of_a_shortcut", "representations.md"),
    ),
    ("Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark", 2024): (
        ("measure", "representations.FeatureCodec",
         "exact/test_representations_codec.py::test_the_rate_of_a_uniform_quantiser_of_a_normal_law",
         "representations.md"),
        ("measure", "representations.train_feature_codec",
         "exact/test_representations_learned_codec.py::"
         "test_decoded_symbols_are_the_encoded_ones_at_the_laws_entropy", "representations.md"),
    ),
    ("Random Features for Large-Scale Kernel Machines", 2007): (
        ("measure", "representations.diffusion_spectral_entropy",
         "exact/test_representations_spectral.py::"
         "test_fourier_features_are_the_walk_of_the_kernel_that_they_stand_for", "representations.md"),
    ),
    ("Emerging Properties in Self-Supervised Vision Transformers", 2021): (
        ("objective", "outliers.agreement_loss", "exact/test_hvcm.py::test_agreement_by_hand"),
    ),
    ("A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence", 2023): (
        ("measure", "representations.fuse",
         "exact/test_representations_correspondence.py::test_fused_distance_is_the_weighted_cosine",
         "representations.md"),
        ("measure", "representations.correspond",
         "exact/test_representations_correspondence.py::test_an_image_matches_itself_and_its_mirror_image",
         "representations.md"),
    ),
}  # fmt: skip
"""By paper: kind, name in `clarkia.measures`, proof below tests, and figure below benchmarks/results."""

MEASURES = tuple(
    Method(
        *paper, kind, f"clarkia.measures.{name}", f"tests/{proof}", *(f"benchmarks/results/{file}" for file in figure)
    )
    for paper, entries in _PAPERS.items()
    for kind, name, proof, *figure in entries
)
