"""The methods of real networks and of what is fitted with them: backbones, losses, averages, pictures, text."""

from clarkia.cite.method import Method

DIT = ("Scalable Diffusion Models with Transformers", 2023)
UVIT = ("All are Worth Words: A ViT Backbone for Diffusion Models", 2023)
UVIT_T2I = ("Efficient Scaling of Diffusion Transformers for Text-to-Image Generation", 2024)
ADM = ("Diffusion Models Beat GANs on Image Synthesis", 2021)
CLASSIFIER_FREE = ("Classifier-Free Diffusion Guidance", 2022)
EDM2 = ("Analyzing and Improving the Training Dynamics of Diffusion Models", 2024)
MUON = ("Muon: An optimizer for hidden layers in neural networks", 2024)
EDLM = ("Energy-Based Diffusion Language Models for Text Generation", 2024)
RADD = ("Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data", 2024)
MDLM = ("Simple and Effective Masked Diffusion Language Models", 2024)
EDM = ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022)
DLLM_SURVEY = ("Discrete Diffusion in Large Language and Multimodal Models: A Survey", 2025)
FT_TRANSFORMER = ("Revisiting Deep Learning Models for Tabular Data", 2021)
VDM_PLUS = ("Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation", 2023)
SD3 = ("Scaling Rectified Flow Transformers for High-Resolution Image Synthesis", 2024)
MIN_SNR = ("Efficient Diffusion Training via Min-SNR Weighting Strategy", 2023)
P2 = ("Perception Prioritized Training of Diffusion Models", 2022)
SEDD = ("Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution", 2023)
FLOW_MATCHING = ("Discrete Flow Matching", 2024)
MT_DIFFUSION = ("Diffusion Models for Multi-Task Generative Modeling", 2024)
NEODIFF = ("Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes", 2025)
DIFFUSERS = ("Diffusers: State-of-the-art diffusion models", 2022)

NETWORKS = (
    Method(*DIT, "network", "clarkia.networks.DiT",
           "tests/exact/test_network_counts.py"
           "::test_diffusion_transformers_have_the_published_numbers_of_parameters"),
    Method(*UVIT, "network", "clarkia.networks.UViT",
           "tests/exact/test_network_counts.py"
           "::test_vision_transformers_with_long_skips_have_the_published_numbers"),
    Method(*UVIT_T2I, "network", "clarkia.networks.matched",
           "tests/exact/test_network_counts.py"
           "::test_blocks_of_vision_transformers_cost_what_the_formulas_say"),
    Method(*ADM, "network", "clarkia.networks.UNet",
           "tests/exact/test_network_facts.py::test_a_new_network_answers_zero", "benchmarks/results/networks.md"),
    Method(*CLASSIFIER_FREE, "conditioning", "clarkia.networks.ConditionEmbedding",
           "tests/networks/test_conditioning.py::test_a_dropped_row_is_a_row_that_is_given_nothing"),
    Method(*EDM2, "training", "clarkia.training.TrainingOptions",
           "tests/exact/test_training_steps.py::test_the_inverse_square_root_is_that_of_edm2"),
    Method(*EDM2, "training", "clarkia.training.fit",
           "tests/exact/test_training_steps.py"
           "::test_power_averages_are_those_of_the_weights_after_every_step", "benchmarks/results/training.md"),
    Method(*MUON, "training", "clarkia.training.TrainingOptions",
           "tests/training/test_muon.py::test_matrices_and_kernels_of_blocks_follow_the_formula_and_all_else_follows_adamw",
           "benchmarks/results/images-shapes.md"),
    Method(*RADD, "network", "clarkia.networks.TokenTransformer",
           "tests/networks/test_tokens.py::test_both_twins_learn_a_chain_to_its_entropy", "benchmarks/results/edlm.md"),
    Method(*FT_TRANSFORMER, "network", "clarkia.networks.FieldTransformer",
           "tests/networks/test_fields.py::test_a_table_model_runs_on_it"),
    Method(*EDLM, "solver", "clarkia.samplers.EnergyCorrection",
           "tests/exact/test_edlm.py::test_the_law_of_the_chain_gets_nearer_with_more_candidates",
           "benchmarks/results/edlm.md"),
    Method(*EDLM, "objective", "clarkia.objectives.ResidualNCE",
           "tests/exact/test_edlm.py::test_noise_contrast_recovers_the_exact_energy"),
    Method(*EDLM, "network", "clarkia.networks.EnergyHead",
           "tests/networks/test_tokens.py::test_an_energy_starts_at_zero_from_a_copy_and_learns"),
    Method(*EDLM, "likelihood", "clarkia.measures.joint_elbo",
           "tests/exact/test_edlm.py::test_samples_enclose_the_bound"),
    Method(*EDLM, "likelihood", "clarkia.measures.enumerated_joint_elbo",
           "tests/exact/test_edlm.py::test_the_exact_joint_bounds_copied_bits_by_their_entropy"),
    Method(*EDLM, "likelihood", "clarkia.measures.edlm_paper",
           "tests/exact/test_edlm.py::test_the_published_figure_is_not_a_bound"),
    Method(*DLLM_SURVEY, "objective", "clarkia.objectives.ComplementaryMasking",
           "tests/exact/test_masking.py::test_pairs_are_the_bound_with_less_variance_than_two_draws"),
    Method(*EDM, "estimator", "clarkia.ImageModel",
           "tests/models/test_image.py::test_samples_of_a_class_are_recognised_as_that_class",
           "benchmarks/results/images-mnist.md"),
    Method(*MDLM, "estimator", "clarkia.TextModel",
           "tests/models/test_text.py::test_what_it_writes_are_sentences_like_those_it_read",
           "benchmarks/results/text.md"),
    Method(*VDM_PLUS, "objective", "clarkia.objectives.Denoising",
           "tests/exact/test_gaussian_objective.py"
           "::test_the_loss_of_a_normal_law_is_its_weighted_posterior_variance",
           "benchmarks/results/objectives-lattice.md"),
    Method(*SD3, "objective", "clarkia.objectives.LogitNormal",
           "tests/exact/test_noise_axis.py::test_logit_normal_times_are_log_normal_ratios"),
    Method(*MIN_SNR, "objective", "clarkia.objectives.weights.min_snr",
           "tests/exact/test_noise_axis.py::test_every_row_is_the_loss_in_its_own_parametrisation"),
    Method(*P2, "objective", "clarkia.objectives.weights.p2",
           "tests/exact/test_noise_axis.py::test_the_two_free_rows_follow_their_parameters"),
    Method(*RADD, "objective", "clarkia.objectives.MaskedELBO",
           "tests/exact/test_masked_objectives.py"
           "::test_with_the_exact_denoiser_every_estimator_is_minus_log_p_of_each_row",
           "benchmarks/results/objectives-variance.md"),
    Method(*SEDD, "objective", "clarkia.objectives.ScoreEntropy",
           "tests/exact/test_uniform_objectives.py::test_the_score_entropy_is_minus_log_p_of_each_row",
           "benchmarks/results/objectives-variance.md"),
    Method(*FLOW_MATCHING, "objective", "clarkia.objectives.DiscreteFlowMatching",
           "tests/exact/test_uniform_objectives.py"
           "::test_the_flow_bound_of_a_fair_coin_is_above_its_entropy_by_a_known_gap"),
    Method(*EDM2, "objective", "clarkia.objectives.LevelBalance",
           "tests/exact/test_gaussian_objective.py::test_the_balance_learns_the_logarithm_of_the_loss"),
    Method(*EDM2, "training", "clarkia.training.posthoc",
           "tests/exact/test_weight_averages.py::test_other_lengths_come_out_as_if_they_had_been_tracked"),
    Method(*MT_DIFFUSION, "process", "clarkia.processes.AggregatedGaussian",
           "tests/exact/test_multitask.py::test_the_published_posterior"),
    Method(*MT_DIFFUSION, "objective", "clarkia.objectives.MultiTaskELBO",
           "tests/exact/test_multitask.py::test_the_losses_of_exact_heads_are_their_posterior_variances",
           "benchmarks/results/multitask.md"),
    Method(*MT_DIFFUSION, "solver", "clarkia.samplers.given_classes",
           "tests/exact/test_multitask.py::test_samples_given_a_class_are_those_of_the_class",
           "benchmarks/results/multitask.md"),
    Method(*NEODIFF, "process", "clarkia.processes.TokenEmbeddingGaussian",
           "tests/exact/test_neodiff.py"
           "::test_the_oracle_of_tokens_at_times_of_their_own_is_bayes_by_enumeration"),
    Method(*NEODIFF, "schedule", "clarkia.schedules.PoissonElementTime",
           "tests/exact/test_neodiff.py::test_the_reference_distribution"),
    Method(*NEODIFF, "solver", "clarkia.samplers.ElementTime",
           "tests/exact/test_neodiff.py::test_tokens_are_noised_to_the_times_of_the_policy",
           "benchmarks/results/neodiff.md"),
    Method(*DIFFUSERS, "denoiser", "clarkia.adapters.diffusers.PretrainedDenoiser",
           "tests/adapters/test_diffusers.py::test_the_same_method_gives_the_same_pictures"),
    Method(*DIFFUSERS, "solver", "clarkia.adapters.diffusers.SolverScheduler",
           "tests/adapters/test_diffusers.py::test_a_solver_walks_as_a_scheduler"),
)  # fmt: skip
