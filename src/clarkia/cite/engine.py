"""The methods that fit and sample: processes, schedules, networks, objectives, solvers, oracles, likelihoods."""

from clarkia.cite.method import Method

TABDIFF = ("TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation", 2024)
EDM = ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022)
DPM_SOLVER_PP = ("DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022)
DDIM = ("Denoising Diffusion Implicit Models", 2021)
NCSN = ("Generative Modeling by Estimating Gradients of the Data Distribution", 2019)
SCORE_SDE = ("Score-Based Generative Modeling through Stochastic Differential Equations", 2021)
RECTIFIED_FLOW = ("Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", 2022)
MDLM = ("Simple and Effective Masked Diffusion Language Models", 2024)
MD4 = ("Simplified and Generalized Masked Diffusion for Discrete Data", 2024)
TABSYN = ("Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent Space", 2024)
CLASSIFIER_FREE = ("Classifier-Free Diffusion Guidance", 2022)
DDPM = ("Denoising Diffusion Probabilistic Models", 2020)
UNIPC = ("UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023)
SA_SOLVER = ("SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models", 2023)
DEIS = ("Fast Sampling of Diffusion Models with Exponential Integrator", 2022)
ALIGN = ("Align Your Steps: Optimizing Sampling Schedules in Diffusion Models", 2024)
V_PREDICTION = ("Progressive Distillation for Fast Sampling of Diffusion Models", 2022)
D3PM = ("Structured Denoising Diffusion Models in Discrete State-Spaces", 2021)
SEDD = ("Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution", 2023)
FLOW_MATCHING = ("Discrete Flow Matching", 2024)
FIRST_HITTING = (
    "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical Sampling",
    2024,
)
RADD = ("Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data", 2024)
FP_GAP = ("Closing the ODE-SDE gap in score-based diffusion models through the Fokker-Planck equation", 2023)
GAUGE = ("On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models", 2024)
PRINCIPLES = ("The Principles of Diffusion Models", 2025)
SUBSPACES = ("Diffusion Models Learn Low-Dimensional Distributions via Subspace Clustering", 2024)
SINGULAR = (
    "A likelihood approach to nonparametric estimation of a singular distribution using deep generative models",
    2021,
)
VDM = ("Variational Diffusion Models", 2021)
ANY_SUBSET = ("All-in-one Simulation-based Inference", 2024)

ENGINE = (
    Method(*TABDIFF, "estimator", "clarkia.TableModel",
           "tests/models/test_table.py::test_samples_look_like_the_table_they_come_from",
           "benchmarks/results/tables-adult.md"),
    Method(*TABDIFF, "solver", "clarkia.samplers.Mixed",
           "tests/exact/test_mixed_sampling.py::test_tabdiff_sampler_has_its_published_defect_and_no_other"),
    Method(*TABDIFF, "objective", "clarkia.objectives.MixedDenoising",
           "tests/exact/test_mixed_objective.py::test_mixed_bound_is_the_log_density_within_its_standard_error"),
    Method(*TABDIFF, "network", "clarkia.networks.TabDiffNet",
           "tests/networks/test_networks.py::test_tabdiff_has_the_published_size"),
    Method(*TABDIFF, "schedule", "clarkia.schedules.LearnedPowerMean",
           "tests/exact/test_schedule_values.py::test_learned_schedules_start_where_tabdiff_does"),
    Method(*TABDIFF, "schedule", "clarkia.schedules.LearnedPolynomialMask",
           "tests/exact/test_mixed_objective.py::test_schedule_gradient_is_that_of_the_expected_loss"),
    Method(*EDM, "process", "clarkia.processes.VarianceExploding",
           "tests/exact/test_gaussian_algebra.py::test_the_score_is_the_gradient_of_the_noisy_log_density"),
    Method(*EDM, "denoiser", "clarkia.denoisers.Preconditioned",
           "tests/exact/test_schedule_values.py::test_the_weighted_loss_of_a_normal_column_is_one_at_every_noise_level"),
    Method(*EDM, "solver", "clarkia.samplers.Heun",
           "tests/exact/test_solver_order.py::test_convergence_order"),
    Method(*DPM_SOLVER_PP, "solver", "clarkia.samplers.DPMSolverPP",
           "tests/exact/test_solver_order.py::test_weak_order_of_the_stochastic_solvers"),
    Method(*DDIM, "solver", "clarkia.samplers.Euler",
           "tests/exact/test_solver_order.py::test_the_same_grid_of_ratios_gives_the_same_path_under_any_process"),
    Method(*SCORE_SDE, "process", "clarkia.processes.VariancePreserving",
           "tests/exact/test_gaussian_algebra.py::test_the_stochastic_kernel_is_bayes_rule"),
    Method(*RECTIFIED_FLOW, "process", "clarkia.processes.RectifiedFlow",
           "tests/exact/test_solver_order.py::test_euler_on_rectified_flow_is_euler_in_time"),
    Method(*MDLM, "process", "clarkia.processes.Masked",
           "tests/exact/test_masked_algebra.py::test_the_kernel_is_the_posterior_by_enumeration"),
    Method(*MDLM, "solver", "clarkia.samplers.Ancestral",
           "tests/exact/test_masked_algebra.py::test_independent_order_samples_the_textbook_law"),
    Method(*MD4, "objective", "clarkia.objectives.MixedDenoising",
           "tests/exact/test_mixed_objective.py::test_masked_bound_is_the_log_probability_of_every_cell_by_enumeration"),
    Method(*CLASSIFIER_FREE, "guidance", "clarkia.guidance.classifier_free",
           "tests/exact/test_guidance_values.py::test_guided_sampling_of_one_category"),
    Method(*ANY_SUBSET, "conditioning", "clarkia.samplers.sample",
           "tests/exact/test_conditional_sampling.py::test_a_bivariate_normal_given_one_of_its_numbers",
           "benchmarks/results/conditioning.md"),
    Method(*TABSYN, "measure", "clarkia.measures.tabsyn_2024",
           "tests/measures/test_detection.py::test_the_detection_score_is_that_of_the_reference_pipeline"),
    Method(*DDPM, "solver", "clarkia.samplers.DDPM",
           "tests/exact/test_exponential_weights.py::test_the_one_node_samplers_are_one_family"),
    Method(*DDIM, "solver", "clarkia.samplers.DDIM",
           "tests/exact/test_exponential_weights.py::test_ddim_on_normal_data_multiplies_by_the_published_factors"),
    Method(*DPM_SOLVER_PP, "solver", "clarkia.samplers.DPMSolverPPSinglestep",
           "tests/exact/test_solver_order.py::test_convergence_order", "benchmarks/results/solvers.md"),
    Method(*DPM_SOLVER_PP, "solver", "clarkia.samplers.exponential_weights",
           "tests/exact/test_exponential_weights.py::test_a_polynomial_prediction_is_integrated_exactly"),
    Method(*UNIPC, "solver", "clarkia.samplers.UniPC",
           "tests/exact/test_solver_order.py::test_convergence_order", "benchmarks/results/solvers.md"),
    Method(*SA_SOLVER, "solver", "clarkia.samplers.SASolver",
           "tests/exact/test_exponential_weights.py::test_a_stochastic_step_is_a_kernel"),
    Method(*DEIS, "solver", "clarkia.samplers.DEIS",
           "tests/exact/test_solver_order.py::test_convergence_order", "benchmarks/results/solvers.md"),
    Method(*SCORE_SDE, "solver", "clarkia.samplers.PredictorCorrector",
           "tests/exact/test_langevin.py::test_a_correction_follows_the_gradient_of_the_noisy_density"),
    Method(*NCSN, "solver", "clarkia.samplers.AnnealedLangevin",
           "tests/exact/test_langevin.py::test_the_stationary_variance_of_a_normal"),
    Method(*ALIGN, "grid", "clarkia.samplers.optimal_times",
           "tests/exact/test_grids.py::test_the_optimum_is_brute_force_over_the_bound"),
    Method(*SCORE_SDE, "process", "clarkia.processes.SubVariancePreserving",
           "tests/exact/test_conversions.py::test_sub_vp_has_less_noise_than_vp"),
    Method(*SCORE_SDE, "likelihood", "clarkia.measures.log_density",
           "tests/exact/test_likelihood_flow.py::test_the_density_of_a_mixture"),
    Method(*V_PREDICTION, "denoiser", "clarkia.denoisers.Parametrized",
           "tests/exact/test_conversions.py::test_there_and_back"),
    Method(*PRINCIPLES, "denoiser", "clarkia.denoisers.retimed",
           "tests/exact/test_conversions.py::test_a_denoiser_of_one_process_serves_another"),
    Method(*PRINCIPLES, "diagnostic", "clarkia.measures.flow_map_residuals",
           "tests/exact/test_fields_flow_maps.py::test_the_exact_map_fulfils_all_four"),
    Method(*VDM, "likelihood", "clarkia.measures.elbo",
           "tests/exact/test_likelihood_elbo.py::test_the_bound_of_an_exact_denoiser_is_the_log_density"),
    Method(*D3PM, "process", "clarkia.processes.Uniform",
           "tests/exact/test_uniform_algebra.py::test_one_finite_step_three_ways"),
    Method(*SEDD, "solver", "clarkia.samplers.TauLeaping",
           "tests/exact/test_discrete_samplers.py::test_tau_leaping_is_of_first_order"),
    Method(*SEDD, "process", "clarkia.processes.Uniform",
           "tests/exact/test_uniform_algebra.py::test_the_uniform_score_in_its_published_form"),
    Method(*FLOW_MATCHING, "process", "clarkia.processes.MixturePath",
           "tests/exact/test_uniform_algebra.py::test_reverse_rates_carry_the_noisy_law_backwards"),
    Method(*FLOW_MATCHING, "solver", "clarkia.samplers.MixtureStep",
           "tests/exact/test_discrete_samplers.py::test_the_reference_table_of_the_uniform_chain"),
    Method(*FIRST_HITTING, "solver", "clarkia.samplers.FirstHitting",
           "tests/exact/test_first_hitting.py::test_the_law_is_the_joint"),
    Method(*FIRST_HITTING, "diagnostic", "clarkia.measures.categorical_bias",
           "tests/measures/test_precision.py::test_reference_values_of_a_vocabulary_in_single_precision"),
    Method(*RADD, "likelihood", "clarkia.measures.order_nll",
           "tests/exact/test_likelihood_orders.py::test_every_order_gives_the_log_probability"),
    Method(*RADD, "likelihood", "clarkia.measures.enumerated_elbo",
           "tests/exact/test_likelihood_discrete.py::test_four_losses_of_absorbing_diffusion_are_one_bound"),
    Method(*FP_GAP, "diagnostic", "clarkia.measures.fokker_planck_residual",
           "tests/exact/test_fields_fokker_planck.py::test_mixtures_obey_the_equation"),
    Method(*FP_GAP, "diagnostic", "clarkia.measures.ode_sde_gap",
           "tests/exact/test_fields_fokker_planck.py::test_the_gap_of_the_linear_field"),
    Method(*GAUGE, "diagnostic", "clarkia.measures.gauge_decomposition",
           "tests/exact/test_fields_gauge.py::test_decomposition_finds_the_share_of_the_rotation"),
    Method(*GAUGE, "diagnostic", "clarkia.measures.stein_test",
           "tests/exact/test_fields_gauge.py::test_stein_holds_for_the_score_however_turned"),
    Method(*GAUGE, "diagnostic", "clarkia.measures.intrinsic_dimension",
           "tests/exact/test_fields_dimension.py::test_the_flow_singular_values"),
    Method(*SUBSPACES, "oracle", "clarkia.oracles.MixtureOfLowRank",
           "tests/exact/test_oracles_gaussian.py::test_every_oracle_is_the_mixture_it_stands_for"),
    Method(*SUBSPACES, "diagnostic", "clarkia.measures.recover_subspaces",
           "tests/exact/test_fields_subspaces.py::test_the_phase_transition"),
    Method(*SUBSPACES, "diagnostic", "clarkia.measures.jacobian_rank",
           "tests/exact/test_fields_subspaces.py::test_ranks_of_a_mixture_of_two_planes"),
    Method(*SINGULAR, "diagnostic", "clarkia.measures.singularity_report",
           "tests/exact/test_fields_singular.py::test_the_fitted_noise_of_rows_on_a_plane"),
)  # fmt: skip
