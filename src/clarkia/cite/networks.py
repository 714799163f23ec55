"""The methods of real networks and of what is fitted with them: backbones, losses, averages, pictures, text."""

from clarkia.cite.method import Method

DIT = ("Scalable Diffusion Models with Transformers", 2023)
UVIT = ("All are Worth Words: A ViT Backbone for Diffusion Models", 2023)
UVIT_T2I = ("Efficient Scaling of Diffusion Transformers for Text-to-Image Generation", 2024)
ADM = ("Diffusion Models Beat GANs on Image Synthesis", 2021)
CLASSIFIER_FREE = ("Classifier-Free Diffusion Guidance", 2022)
EDM2 = ("Analyzing and Improving the Training Dynamics of Diffusion Models", 2024)
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
    Method(*DIFFUSERS, "denoiser", "clarkia.adapters.diffusers.PretrainedDenoiser",
           "tests/adapters/test_diffusers.py::test_the_same_method_gives_the_same_pictures"),
    Method(*DIFFUSERS, "solver", "clarkia.adapters.diffusers.SolverScheduler",
           "tests/adapters/test_diffusers.py::test_a_solver_walks_as_a_scheduler"),
)  # fmt: skip
