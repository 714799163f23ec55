"""The methods that ask a trained denoiser for another law: guidance, particles, inverse problems, control."""

from clarkia.cite.method import Method

FK = ("A General Framework for Inference-time Scaling and Steering of Diffusion Models", 2025)
TDS = ("Practical and Asymptotically Exact Conditional Sampling in Diffusion Models", 2023)
AFDPS = ("Solving Inverse Problems via Diffusion-Based Priors: An Approximation-Free Ensemble Sampling Approach", 2025)
RESAMPLING = ("Comparison of Resampling Schemes for Particle Filtering", 2005)
FEYNMAN_KAC = ("Feynman-Kac Formulae", 2004)
INTERVAL = (
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models",
    2024,
)
CFG_PLUS_PLUS = ("CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models", 2024)
COMPOSABLE = ("Compositional Visual Generation with Composable Diffusion Models", 2022)
ADM = ("Diffusion Models Beat GANs on Image Synthesis", 2021)
DPS = ("Diffusion Posterior Sampling for General Noisy Inverse Problems", 2023)
PIGDM = ("Pseudoinverse-Guided Diffusion Models for Inverse Problems", 2023)
MOMENT_MATCHING = ("Learning Diffusion Priors from Observations by Expectation Maximization", 2024)
DIFFPIR = ("Denoising Diffusion Models for Plug-and-Play Image Restoration", 2023)
DDNM = ("Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", 2023)
DDRM = ("Denoising Diffusion Restoration Models", 2022)
REPAINT = ("RePaint: Inpainting using Denoising Diffusion Probabilistic Models", 2022)
FLOWCHEF = ("Steering Rectified Flow Models in the Vector Field for Controlled Image Generation", 2024)
TFG = ("TFG: Unified Training-Free Guidance for Diffusion Models", 2024)
TFG_FLOW = ("TFG-Flow: Training-free Guidance in Multimodal Generative Flow", 2025)
DISCRETE_GUIDANCE = ("Unlocking Guidance for Discrete State-Space Diffusion and Flow Models", 2024)
APS = ("Test-Time Anchoring for Discrete Diffusion Posterior Sampling", 2025)
TTS_VAR = ("TTS-VAR: A Test-Time Scaling Framework for Visual Auto-Regressive Generation", 2025)
EDLM = ("Energy-Based Diffusion Language Models for Text Generation", 2024)
DIFFUSION_CLASSIFIER = ("Your Diffusion Model is Secretly a Zero-Shot Classifier", 2023)
SELF_BENCH = ("Diffusion Classifiers Understand Compositionality, but Conditions Apply", 2025)
COUNT_BENCH = ("Text-to-Image Diffusion Models Cannot Count, and Prompt Refinement Cannot Help", 2025)
PARETO = ("Consistency-diversity-realism Pareto fronts of conditional image generative models", 2024)
CTRL = ("Adding Conditional Control to Diffusion Models with Reinforcement Learning", 2024)
LORA = ("LoRA: Low-Rank Adaptation of Large Language Models", 2021)
OVERVIEW = (
    "An Overview of Diffusion Models: Applications, Guided Generation, Statistical Rates and Optimization",
    2024,
)
REWARD_DIRECTED = (
    "Reward-Directed Conditional Diffusion: Provable Distribution Estimation and Reward Improvement",
    2023,
)
IMAGEN = ("Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding", 2022)
FORWARD_MODELS = ("Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision", 2023)
BLACK_SCHOLES = (
    "Financial Models in Generative Art: Black-Scholes-Inspired Concept Blending in Text-to-Image Diffusion",
    2024,
)
FILTER_PROMPT = ("FilterPrompt: Guiding Image Transfer in Diffusion Models", 2024)
LDFACENET = ("LDFaceNet: Latent Diffusion-based Network for High-Fidelity Deepfake Generation", 2024)
SDEDIT = ("SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", 2022)
BLENDED_DIFFUSION = ("Blended Diffusion for Text-driven Editing of Natural Images", 2022)
CROSSFLOW = ("Flowing from Words to Pixels: A Framework for Cross-Modality Evolution", 2024)

STEERING: tuple[Method, ...] = (
    Method(*FEYNMAN_KAC, "steering", "clarkia.steering.run",
           "tests/exact/test_particles.py::test_an_exact_twist_and_proposal_leave_nothing_to_chance",
           "benchmarks/results/steering-tilts.md"),
    Method(*FK, "steering", "clarkia.steering.Rewarded",
           "tests/exact/test_particles.py::test_every_kind_of_steering_reaches_the_tilt",
           "benchmarks/results/steering-tilts.md"),
    Method(*TDS, "steering", "clarkia.steering.Twist",
           "tests/exact/test_particles.py::test_twisted_particles_of_a_mixture",
           "benchmarks/results/steering-posteriors.md"),
    Method(*TDS, "steering", "clarkia.steering.measured",
           "tests/exact/test_measured_particles.py::test_twisted_particles_reach_the_posterior",
           "benchmarks/results/steering-posteriors.md"),
    Method(*AFDPS, "steering", "clarkia.steering.annealed",
           "tests/exact/test_measured_particles.py::test_annealed_particles_reach_the_posterior",
           "benchmarks/results/steering-posteriors.md"),
    Method(*RESAMPLING, "steering", "clarkia.steering.ancestors",
           "tests/exact/test_particles.py::test_particles_are_copied_in_proportion_to_their_weights"),
    Method(*INTERVAL, "guidance", "clarkia.guidance.noise_interval",
           "tests/exact/test_guidance_classifier_free.py"
           "::test_outside_the_interval_the_other_term_is_not_asked_for"),
    Method(*CFG_PLUS_PLUS, "guidance", "clarkia.guidance.classifier_free_plus_plus",
           "tests/exact/test_guidance_classifier_free.py::test_cfg_plus_plus_is_a_schedule_of_guidance"),
    Method(*COMPOSABLE, "guidance", "clarkia.guidance.compose",
           "tests/exact/test_guidance_classifier_free.py"
           "::test_conditions_of_one_width_shift_the_mean_by_their_weighted_sum"),
    Method(*ADM, "guidance", "clarkia.guidance.classifier",
           "tests/exact/test_guidance_gradients.py"
           "::test_guidance_by_the_exact_classifier_is_the_denoiser_of_the_class"),
    Method(*DPS, "guidance", "clarkia.guidance.potential",
           "tests/exact/test_guidance_gradients.py::test_the_gradient_runs_through_the_denoiser",
           "benchmarks/results/steering-linear.md"),
    Method(*DPS, "solver", "clarkia.samplers.DPS",
           "tests/exact/test_inverse_solvers.py::test_dps_is_a_plain_step_and_the_slope_of_a_norm",
           "benchmarks/results/steering-linear.md"),
    Method(*PIGDM, "guidance", "clarkia.guidance.linear",
           "tests/exact/test_guidance_linear.py::test_independent_normals_of_the_named_deviation",
           "benchmarks/results/steering-linear.md"),
    Method(*MOMENT_MATCHING, "guidance", "clarkia.guidance.linear",
           "tests/exact/test_guidance_linear.py::test_moment_matching_is_the_posterior_of_a_normal_law",
           "benchmarks/results/steering-linear.md"),
    Method(*DIFFPIR, "guidance", "clarkia.guidance.linear",
           "tests/exact/test_guidance_linear.py::test_diffpir_minimises_its_two_squares",
           "benchmarks/results/steering-linear.md"),
    Method(*DDNM, "guidance", "clarkia.guidance.linear",
           "tests/exact/test_guidance_linear.py::test_noisy_ddnm_holds_back_each_singular_direction",
           "benchmarks/results/steering-linear.md"),
    Method(*DDRM, "solver", "clarkia.samplers.DDRM",
           "tests/exact/test_inverse_solvers.py::test_ddrm_is_the_published_step_direction_by_direction",
           "benchmarks/results/steering-linear.md"),
    Method(*REPAINT, "solver", "clarkia.samplers.RePaint",
           "tests/exact/test_inverse_solvers.py::test_repaint_of_a_bivariate_normal"),
    Method(*FLOWCHEF, "guidance", "clarkia.guidance.flowchef",
           "tests/exact/test_inverse_solvers.py::test_flowchef_guidance_moves_the_prediction_alone",
           "benchmarks/results/steering-linear.md"),
    Method(*FLOWCHEF, "solver", "clarkia.samplers.FlowChef",
           "tests/exact/test_inverse_solvers.py::test_flowchef_on_a_normal_law_is_an_affine_map",
           "benchmarks/results/steering-linear.md"),
    Method(*TFG_FLOW, "guidance", "clarkia.guidance.categorical",
           "tests/exact/test_categorical_guidance.py::test_particles_remove_what_independence_costs",
           "benchmarks/results/steering-discrete.md"),
    Method(*DISCRETE_GUIDANCE, "guidance", "clarkia.guidance.categorical",
           "tests/exact/test_categorical_guidance.py::test_an_exact_predictor_of_noisy_rows_gives_the_tilt"),
    Method(*TFG_FLOW, "guidance", "clarkia.guidance.mixed",
           "tests/exact/test_categorical_guidance.py"
           "::test_a_log_linear_factor_of_numbers_is_exact_given_the_categories",
           "benchmarks/results/steering-discrete.md"),
    Method(*TFG_FLOW, "guidance", "clarkia.guidance.TFGFlow",
           "tests/exact/test_tfg_flow.py::test_a_step_is_the_published_one",
           "benchmarks/results/steering-discrete.md"),
    Method(*TFG_FLOW, "guidance", "clarkia.guidance.tfg_mixed",
           "tests/exact/test_tfg_flow.py::test_particles_turn_it_into_the_tilt",
           "benchmarks/results/steering-discrete.md"),
    Method(*TFG_FLOW, "guidance", "clarkia.guidance.loss_spread",
           "tests/exact/test_tfg_flow.py::test_the_temperature_is_the_median_difference_of_losses"),
    Method(*TFG_FLOW, "solver", "clarkia.samplers.Moved",
           "tests/exact/test_tfg_flow.py::test_a_token_is_unmasked_with_probability_h_and_none_is_left"),
    Method(*TFG, "solver", "clarkia.samplers.TFG",
           "tests/exact/test_tfg.py::test_every_special_case_is_what_its_authors_wrote",
           "benchmarks/results/steering-discrete.md"),
    Method(*TFG, "steering", "clarkia.steering.search",
           "tests/exact/test_tfg.py::test_the_search_doubles_its_way_to_the_best_settings",
           "benchmarks/results/steering-discrete.md"),
    Method(*APS, "solver", "clarkia.samplers.Anchored",
           "tests/exact/test_aps.py::test_ranking_by_the_posterior_finds_more_of_the_likeliest_tokens",
           "benchmarks/results/steering-discrete.md"),
    Method(*TTS_VAR, "steering", "clarkia.steering.staged_search",
           "tests/exact/test_staged_search.py::test_resampling_at_both_stages_has_the_limit_law",
           "benchmarks/results/steering-discrete.md"),
    Method(*TTS_VAR, "steering", "clarkia.steering.SamplerStages",
           "tests/exact/test_staged_search.py::test_a_survivor_is_an_independent_run_with_its_parents"),
    Method(*TTS_VAR, "steering", "clarkia.steering.representatives",
           "tests/exact/test_staged_search.py"
           "::test_two_tight_clusters_give_one_each_and_the_nearest_to_the_centre"),
    Method(*EDLM, "steering", "clarkia.samplers.energies.total",
           "tests/exact/test_staged_search.py"
           "::test_a_reward_and_the_residual_of_the_law_together_draw_from_the_tilt"),
    Method(*DIFFUSION_CLASSIFIER, "measure", "clarkia.measures.diffusion_classifier",
           "tests/exact/test_diffusion_classifier.py::test_shared_noise_comes_to_the_posterior",
           "benchmarks/results/diffusion-classifier.md"),
    Method(*DIFFUSION_CLASSIFIER, "estimator", "clarkia.models.classify.classify_images",
           "tests/models/test_classify.py::test_pictures_are_classified_by_how_well_they_are_restored"),
    Method(*SELF_BENCH, "measure", "clarkia.measures.fit_timestep_weights",
           "tests/exact/test_timestep_weights.py::test_a_shift_is_repaired_from_a_hundred_examples"),
    Method(*SELF_BENCH, "measure", "clarkia.bench.matching",
           "tests/bench/test_bench_of_models.py::test_matching_of_a_perfect_and_of_a_blind_model",
           "benchmarks/results/bench-matching.md"),
    Method(*SELF_BENCH, "measure", "clarkia.bench.self_bench",
           "tests/bench/test_bench_of_models.py"
           "::test_every_model_is_asked_about_the_pictures_of_every_model",
           "benchmarks/results/bench-self.md"),
    Method(*COUNT_BENCH, "measure", "clarkia.bench.counting",
           "tests/exact/test_counting_bench.py::test_a_renderer_of_poisson_numbers_follows_the_formula",
           "benchmarks/results/bench-counting.md"),
    Method(*COUNT_BENCH, "measure", "clarkia.bench.refine",
           "tests/exact/test_counting_bench.py::test_only_known_words_are_used"),
    Method(*PARETO, "measure", "clarkia.bench.pareto",
           "tests/exact/test_pareto_settings.py"
           "::test_guidance_in_an_interval_dominates_from_one_and_a_half_on",
           "benchmarks/results/bench-pareto.md"),
    Method(*CTRL, "training", "clarkia.alignment.ctrl",
           "tests/exact/test_ctrl.py::test_the_gradient_of_a_chain_of_normals",
           "benchmarks/results/control-ctrl.md"),
    Method(*CTRL, "diagnostic", "clarkia.alignment.control_gap",
           "tests/exact/test_ctrl.py::test_perfect_control_costs_minus_log_z",
           "benchmarks/results/control-ctrl.md"),
    Method(*LORA, "network", "clarkia.alignment.Copy",
           "tests/exact/test_ctrl.py::test_a_copy_starts_as_the_network_and_learns_beside_it"),
    Method(*OVERVIEW, "oracle", "clarkia.alignment.gaussian_designs",
           "tests/exact/test_reward_directed.py::test_sampled_designs_have_the_law_and_stay_in_the_subspace"),
    Method(*OVERVIEW, "measure", "clarkia.measures.subspace_leak",
           "tests/exact/test_reward_directed.py::test_leading_subspaces"),
    Method(*REWARD_DIRECTED, "conditioning", "clarkia.alignment.RewardDirected",
           "tests/exact/test_reward_directed.py::test_the_published_curve",
           "benchmarks/results/control-reward.md"),
    Method(*FORWARD_MODELS, "denoiser", "clarkia.forward_models.ThroughForward",
           "tests/exact/test_forward_model.py::test_signals_have_the_law_given_the_context",
           "benchmarks/results/control-dfm.md"),
    Method(*FORWARD_MODELS, "objective", "clarkia.objectives.ForwardModelLoss",
           "tests/exact/test_forward_model.py::test_a_net_that_saw_measurements_alone_draws_signals",
           "benchmarks/results/control-dfm.md"),
    Method(*FORWARD_MODELS, "conditioning", "clarkia.samplers.sample_views",
           "tests/exact/test_forward_model.py::test_views_drawn_one_after_another_have_the_joint_law"),
    Method(*IMAGEN, "guidance", "clarkia.guidance.dynamic_threshold",
           "tests/guidance/test_threshold.py::test_every_element_by_its_formula"),
    Method(*FORWARD_MODELS, "diagnostic", "clarkia.measures.null_space_variance",
           "tests/exact/test_forward_model.py::test_what_no_measurement_sees_collapses_to_its_mean"),
    Method(*AFDPS, "steering", "clarkia.steering.annealed_diffusion",
           "tests/exact/test_afdps_sde.py::test_the_mixture_whose_posterior_is_known"),
    Method(*BLACK_SCHOLES, "guidance", "clarkia.guidance.blend",
           "tests/exact/test_blending.py::test_with_all_else_equal_the_cheapest_call_is_the_lowest_score",
           "benchmarks/results/bench-blending.md"),
    Method(*FILTER_PROMPT, "guidance", "clarkia.guidance.filtered",
           "tests/guidance/test_filters.py::test_conditions_are_seen_through_their_filters"),
    Method(*FILTER_PROMPT, "guidance", "clarkia.guidance.lowband",
           "tests/guidance/test_filters.py::test_the_low_band_of_the_forecast_is_the_references",
           "benchmarks/results/bench-filtering.md"),
    Method(*LDFACENET, "guidance", "clarkia.guidance.composite",
           "tests/exact/test_composite.py::test_quadratic_terms_of_a_normal_law_are_one_linear_guidance",
           "benchmarks/results/bench-editing.md"),
    Method(*SDEDIT, "solver", "clarkia.samplers.started",
           "tests/exact/test_composite.py::test_a_start_is_the_noised_reference"),
    Method(*BLENDED_DIFFUSION, "solver", "clarkia.samplers.HeldOutside",
           "tests/exact/test_composite.py"
           "::test_a_forecast_held_at_the_reference_is_region_blending_with_the_noise_of_the_start"),
    Method(*CROSSFLOW, "objective", "clarkia.objectives.CrossFlow",
           "tests/exact/test_crossflow.py::test_a_trained_flow_is_right_as_often_as_the_exact_one",
           "benchmarks/results/crossflow.md"),
    Method(*CROSSFLOW, "network", "clarkia.networks.VariationalEncoder",
           "tests/exact/test_crossflow.py"
           "::test_a_text_becomes_a_code_of_the_targets_shape_and_padding_says_nothing",
           "benchmarks/results/crossflow.md"),
    Method(*CROSSFLOW, "guidance", "clarkia.guidance.indicator",
           "tests/exact/test_crossflow.py"
           "::test_the_indicator_is_the_only_condition_and_both_answers_see_one_state",
           "benchmarks/results/crossflow.md"),
)  # fmt: skip
