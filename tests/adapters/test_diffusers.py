"""Randomly initialised networks of diffusers, walked by its schedulers and by ours."""

import math
import warnings

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.adapters.diffusers import SolverScheduler, denoiser_of, from_pipeline, process_of, times_of
from clarkia.guidance import classifier_free
from clarkia.testing import check_denoiser

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers, about optional packages


def network(channels=3, **options):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **options,
    ).eval()


@torch.no_grad()
def walked(net, scheduler, x, steps, **arguments):
    """As every pipeline does it."""
    scheduler.set_timesteps(steps)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        answer = net(scaled, timestep, **arguments).sample
        x = scheduler.step(answer, timestep, x).prev_sample
    return x


NOISE = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PLAIN = {"clip_sample": False}
SAME = {
    "ddim": ("DDIMScheduler", PLAIN | {"timestep_spacing": "trailing"}, samplers.DDIM()),
    "ddim, leading": ("DDIMScheduler", PLAIN | {"timestep_spacing": "leading"}, samplers.DDIM()),
    "ddim, offset": ("DDIMScheduler", PLAIN | STABLE | {"steps_offset": 1, "set_alpha_to_one": False}, samplers.DDIM()),
    "ddim, v": (
        "DDIMScheduler",
        PLAIN | {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        samplers.DDIM(),
    ),
    "ddim, no signal": (
        "DDIMScheduler",
        PLAIN | {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
        samplers.DDIM(),
    ),
    "ddim, sample": ("DDIMScheduler", PLAIN | {"prediction_type": "sample"}, samplers.DDIM()),
    "2m": (
        "DPMSolverMultistepScheduler",
        STABLE | {"timestep_spacing": "trailing", "final_sigmas_type": "zero", "lower_order_final": False},
        samplers.DPMSolverPP(order=2),
    ),
    "unipc": (
        "UniPCMultistepScheduler",
        STABLE | {"timestep_spacing": "trailing", "final_sigmas_type": "zero", "lower_order_final": False},
        samplers.UniPC(order=2),
    ),
    "flow": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, samplers.Euler()),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_method_gives_the_same_pictures(case):
    name, options, solver = SAME[case]
    scheduler, net = getattr(diffusers, name)(**options), network()
    theirs = walked(net, scheduler, NOISE, 10)
    denoiser = denoiser_of(net, scheduler)
    times = times_of(scheduler, 10)
    start = NOISE
    ours = samplers.sample(denoiser, denoiser.process, initial=start, times=times, solver=solver)
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_a_scheduler_in_other_units_is_the_same_walk():
    """Euler's scheduler walks x / alpha; the start differs by the scale of the last level alone."""
    scheduler, net = diffusers.EulerDiscreteScheduler(**STABLE, timestep_spacing="trailing"), network()
    scheduler.set_timesteps(10)
    sigma = float(scheduler.sigmas[0])
    start = NOISE * scheduler.init_noise_sigma / math.sqrt(1 + sigma**2)
    theirs = walked(net, scheduler, NOISE, 10)
    denoiser = denoiser_of(net, scheduler)
    ours = samplers.sample(
        denoiser, denoiser.process, initial=start, times=times_of(scheduler, 10), solver=samplers.DDIM()
    )
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_edm_networks():
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    net = network()
    theirs = walked(net, scheduler, NOISE, 8)
    denoiser = denoiser_of(net, scheduler)
    scheduler.set_timesteps(8)
    start = NOISE * scheduler.init_noise_sigma
    ours = samplers.sample(
        denoiser, denoiser.process, initial=start, times=times_of(scheduler, 8), solver=samplers.Euler()
    )
    assert float((ours - theirs).abs().max()) <= 2e-5 * float(theirs.abs().max())


@pytest.mark.parametrize(
    "solver", [samplers.DDIM(), samplers.DPMSolverPP(order=2), samplers.UniPC(order=2), samplers.Heun()], ids=repr
)
@pytest.mark.parametrize("kind", ["table", "flow"])
def test_a_solver_walks_as_a_scheduler(solver, kind):
    own = diffusers.DDIMScheduler(clip_sample=False) if kind == "table" else diffusers.FlowMatchEulerDiscreteScheduler()
    net = network()
    scheduler = SolverScheduler(solver, own)
    theirs = walked(net, scheduler, NOISE, 7)
    denoiser = denoiser_of(net, own)
    ours = samplers.sample(denoiser, denoiser.process, initial=NOISE, times=times_of(own, 7), solver=solver)
    torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-4)
    again = walked(net, scheduler, NOISE, 7)
    assert again.equal(theirs)


def test_a_stochastic_solver_and_a_grid_of_ones_own():
    own = diffusers.DDPMScheduler(clip_sample=False)
    scheduler = SolverScheduler(samplers.DDIM(eta=1.0), own, grid=schedules.log_snr)
    net, process = network(), process_of(own)
    scheduler.set_timesteps(6)
    assert len(scheduler.timesteps) == 6
    generator, x = torch.Generator().manual_seed(3), NOISE
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            x = scheduler.step(net(x, timestep).sample, timestep, x, generator=generator).prev_sample
    denoiser = denoiser_of(net, own)
    ours = samplers.sample(
        denoiser,
        process,
        initial=NOISE,
        times=schedules.log_snr(6, process),
        solver=samplers.DDIM(eta=1.0),
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(x, ours, atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="expected set_timesteps before"):
        scheduler.step(x, 0, x)
    noisy = scheduler.add_noise(NOISE, torch.ones_like(NOISE), torch.full((4,), 500))
    torch.testing.assert_close(noisy, own.add_noise(NOISE, torch.ones_like(NOISE), torch.full((4,), 500)))


def test_a_solver_drives_a_whole_pipeline():
    own = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipeline = diffusers.DDIMPipeline(network(), own)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=5, output_type="np").images
    pipeline.scheduler = SolverScheduler(samplers.DDIM(), own)
    found = diffusers.DDPMPipeline.__call__(
        pipeline, 2, torch.Generator().manual_seed(0), num_inference_steps=5, output_type="np"
    ).images
    assert abs(found - expected).max() <= 1e-5


def conditional(tokens=8):
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=tokens,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()


def test_guidance_on_the_latents_of_a_text_pipeline():
    """What a text-to-image pipeline does: twice the batch, guidance, a decoder; their weight is ours plus one."""
    own, net = diffusers.DDIMScheduler(**STABLE, clip_sample=False), conditional()
    torch.manual_seed(2)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8, scaling_factor=0.5
    ).eval()
    pipeline = type("Pipeline", (), {"unet": net, "scheduler": own, "vae": vae})()
    prompt, empty = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    parts = from_pipeline(pipeline, nothing={"tokens": empty})
    assert parts.shape == (4, 8, 8)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    guided = classifier_free(parts.denoiser, 2.0)
    condition = {"tokens": prompt.expand(2, -1, -1)}
    ours = samplers.sample(
        guided, parts.process, initial=start, times=times_of(own, 6), solver=samplers.DDIM(), condition=condition
    )
    own.set_timesteps(6)
    x = start
    with torch.no_grad():
        for timestep in own.timesteps:
            both = net(
                torch.cat([x, x]), timestep, encoder_hidden_states=torch.cat([empty, prompt]).repeat_interleave(2, 0)
            ).sample
            free, given = both.chunk(2)
            x = own.step(free + 3.0 * (given - free), timestep, x).prev_sample
        pictures = vae.decode(x / 0.5).sample
    assert float((ours - x).abs().max()) <= 1e-5 * float(x.abs().max())
    torch.testing.assert_close(parts.decode(ours), pictures, atol=1e-4, rtol=1e-4)
    assert parts.encode(pictures).shape == start.shape
    with torch.no_grad():
        dropped = parts.denoiser(start, torch.full((2,), 0.5), {**condition, "present": torch.tensor([True, False])})
        rows = [
            parts.denoiser(start[:1], torch.full((1,), 0.5), {"tokens": prompt}),
            parts.denoiser(start[1:], torch.full((1,), 0.5)),
        ]
    torch.testing.assert_close(dropped, torch.cat(rows), atol=1e-5, rtol=1e-4)


def test_a_class_conditional_transformer_with_a_learned_variance():
    torch.manual_seed(0)
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        norm_num_groups=4,
        sample_size=8,
        num_embeds_ada_norm=10,
    ).eval()
    own = diffusers.DDIMScheduler(clip_sample=False)
    parts = from_pipeline(
        type("Pipeline", (), {"transformer": net, "scheduler": own})(), nothing={"label": torch.tensor([10])}
    )
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.tensor([3, 7])
    ours = samplers.sample(
        parts.denoiser,
        parts.process,
        initial=start,
        times=times_of(own, 5),
        solver=samplers.DDIM(),
        condition={"label": labels},
    )
    own.set_timesteps(5)
    x = start
    with torch.no_grad():
        for timestep in own.timesteps:
            answer = net(x, timestep.expand(2), class_labels=labels).sample.chunk(2, 1)[0]
            x = own.step(answer, timestep, x).prev_sample
    assert float((ours - x).abs().max()) <= 1e-5 * float(x.abs().max())


def test_a_pretrained_network_keeps_the_contract():
    denoiser = denoiser_of(network(), diffusers.DDIMScheduler(clip_sample=False))
    check_denoiser(denoiser, denoiser.process, NOISE)


def test_times_between_levels_and_observed_elements():
    own = diffusers.DDPMScheduler()
    denoiser = denoiser_of(network(), own)
    t = torch.tensor([1.0, 0.5, 0.0005, 0.25001], dtype=torch.float64)
    assert denoiser.level(t).tolist() == pytest.approx([999.0, 499.0, 0.0, 249.01])
    assert denoiser.level((torch.arange(1, 1001) / 1000).float()).tolist() == list(range(1000))
    times = torch.full((4, 3, 8, 8), 0.4)
    times[:, :, :4] = 0.0
    with torch.no_grad():
        x0_hat = denoiser(NOISE, times)
    assert x0_hat[:, :, :4].equal(NOISE[:, :, :4])


def test_what_is_not_known_is_said():
    with pytest.raises(ValueError, match="scheduler: expected one with alphas_cumprod"):
        process_of(diffusers.ScoreSdeVeScheduler())
    with pytest.raises(ValueError, match="solver: expected one written as stages"):
        SolverScheduler(samplers.Mixed(), diffusers.DDPMScheduler())
    with pytest.raises(ValueError, match="expects a Discrete process"):
        SolverScheduler(samplers.Ancestral(), diffusers.DDPMScheduler())
    with pytest.raises(ValueError, match="pipeline: expected a unet or a transformer"):
        from_pipeline(object())
    scheduler = SolverScheduler(samplers.DDIM(), diffusers.DDPMScheduler())
    with pytest.raises(ValueError, match="expected set_timesteps before"):
        scheduler.step(NOISE, 0, NOISE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = network(channels=3)
    wrong.conv_out = torch.nn.Conv2d(8, 5, 3, padding=1)
    with pytest.raises(ValueError, match="network: expected an answer of shape"):
        denoiser_of(wrong, diffusers.DDPMScheduler())(NOISE, torch.full((4,), 0.5))
